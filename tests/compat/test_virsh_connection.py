"""virsh: what it asks of a connection, and what the read-only socket refuses."""

from collections.abc import Callable
from xml.etree import ElementTree as ET

import pytest
from daemon_process import Daemon
from virsh_guest import run_virsh

Virsh = Callable[..., str]


def test_uri_shows_what_was_opened(module_virsh: Virsh, module_daemon: Daemon) -> None:
    assert module_virsh("uri") == module_daemon.uri


def test_qemu_scheme_reaches_the_same_domains(module_daemon: Daemon) -> None:
    assert run_virsh(module_daemon.qemu_uri, "domid", "test") == "1"


def test_uri_without_a_name_lets_the_daemon_choose(module_daemon: Daemon) -> None:
    uri = f"remote+unix:///?socket={module_daemon.socket}"
    assert run_virsh(uri, "list", "--name") == "test"


def test_unknown_driver_is_refused(module_daemon: Daemon) -> None:
    uri = f"nosuch+unix:///system?socket={module_daemon.socket}"
    assert "failed to connect" in run_virsh(uri, "list", status=1)


def test_version_names_hypervisor_and_library(module_virsh: Virsh) -> None:
    lines = module_virsh("version").splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "Compiled against library",
        "Using library",
        "Using API",
        "Running hypervisor",
    ]


def test_version_of_the_daemon(module_virsh: Virsh) -> None:
    assert "Running against daemon: " in module_virsh("version", "--daemon")


def test_hostname(module_virsh: Virsh) -> None:
    assert module_virsh("hostname")


def test_nodeinfo_counts_what_it_says(module_virsh: Virsh) -> None:
    rows = dict(line.split(":", 1) for line in module_virsh("nodeinfo").splitlines())
    numbers = [rows[key] for key in ("CPU socket(s)", "Core(s) per socket", "Thread(s) per core")]
    cells, sockets, cores, threads = map(int, [rows["NUMA cell(s)"], *numbers])
    assert cells * sockets * cores * threads >= int(rows["CPU(s)"]) > 0


def test_maxvcpus(module_virsh: Virsh) -> None:
    assert int(module_virsh("maxvcpus")) > 0


def test_capabilities_name_the_host(module_virsh: Virsh) -> None:
    root = ET.fromstring(module_virsh("capabilities"))
    assert root.findtext("host/cpu/arch")


def test_capabilities_offer_a_guest(module_virsh: Virsh) -> None:
    root = ET.fromstring(module_virsh("capabilities"))
    assert root.find("guest/arch/domain") is not None


def test_domcapabilities_offer_backup(module_virsh: Virsh) -> None:
    root = ET.fromstring(module_virsh("domcapabilities"))
    backup = root.find("features/backup")
    assert backup is not None
    assert backup.get("supported") == "yes"


def test_connect_within_one_virsh(module_virsh: Virsh, module_daemon: Daemon) -> None:
    script = f"connect {module_daemon.qemu_uri}; uri"
    assert module_virsh(script) == module_daemon.qemu_uri


def test_connect_read_only_within_one_virsh(module_virsh: Virsh, module_daemon: Daemon) -> None:
    script = f"connect {module_daemon.uri} --readonly; suspend test"
    assert "operation forbidden" in module_virsh(script, status=1)


def test_many_commands_share_one_connection(module_virsh: Virsh) -> None:
    assert module_virsh("domid test; domname 1; domstate test").split() == ["1", "test", "running"]


EMPTY_LISTS = ["net-list", "net-list --all", "pool-list", "pool-list --all --details"]


@pytest.mark.parametrize("command", [*EMPTY_LISTS, "secret-list", "iface-list", "nwfilter-list"])
def test_what_is_not_managed_is_an_empty_table(module_virsh: Virsh, command: str) -> None:
    header, rule = module_virsh(*command.split()).splitlines()
    assert header.split()
    assert set(rule) == {"-"}


@pytest.mark.parametrize(
    "command", ["net-info default", "pool-info default", "net-dumpxml default"]
)
def test_what_is_not_managed_is_not_found(module_virsh: Virsh, command: str) -> None:
    assert "error: failed to get" in module_virsh(*command.split(), status=1)


REFUSED = [
    "checkpoint-create test",
    "checkpoint-create-as test c1",
    "backup-begin test",
    "domjobabort test",
    "suspend test",
    "resume test",
    "shutdown test",
    "reboot test",
    "reset test",
    "destroy test",
    "undefine test --checkpoints-metadata",
    "managedsave test",
    "autostart test",
    "desc test text",
    "domfsfreeze test",
    "domfsthaw test",
    "domrename test other",
    "qemu-monitor-command test query-status",
    "qemu-agent-command test guest-ping",
    "blockresize test vda 1G",
    "dumpxml test --security-info",
]


@pytest.mark.parametrize("command", REFUSED)
def test_read_only_socket_refuses(read_only_virsh: Virsh, command: str) -> None:
    assert "error: operation forbidden: " in read_only_virsh(*command.split(), status=1)


ALLOWED = [
    "list --all",
    "dominfo test",
    "domstate test",
    "domblklist test",
    "domstats test",
    "dumpxml test",
    "checkpoint-list test",
    "domjobinfo test",
    "domjobinfo test --completed",
    "capabilities",
    "secret-list",
]


@pytest.mark.parametrize("command", ALLOWED)
def test_read_only_socket_allows(read_only_virsh: Virsh, command: str) -> None:
    read_only_virsh(*command.split())


@pytest.mark.parametrize("command", ["suspend test", "backup-begin test"])
def test_read_only_flag_refuses_on_the_other_socket(module_daemon: Daemon, command: str) -> None:
    assert "operation forbidden" in run_virsh(module_daemon.uri, "-r", *command.split(), status=1)


UNKNOWN = ["nope", "77", "00000000-0000-0000-0000-000000000001"]


@pytest.mark.parametrize("name", UNKNOWN)
def test_unknown_domain_is_named(module_virsh: Virsh, name: str) -> None:
    assert f"failed to get domain '{name}'" in module_virsh("domstate", name, status=1)
