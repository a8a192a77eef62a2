"""What a configuration file may say, what is refused with file, line and key, and what wins."""

import re
from pathlib import Path

import pytest

from virtbackupd.server.config import ConfigError, Settings
from virtbackupd.server.keys import Key
from virtbackupd.server.settings_file import OPTION, Loaded, keys, line_of, load_settings


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "virtbackupd.conf"


def read(file: Path, text: str) -> Loaded:
    file.write_text(text)
    return load_settings(file)


def test_keys_of_libvirtd_are_read(file: Path) -> None:
    settings = read(file, "max_clients = 7\nkeepalive_interval = -1\nlisten_tcp = 1\n").settings
    assert (settings.max_clients, settings.keepalive_interval) == (7, -1)
    assert settings.listen_tcp


def test_without_a_file_defaults_hold() -> None:
    assert load_settings().settings == Settings()


def test_comments_are_ignored(file: Path) -> None:
    assert read(file, "# max_clients = 7\n").settings == Settings()


def test_lists_may_take_several_lines(file: Path) -> None:
    assert read(file, 'tls_allowed_dn_list = [\n  "CN=a",\n  "CN=*"\n]\n').settings == Settings(
        tls_allowed_dn_list=["CN=a", "CN=*"]
    )


def test_no_list_and_an_empty_list_differ(file: Path) -> None:
    settings = read(file, "sasl_allowed_username_list = []\n").settings
    assert settings.sasl_allowed_username_list == []
    assert settings.tls_allowed_dn_list is None


@pytest.mark.parametrize(
    "value", ["9" * 400, "9" * 5_000, "[" * 20_000], ids=["large", "longer", "nested"]
)
def test_values_without_end_are_refused(file: Path, value: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(str(file))):
        read(file, f"keepalive_interval = {value}\n")


def test_drivers_are_a_table(file: Path) -> None:
    assert read(file, '[drivers]\nqemu = "memory"\n').settings.drivers == {"qemu": "memory"}


def test_unknown_key_is_a_warning_with_its_line(file: Path) -> None:
    loaded = read(file, "max_clients = 7\n\nmax_cleints = 20\n")
    assert loaded.warnings == [f"{file}:3: unknown key 'max_cleints' is ignored"]


def test_key_without_effect_is_a_remark_with_the_reason(file: Path) -> None:
    loaded = read(file, "\nmax_workers = 20\n")
    assert not loaded.warnings
    assert loaded.remarks[0].startswith(f"{file}:2: max_workers has no effect: calls are not")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("max_clients = 0", ":1: max_clients: 0 is not allowed; give a whole number of at least 1"),
        ('\nmax_clients = "many"', ":2: max_clients: 'many' is not allowed; give a whole number"),
        ("tcp = [1]", ":1: tcp: [1] is not allowed; give a list of texts"),
        ("[drivers]\nqemu = 3", ":1: drivers: {'qemu': 3} is not allowed; give a table of"),
        ("keepalive_interval = -2", ":1: keepalive_interval: -2 is not allowed; give a whole"),
        ('log_level = "loud"', ":1: log_level: 'loud' is not allowed; give 1 to 4"),
        ("log_level = 5", ":1: log_level: 5 is not allowed; give 1 to 4"),
        ('log_filters = "1qemu"', ":1: log_filters: '1qemu' is not allowed; give LEVEL:MATCH"),
        ('log_outputs = "1:file:x"', ":1: log_outputs: '1:file:x' is not allowed; give LEVEL:"),
        ("listen_tls = 2", ":1: listen_tls: 2 is not allowed; give 0 or 1"),
        ('listen_tls = "1"', ":1: listen_tls: '1' is not allowed; give 0 or 1"),
        ("tcp_port = 16509", ":1: tcp_port: 16509 is not allowed; give the number of a port"),
        ('auth_tcp = "polkit"', ":1: auth_tcp: 'polkit' is not allowed; give \"none\" or"),
        ('unix_sock_rw_perms = "rwx"', ":1: unix_sock_rw_perms: 'rwx' is not allowed; give the"),
        (
            'host_uuid = "00000000-0000-0000-0000-000000000000"',
            ":1: host_uuid: '00000000-0000-0000-0000-000000000000' is not allowed; give a UUID",
        ),
    ],
)
def test_wrong_value_is_refused_with_its_place(file: Path, text: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read(file, text)
    assert str(refused.value).startswith(f"{file}{complaint}")


def test_long_value_is_cut_short(file: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        read(file, f'log_level = "{"x" * 10_000}"')
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    "text",
    [
        'log_filters = "1:qemu 3:event  4:*json"',
        'log_outputs = "1:file:/var/log/x.log 2:syslog:me 3:stderr 4:journald"',
        "log_outputs = ''",
        'host_uuid = "12345678-1234-1234-1234-123456789abc"',
        'unix_sock_ro_perms = "777"',
        'tls_port = "libvirt-tls"',
        "listen_tcp = true",
        'log_level = "debug"',
    ],
)
def test_right_value_is_taken(file: Path, text: str) -> None:
    assert read(file, text).warnings == []


def test_what_is_no_toml_is_refused_with_its_line(file: Path) -> None:
    with pytest.raises(ConfigError, match="line 1"):
        read(file, "max_clients 7\n")


def test_missing_file_is_refused(file: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*No such file"):
        load_settings(file)


def test_file_that_is_no_text_is_refused(file: Path) -> None:
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_settings(file)


def test_option_wins_over_the_file(file: Path) -> None:
    file.write_text("world = 'a.toml'\nmax_clients = 7\n")
    loaded = load_settings(file, {"world": "b.toml"})
    assert (loaded.settings.world, loaded.settings.max_clients) == ("b.toml", 7)


def test_source_of_each_setting_is_known(file: Path) -> None:
    file.write_text("\nworld = 'a.toml'\nmax_clients = 7\n")
    sources = load_settings(file, {"world": "b.toml"}).sources
    assert sources == {"world": OPTION, "max_clients": f"{file}:3"}


def test_table_of_a_driver_in_use_goes_to_the_driver(file: Path) -> None:
    loaded = read(file, 'drivers = { qemu = "qemu" }\n[qemu]\nuser = "somebody"\n')
    assert (loaded.tables, loaded.warnings) == ({"qemu": {"user": "somebody"}}, [])


def test_table_of_no_driver_in_use_is_a_warning(file: Path) -> None:
    loaded = read(file, '[qemu]\nuser = "somebody"\n')
    assert loaded.warnings == [f"{file}:1: unknown key 'qemu' is ignored"]


@pytest.mark.parametrize(
    ("text", "key", "line"),
    [
        ("a = 1\nb = 2", "b", 2),
        ("\n[drivers]\nx = 1", "drivers", 2),
        ("", "a", 1),
        ("# a = 1", "a", 1),
        ("[t]\na = 1\n[a]\n", "a", 3),
    ],
)
def test_line_of_a_key(text: str, key: str, line: int) -> None:
    assert line_of(text, key) == line


@pytest.mark.parametrize("key", keys(), ids=lambda key: key.name)
def test_each_key_is_explained(key: Key) -> None:
    assert key.allowed
    assert key.about.text.endswith(".")


LIBVIRTD = """
listen_tls listen_tcp tls_port tcp_port listen_addr unix_sock_group unix_sock_ro_perms
unix_sock_rw_perms unix_sock_admin_perms unix_sock_dir auth_unix_ro auth_unix_rw auth_tcp auth_tls
tcp_min_ssf access_drivers key_file cert_file ca_file crl_file tls_no_sanity_certificate
tls_no_verify_certificate tls_allowed_dn_list tls_priority sasl_allowed_username_list max_clients
max_queued_clients max_anonymous_clients min_workers max_workers prio_workers max_client_requests
admin_min_workers admin_max_workers admin_max_clients admin_max_queued_clients
admin_max_client_requests log_level log_filters log_outputs log_buffer_size audit_level
audit_logging host_uuid host_uuid_source keepalive_interval keepalive_count keepalive_required
admin_keepalive_required admin_keepalive_interval admin_keepalive_count ovs_timeout mdns_adv
mdns_name
"""


def test_every_key_of_libvirtd_is_known() -> None:
    theirs = {key.name for key in keys() if not key.about.ours}
    assert theirs == set(re.findall(r"\w+", LIBVIRTD))


def test_values_of_a_stock_libvirtd_conf_are_taken(file: Path) -> None:
    loaded = read(
        file,
        """
listen_tls = 0
listen_tcp = 1
tls_port = "16514"
unix_sock_ro_perms = "0777"
auth_unix_rw = "polkit"
access_drivers = [ "polkit" ]
tls_allowed_dn_list = ["DN1", "DN2"]
tls_priority="NORMAL"
sasl_allowed_username_list = ["joe@EXAMPLE.COM", "fred@EXAMPLE.COM" ]
admin_max_clients = 5
log_level = 3
log_filters="1:qemu 1:libvirt 4:object 4:json 4:event 1:util"
log_outputs="3:syslog:libvirtd"
audit_level = 2
audit_logging = 1
host_uuid_source = "smbios"
keepalive_required = 1
ovs_timeout = 5
""",
    )
    assert loaded.warnings == []
