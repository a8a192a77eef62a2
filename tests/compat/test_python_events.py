"""Event callbacks through libvirt-python: every id, order and fields, filters, deregistration."""

from collections.abc import Iterator
from pathlib import Path

import libvirt
import pytest
from binding import Recorder, connected, guest, wait_until
from daemon_process import Daemon
from documents import checkpoint_xml, domain_xml, pull_xml, push_disk, push_xml, unix_server

DRIVERS = ("memory", "qemu")

LIFECYCLE = libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE
BLOCK_JOB = libvirt.VIR_DOMAIN_EVENT_ID_BLOCK_JOB
BLOCK_JOB_2 = libvirt.VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2
JOB_COMPLETED = libvirt.VIR_DOMAIN_EVENT_ID_JOB_COMPLETED
BACKUP = libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_BACKUP
CANCELED = libvirt.VIR_DOMAIN_BLOCK_JOB_CANCELED
COMPLETED = libvirt.VIR_DOMAIN_BLOCK_JOB_COMPLETED
LAST_ID = libvirt.VIR_DOMAIN_EVENT_ID_MEMORY_DEVICE_SIZE_CHANGE


class Listener(Recorder):
    """A recorder on the module's connection; its callbacks are withdrawn after the test."""

    def __init__(self, connection: libvirt.virConnect) -> None:
        super().__init__()
        self.connection = connection
        self.callbacks: list[int] = []

    def listen(self, event: int, label: str, domain: libvirt.virDomain | None = None) -> int:
        callback = self.connection.domainEventRegisterAny(domain, event, self, label)
        self.callbacks.append(callback)
        return callback

    def listen_to_jobs(self, domain: libvirt.virDomain) -> None:
        """Record the three events that a backup's end causes, for one domain."""
        for event, label in ((JOB_COMPLETED, "job"), (BLOCK_JOB, "path"), (BLOCK_JOB_2, "target")):
            self.listen(event, label, domain)

    def stop(self, callback: int) -> None:
        self.callbacks.remove(callback)
        self.connection.domainEventDeregisterAny(callback)


@pytest.fixture
def listener(module_connection: libvirt.virConnect) -> Iterator[Listener]:
    listener = Listener(module_connection)
    yield listener
    for callback in tuple(listener.callbacks):
        listener.stop(callback)


@pytest.mark.parametrize("event", range(LAST_ID + 1))
@pytest.mark.only("memory")
def test_every_event_can_be_registered(module_connection: libvirt.virConnect, event: int) -> None:
    callback = module_connection.domainEventRegisterAny(None, event, Recorder(), "x")
    assert callback >= 0
    module_connection.domainEventDeregisterAny(callback)


def test_a_machines_life(
    listener: Listener, module_connection: libvirt.virConnect, short_dir: Path
) -> None:
    listener.listen(LIFECYCLE, "life")
    machine = module_connection.defineXML(domain_xml(short_dir.name, ""))
    for step in (machine.create, machine.suspend, machine.resume, machine.destroy):
        step()
    machine.undefine()
    events = [entry[2:4] for entry in listener.wait(8)]
    assert events == [
        (libvirt.VIR_DOMAIN_EVENT_DEFINED, libvirt.VIR_DOMAIN_EVENT_DEFINED_ADDED),
        (libvirt.VIR_DOMAIN_EVENT_RESUMED, libvirt.VIR_DOMAIN_EVENT_RESUMED_UNPAUSED),
        (libvirt.VIR_DOMAIN_EVENT_STARTED, libvirt.VIR_DOMAIN_EVENT_STARTED_BOOTED),
        (libvirt.VIR_DOMAIN_EVENT_SUSPENDED, libvirt.VIR_DOMAIN_EVENT_SUSPENDED_PAUSED),
        (libvirt.VIR_DOMAIN_EVENT_RESUMED, libvirt.VIR_DOMAIN_EVENT_RESUMED_UNPAUSED),
        (libvirt.VIR_DOMAIN_EVENT_SHUTDOWN, libvirt.VIR_DOMAIN_EVENT_SHUTDOWN_HOST),
        (libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_DESTROYED),
        (libvirt.VIR_DOMAIN_EVENT_UNDEFINED, libvirt.VIR_DOMAIN_EVENT_UNDEFINED_REMOVED),
    ]


def test_old_style_registration(listener: Listener, machine: libvirt.virDomain) -> None:
    def callback(_connection: object, domain: libvirt.virDomain, *values: object) -> None:
        listener.record(domain.name(), values[0])

    listener.connection.domainEventRegister(callback, None)
    machine.suspend()
    seen = listener.wait(1)
    listener.connection.domainEventDeregister(callback)
    assert seen == [(machine.name(), libvirt.VIR_DOMAIN_EVENT_SUSPENDED)]


def test_the_end_of_a_pull(listener: Listener, machine: libvirt.virDomain, short_dir: Path) -> None:
    listener.listen_to_jobs(machine)
    machine.backupBegin(pull_xml(unix_server(short_dir / "nbd"), short_dir), None)
    machine.abortJob()
    name = machine.name()
    job, path, target = listener.wait(3)
    assert job[:2] == ("job", name)
    assert path == ("path", name, str(short_dir / "a.qcow2"), BACKUP, CANCELED)
    assert target == ("target", name, "vda", BACKUP, CANCELED)


def test_the_fields_of_a_finished_pull(
    listener: Listener, machine: libvirt.virDomain, short_dir: Path
) -> None:
    listener.listen(JOB_COMPLETED, "job", machine)
    machine.backupBegin(pull_xml(unix_server(short_dir / "nbd"), short_dir), None)
    machine.abortJob()
    fields = listener.wait(1)[0][2]
    assert isinstance(fields, dict)
    assert fields["operation"] == libvirt.VIR_DOMAIN_JOB_OPERATION_BACKUP
    assert fields["success"] == 1
    assert fields["errmsg"] == "Operation canceled"
    assert fields["disk_temp_total"] == 1 << 30
    assert {"type", "disk_total", "data_total"}.isdisjoint(fields)


def test_with_two_disks_the_job_ends_before_the_last_block_job(
    listener: Listener, machine: libvirt.virDomain, short_dir: Path
) -> None:
    listener.listen_to_jobs(machine)
    begin = pull_xml(unix_server(short_dir / "nbd"), short_dir, ["vda", "vdb"])
    machine.backupBegin(begin, None)
    machine.abortJob()
    assert listener.labels(5) == ["path", "target", "job", "path", "target"]


def test_the_end_of_a_push(listener: Listener, machine: libvirt.virDomain, short_dir: Path) -> None:
    guest(machine, "vda", "write -P 7 0 128k")
    listener.listen_to_jobs(machine)
    machine.backupBegin(push_xml(push_disk("vda", short_dir / "full")), None)
    job, path, target = listener.wait(3)
    assert isinstance(job[2], dict)
    assert job[2]["success"] == 1
    assert job[2]["disk_total"] == job[2]["disk_processed"]
    assert "errmsg" not in job[2]
    assert (path[-1], target[-1]) == (COMPLETED, COMPLETED)


def test_destroying_the_machine_ends_the_job_first(
    listener: Listener, machine: libvirt.virDomain, short_dir: Path
) -> None:
    listener.listen_to_jobs(machine)
    listener.listen(LIFECYCLE, "life", machine)
    machine.backupBegin(pull_xml(unix_server(short_dir / "nbd"), short_dir), None)
    machine.destroy()
    stopped = (libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_DESTROYED)
    wait_until(lambda: listener.seen[-1:] == [("life", machine.name(), *stopped)], "STOPPED")
    (fields,) = [entry[2] for entry in listener.seen if entry[0] == "job"]
    assert isinstance(fields, dict)
    assert fields["success"] == 0
    assert "errmsg" not in fields


def test_checkpoints_cause_no_event(listener: Listener, machine: libvirt.virDomain) -> None:
    for event in (LIFECYCLE, libvirt.VIR_DOMAIN_EVENT_ID_METADATA_CHANGE):
        listener.listen(event, "any", machine)
    xml = checkpoint_xml("c", disks="<disk name='vda'/>")
    machine.checkpointCreateXML(xml).delete()
    machine.suspend()
    assert [entry[2] for entry in listener.wait(1)] == [libvirt.VIR_DOMAIN_EVENT_SUSPENDED]


def test_two_callbacks_for_one_event(listener: Listener, machine: libvirt.virDomain) -> None:
    listener.listen(LIFECYCLE, "all")
    listener.listen(LIFECYCLE, "one", machine)
    machine.suspend()
    assert set(listener.labels(2)) == {"all", "one"}


def test_a_filter_lets_only_its_domain_through(
    listener: Listener, machine: libvirt.virDomain
) -> None:
    test = listener.connection.lookupByName("test")
    listener.listen(LIFECYCLE, "filtered", machine)
    test.suspend()
    test.resume()
    machine.suspend()
    assert listener.wait(1)[0][1] == machine.name()


def test_after_deregistration_nothing_comes(listener: Listener, machine: libvirt.virDomain) -> None:
    gone = listener.listen(LIFECYCLE, "gone")
    listener.listen(LIFECYCLE, "stays", machine)
    listener.stop(gone)
    for step in (machine.suspend, machine.resume):
        step()
    assert listener.labels(2) == ["stays", "stays"]


def test_every_connection_gets_its_copy(module_daemon: Daemon, machine: libvirt.virDomain) -> None:
    first, second = Recorder(), Recorder()
    with connected(module_daemon.uri) as one, connected(module_daemon.uri) as two:
        one.domainEventRegisterAny(None, LIFECYCLE, first, "one")
        two.domainEventRegisterAny(None, LIFECYCLE, second, "two")
        machine.suspend()
        assert first.wait(1)[0][1:] == second.wait(1)[0][1:]


def test_a_block_threshold_fires_once(listener: Listener, machine: libvirt.virDomain) -> None:
    event = libvirt.VIR_DOMAIN_EVENT_ID_BLOCK_THRESHOLD
    listener.listen(event, "threshold", machine)
    machine.setBlockThreshold("vda", 1 << 20)
    guest(machine, "vda", "write -P 1 0 2M")
    fired = listener.wait(1)[0]
    assert fired[2] == "vda"
    assert fired[4] == 1 << 20


def test_metadata_and_reboot(listener: Listener, machine: libvirt.virDomain) -> None:
    for event, label in (
        (libvirt.VIR_DOMAIN_EVENT_ID_METADATA_CHANGE, "metadata"),
        (libvirt.VIR_DOMAIN_EVENT_ID_REBOOT, "reboot"),
    ):
        listener.listen(event, label, machine)
    machine.setMetadata(libvirt.VIR_DOMAIN_METADATA_TITLE, "a title", None, None, 0)
    machine.reboot()
    assert listener.labels(2) == ["metadata", "reboot"]
