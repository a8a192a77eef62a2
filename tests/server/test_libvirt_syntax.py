"""Files that libvirtd 9.0 reads and TOML does not: with the values that libvirtd gives to them."""

from pathlib import Path

import pytest

from virtbackupd.server.config import ConfigError
from virtbackupd.server.libvirt_syntax import Setting, SyntaxFault, read_settings
from virtbackupd.server.settings_file import Loaded, load_settings


def values(text: str) -> dict[str, object]:
    return {setting.key: setting.value for setting in read_settings(text)}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a = 10 # ten", 10),
        ("a=0010", 10),
        ("a = -1", -1),
        ("a = +1", 1),
        ('a = "b" # c', "b"),
        ('a="b"# c', "b"),
        ("a='it is \"b\"'", 'it is "b"'),
        ('a = "it\'s"', "it's"),
        ('a = "# no comment; nor an end"', "# no comment; nor an end"),
        (r'a = "O=Example\, Inc"', r"O=Example\, Inc"),
        (r'a = "b\\"', r"b\\"),
        ('a = """b\n"c"\n"""', 'b\n"c"\n'),
        ("a = []", []),
        ('a = ["b","c",]', ["b", "c"]),
        ("a = [\n\n'b',\r\n\"c\"\n]\n", ["b", "c"]),
        ("\ta\t=\t1", 1),
    ],
)
def test_value_is_as_libvirt_reads_it(text: str, value: object) -> None:
    assert values(text) == {"a": value}


def test_settings_may_share_a_line_with_semicolons_between() -> None:
    assert values("a=1;b=2 ; c=3;\n;d=4") == {"a": 1, "b": 2, "c": 3, "d": 4}


def test_lines_are_known() -> None:
    text = '# one\na = """\n"""; b = [\n]\nc = 1\r\nd = 2'
    assert [(key, line) for key, _, line in read_settings(text)] == [
        ("a", 2), ("b", 3), ("c", 5), ("d", 6),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "a", "a =", "a = \n1", "a\n= 1", "a 1", "= 1", "a = b", "a = 1 b = 2", 'a = "b" "c"',
        "a = 0x10", "a = 1.5", "a = 1_000", "a = '''b'''", 'a = "b', "a = 'b\n'", 'a = """b"',
        'a = "b\\"c"', "a = [", "a = [1", "a = [1,", "a = [,]", "a = [1,,2]", "a = [1 2]",
        "a = [1;2]", "a = [[1]]", "a = ]", "[a]", "a.b = 1", "a-b = 1",
        "_a = 1", "9 = 1", '"a" = 1', "a = [] b = 1", "a = " + 21 * "1", "é = 1", "\x00",
    ],
)  # fmt: skip
def test_what_libvirt_would_not_read_is_refused(text: str) -> None:
    with pytest.raises(SyntaxFault):
        read_settings(text)


def test_nothing_is_no_setting() -> None:
    assert read_settings("\n # nothing\n;") == []


def test_setting_says_where_it_is() -> None:
    assert read_settings("\na = 1") == [Setting("a", 1, 2)]


# In the daemon


def load(folder: Path, text: str) -> Loaded:
    path = folder / "libvirtd.conf"
    path.write_text(text)
    return load_settings(path)


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as refused:
        load(folder, text)
    return str(refused.value)


def test_names_of_certificates_need_no_second_backslash(tmp_path: Path) -> None:
    loaded = load(tmp_path, 'tls_allowed_dn_list = ["O=Example\\, Inc,CN=*"]')
    assert loaded.settings.tls_allowed_dn_list == ["O=Example\\, Inc,CN=*"]


def test_toml_comes_first(tmp_path: Path) -> None:
    loaded = load(tmp_path, 'tls_allowed_dn_list = ["O=Example\\\\, Inc,CN=*"]')
    assert loaded.settings.tls_allowed_dn_list == ["O=Example\\, Inc,CN=*"]


def test_wrong_value_has_its_line(tmp_path: Path) -> None:
    text = "\nmax_workers = 010;max_clients = 0"
    place = f"{tmp_path}/libvirtd.conf:2: max_clients: 0 is not allowed"
    assert refusal(tmp_path, text).startswith(place)


def test_source_and_unknown_key_have_their_line(tmp_path: Path) -> None:
    loaded = load(tmp_path, "\nmax_clients = 010; max_cleints = 5")
    assert loaded.sources == {"max_clients": f"{tmp_path}/libvirtd.conf:2"}
    assert loaded.warnings == [f"{tmp_path}/libvirtd.conf:2: unknown key 'max_cleints' is ignored"]


def test_key_that_is_set_twice_is_refused(tmp_path: Path) -> None:
    told = refusal(tmp_path, "max_clients = 10\n\nmax_clients = 20")
    assert "libvirtd.conf:3: max_clients is set on line 1 already" in told


def test_what_neither_reads_is_refused_in_words_about_toml(tmp_path: Path) -> None:
    assert "at line 1, column" in refusal(tmp_path, "max_clients = 10 max_workers = 5")
