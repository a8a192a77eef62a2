"""virsh list: every filter and column, over one domain in each situation."""

from collections.abc import Callable
from pathlib import Path

import pytest
from daemon_process import Daemon
from documents import disk_element, domain_xml
from virsh_guest import run_virsh

Virsh = Callable[..., str]


def _document(folder: Path, name: str) -> str:
    path = folder / f"{name}.xml"
    path.write_text(domain_xml(name, disk_element("vda", folder / f"{name}.qcow2")))
    return str(path)


@pytest.fixture(scope="module")
def listed(module_daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Virsh:
    """Beside `test` (running): one domain for each situation, named after it."""
    folder = tmp_path_factory.mktemp("list")

    def call(*arguments: str, status: int = 0) -> str:
        return run_virsh(module_daemon.uri, *arguments, status=status)

    for name in ("paused", "off", "auto", "saved", "marked"):
        call("define", _document(folder, name))
    call("start", "paused", "--paused")
    call("autostart", "auto")
    call("start saved; managedsave saved")
    call("start marked; checkpoint-create-as marked c1")
    call("create", _document(folder, "transient"))
    call("desc", "off", "--config", "--title", "A title")
    return call


RUNNING = "marked test transient"
ACTIVE = "marked paused test transient"
INACTIVE = "auto off saved"
ALL = "auto marked off paused saved test transient"

FILTERS = [
    ("", ACTIVE),
    ("--inactive", INACTIVE),
    ("--all", ALL),
    ("--all --persistent", "auto marked off paused saved test"),
    ("--transient", "transient"),
    ("--all --autostart", "auto"),
    ("--no-autostart", ACTIVE),
    ("--all --state-running", RUNNING),
    ("--state-paused", "paused"),
    ("--all --state-shutoff", INACTIVE),
    ("--all --state-running --state-paused", ACTIVE),
    ("--all --state-other", ""),
    ("--all --with-managed-save", "saved"),
    ("--all --without-managed-save", "auto marked off paused test transient"),
    ("--all --with-checkpoint", "marked"),
    ("--with-checkpoint", "marked"),
    ("--inactive --with-checkpoint", ""),
    ("--all --without-checkpoint", "auto off paused saved test transient"),
    ("--all --with-checkpoint --without-checkpoint", ALL),
    ("--all --with-snapshot", ""),
    ("--all --without-snapshot", ALL),
]


@pytest.mark.parametrize(("options", "expected"), FILTERS)
def test_filter(listed: Virsh, options: str, expected: str) -> None:
    assert sorted(listed("list", "--name", *options.split()).split()) == expected.split()


def _rows(table: str) -> dict[str, list[str]]:
    cells = [line.split() for line in table.splitlines()[2:]]
    return {row[1]: [row[0], *row[2:]] for row in cells}


def test_table_shows_id_and_state(listed: Virsh) -> None:
    rows = _rows(listed("list", "--all"))
    assert rows["test"] == ["1", "running"]
    assert rows["paused"][1] == "paused"
    assert rows["off"] == ["-", "shut", "off"]


def test_title_column(listed: Virsh) -> None:
    assert _rows(listed("list", "--all", "--title"))["off"] == ["-", "shut", "off", "A", "title"]


def test_managed_save_shows_as_state(listed: Virsh) -> None:
    assert _rows(listed("list", "--all", "--managed-save"))["saved"] == ["-", "saved"]


def test_ids(listed: Virsh) -> None:
    ids = listed("list", "--id").split()
    assert ids[0] == "1"
    assert len(set(ids)) == len(ACTIVE.split())


def test_uuid_with_name(listed: Virsh) -> None:
    uuid = listed("domuuid", "off")
    assert f"{uuid} off" in listed("list", "--all", "--uuid", "--name")


def test_uuids(listed: Virsh) -> None:
    assert listed("domuuid", "test") in listed("list", "--uuid").split()


def test_stats_follow_the_filters(listed: Virsh) -> None:
    text = listed("domstats", "--state", "--list-inactive")
    names = [line.split("'")[1] for line in text.splitlines() if line.startswith("Domain")]
    assert sorted(names) == INACTIVE.split()


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("--list-active", ACTIVE),
        ("--list-running", RUNNING),
        ("--list-paused", "paused"),
        ("--list-shutoff", INACTIVE),
        ("--list-transient", "transient"),
        ("--list-persistent", "auto marked off paused saved test"),
        ("--list-other", ""),
    ],
)
def test_stats_filter(listed: Virsh, option: str, expected: str) -> None:
    text = listed("domstats", "--state", option)
    names = [line.split("'")[1] for line in text.splitlines() if line.startswith("Domain")]
    assert sorted(names) == expected.split()
