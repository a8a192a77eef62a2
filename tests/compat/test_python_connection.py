"""Opening, asking and leaving through libvirt-python, with and without its event loop."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import libvirt
import pytest
from binding import PATIENCE, Recorder, connected, error_code, wait_until
from daemon_process import Daemon, running_daemon
from documents import checkpoint_xml, domain_xml
from libvirt_qemu import qemuAgentCommand

LISTED = libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE


def test_what_a_connection_tells(
    module_daemon: Daemon, module_connection: libvirt.virConnect
) -> None:
    assert module_connection.isAlive() == 1
    assert module_connection.isSecure() == 1
    assert module_connection.isEncrypted() == 0
    assert module_connection.getHostname() == socket.gethostname()
    assert module_connection.getURI() == module_daemon.qemu_uri
    assert module_connection.getVersion() > 0
    assert module_connection.getLibVersion() >= 9_000_000
    assert "<capabilities>" in module_connection.getCapabilities()


def test_clients_take_it_for_qemu(module_connection: libvirt.virConnect) -> None:
    assert module_connection.getType() == "QEMU"


def test_an_unknown_driver_is_refused(module_daemon: Daemon) -> None:
    uri = f"xen+unix:///system?socket={module_daemon.socket}"
    assert error_code(lambda: libvirt.open(uri)) == 5


def test_both_sockets_show_one_world(module_daemon: Daemon) -> None:
    with connected(module_daemon.uri) as writer, connected(module_daemon.read_only_uri) as reader:
        uuids = [side.lookupByName("test").UUIDString() for side in (writer, reader)]
    assert uuids[0] == uuids[1]


def test_the_world_outlives_its_last_client(daemon: Daemon) -> None:
    with connected(daemon.uri) as first:
        machine = first.lookupByName("test")
        machine.checkpointCreateXML(checkpoint_xml("kept", disks="<disk name='vda'/>"))
        machine.suspend()
    with connected(daemon.uri) as second:
        machine = second.lookupByName("test")
        assert [found.getName() for found in machine.listAllCheckpoints()] == ["kept"]
        assert machine.state()[0] == libvirt.VIR_DOMAIN_PAUSED


def test_an_autodestroy_domain_leaves_with_its_client(daemon: Daemon) -> None:
    with connected(daemon.uri) as watcher:
        with connected(daemon.uri) as owner:
            xml = domain_xml("brief", "")
            owner.createXML(xml, libvirt.VIR_DOMAIN_START_AUTODESTROY)
            assert watcher.lookupByName("brief").isActive()
        wait_until(lambda: len(watcher.listAllDomains()) == 1, "the domain goes with its owner")


@pytest.fixture
def mixed(
    module_connection: libvirt.virConnect, machine: libvirt.virDomain
) -> Iterator[libvirt.virConnect]:
    """A world of `test` (running), `machine` (running) and `idle` (inactive)."""
    idle = module_connection.defineXML(domain_xml("idle", ""))
    yield module_connection
    idle.undefine()


@pytest.mark.parametrize(
    ("flags", "idle", "running"),
    [
        (0, True, True),
        (libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE, False, True),
        (libvirt.VIR_CONNECT_LIST_DOMAINS_INACTIVE, True, False),
        (libvirt.VIR_CONNECT_LIST_DOMAINS_PERSISTENT, True, True),
        (libvirt.VIR_CONNECT_LIST_DOMAINS_TRANSIENT, False, False),
        (libvirt.VIR_CONNECT_LIST_DOMAINS_RUNNING, False, True),
        (libvirt.VIR_CONNECT_LIST_DOMAINS_PAUSED, False, False),
        (libvirt.VIR_CONNECT_LIST_DOMAINS_SHUTOFF, True, False),
        (libvirt.VIR_CONNECT_LIST_DOMAINS_MANAGEDSAVE, False, False),
        (libvirt.VIR_CONNECT_LIST_DOMAINS_NO_AUTOSTART, True, True),
        (libvirt.VIR_CONNECT_LIST_DOMAINS_AUTOSTART, False, False),
        (libvirt.VIR_CONNECT_LIST_DOMAINS_NO_SNAPSHOT, True, True),
        (libvirt.VIR_CONNECT_LIST_DOMAINS_HAS_CHECKPOINT, False, False),
    ],
)
def test_domain_filters(
    mixed: libvirt.virConnect, machine: libvirt.virDomain, flags: int, idle: bool, running: bool
) -> None:
    names = [found.name() for found in mixed.listAllDomains(flags)]
    assert ("idle" in names, machine.name() in names) == (idle, running)


def test_statistics_of_all_domains(
    module_connection: libvirt.virConnect, machine: libvirt.virDomain
) -> None:
    found = {domain.name(): values for domain, values in module_connection.getAllDomainStats()}
    values = found[machine.name()]
    assert values["state.state"] == libvirt.VIR_DOMAIN_RUNNING
    assert values["vcpu.current"] == 1
    assert values["balloon.maximum"] == 64 * 1024
    assert values["block.0.name"] == "vda"


def test_statistics_of_chosen_groups_and_domains(
    module_connection: libvirt.virConnect, machine: libvirt.virDomain
) -> None:
    groups = libvirt.VIR_DOMAIN_STATS_STATE
    ((domain, values),) = module_connection.domainListGetStats([machine], groups)
    assert domain.UUIDString() == machine.UUIDString()
    assert {name.split(".")[0] for name in values} == {"state"}


def test_typed_strings_reach_the_caller(module_connection: libvirt.virConnect) -> None:
    told = module_connection.lookupByName("test").guestInfo(libvirt.VIR_DOMAIN_GUEST_INFO_HOSTNAME)
    assert isinstance(told["hostname"], str)


def test_the_guest_agent_answers(module_connection: libvirt.virConnect) -> None:
    test = module_connection.lookupByName("test")
    assert json.loads(qemuAgentCommand(test, '{"execute":"guest-ping"}', 5, 0)) == {"return": {}}
    assert test.fsFreeze() == test.fsThaw()


def test_without_an_agent_freezing_is_refused(machine: libvirt.virDomain) -> None:
    assert error_code(machine.fsFreeze) == 74


def test_keepalive_from_both_ends(module_daemon: Daemon) -> None:
    with connected(module_daemon.uri) as connection:
        assert connection.setKeepAlive(1, 3) == 0
        wait_until(lambda: connection.isAlive() == 1, "the connection stays")
        assert connection.listAllDomains(LISTED)


def test_keepalive_can_be_switched_off(module_daemon: Daemon) -> None:
    with connected(module_daemon.uri) as connection:
        assert connection.setKeepAlive(0, 0) == 0
        assert connection.isAlive() == 1


def test_close_callback_tells_that_the_daemon_is_gone(short_dir: Path) -> None:
    recorder = Recorder()
    with running_daemon(short_dir) as running, connected(running.uri) as connection:

        def closed(_connection: object, reason: int, label: str) -> None:
            recorder.record(label, reason)

        connection.registerCloseCallback(closed, "closed")
        assert running.stop() == 0
        (_, reason), *_ = recorder.wait(1)
        assert reason in {libvirt.VIR_CONNECT_CLOSE_REASON_EOF, 0}
        assert connection.isAlive() == 0


def test_close_callback_can_be_withdrawn(module_daemon: Daemon) -> None:
    with connected(module_daemon.uri) as connection:
        connection.registerCloseCallback(lambda *_: None, None)
        connection.unregisterCloseCallback()
        assert connection.isAlive() == 1


def test_a_program_without_event_loop(module_daemon: Daemon) -> None:
    script = (
        "import libvirt, sys\n"
        "connection = libvirt.open(sys.argv[1])\n"
        "print([domain.name() for domain in connection.listAllDomains()])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, module_daemon.uri],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert "test" in done.stdout


def test_mountpoints_are_frozen_by_name_but_thawed_together(
    module_connection: libvirt.virConnect,
) -> None:
    test = module_connection.lookupByName("test")
    assert test.fsFreeze(["/"]) == 1
    assert error_code(lambda: test.fsThaw(["/"])) == 74
    assert test.fsThaw() == 1
