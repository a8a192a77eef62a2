"""Every named scenario of faults, as libvirt-python and an NBD client see it."""

import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import libvirt
import pytest
from binding import Recorder, connected, error_code, wait_until
from documents import checkpoint_xml, pull_xml, push_disk, push_xml, unix_server
from nbd_client import ALLOCATION, nbd_client
from small_backup import back_up

from virtbackupd.drivers.faults.scenarios import all_scenarios
from virtbackupd.testing import Server, serve

PIECE = 65536
SIZE = 16 * PIECE
BEGIN_PHASE = "fault at begin"
JOB_COMPLETED = libvirt.VIR_DOMAIN_EVENT_ID_JOB_COMPLETED
BLOCK_JOB_2 = libvirt.VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2
CRASHED = [libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_CRASHED]


@dataclass
class Lab:
    """A server with its default domain, whose disk vda holds a pattern."""

    server: Server
    connection: libvirt.virConnect
    domain: libvirt.virDomain
    folder: Path

    def pull(self, checkpoint: str = "", since: str = "") -> None:
        """Begin a pull of vda."""
        server = unix_server(self.folder / "nbd")
        document = pull_xml(server, self.folder, incremental=since)
        self.domain.backupBegin(document, checkpoint_xml(checkpoint) if checkpoint else None)

    def back_up(self, checkpoint: str, since: str | None = None) -> None:
        back_up(self.domain, self.folder, ["vda"], checkpoint, since)
        wait_until(lambda: self.idle, "the backup ends")

    def read(self) -> bytes:
        with nbd_client(self.folder / "nbd", "vda", ALLOCATION) as client:
            return client.read(0, SIZE)

    def read_twice(self) -> None:
        with nbd_client(self.folder / "nbd", "vda", ALLOCATION) as client:
            client.read(0, PIECE)
            client.read(PIECE, PIECE)

    @property
    def idle(self) -> bool:
        return bool(self.domain.jobStats()["type"] == libvirt.VIR_DOMAIN_JOB_NONE)

    @property
    def checkpoints(self) -> list[str]:
        return [found.getName() for found in self.domain.listAllCheckpoints()]

    def refused(self, call: Callable[[], object]) -> int | None:
        return error_code(call)

    @contextmanager
    def other_client(self) -> Iterator["Lab"]:
        """For calls that wait long: libvirt's library may leave a second call on the same
        connection unsent until the first is answered.
        """
        with connected(self.server.qemu_uri) as connection:
            yield Lab(self.server, connection, connection.lookupByName("test"), self.folder)


@pytest.fixture
def lab() -> Iterator[Lab]:
    folder = Path(tempfile.mkdtemp(prefix="vb-"))
    with serve(clock="stopped") as server, connected(server.qemu_uri) as connection:
        server.domain().write_pattern("vda", 0, SIZE, seed=1)
        yield Lab(server, connection, connection.lookupByName("test"), folder)
        assert server.faults.unmatched() == []
    shutil.rmtree(folder)


def test_every_scenario_has_a_test_here() -> None:
    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert {found.name.replace("-", "_") for found in all_scenarios()} <= tested


def test_every_scenario_says_what_it_is_about() -> None:
    assert all(found.about.endswith(".") and found.rules for found in all_scenarios())


def test_connection_lost_before_begin(lab: Lab) -> None:
    lab.server.scenario("connection-lost-before-begin")
    with pytest.raises(libvirt.libvirtError, match="End of file"):
        lab.pull("one")
    with connected(lab.server.qemu_uri) as again:
        domain = again.lookupByName("test")
        assert domain.listAllCheckpoints() == []
        assert domain.jobStats()["type"] == libvirt.VIR_DOMAIN_JOB_NONE


def test_connection_lost_after_begin(lab: Lab) -> None:
    lab.server.scenario("connection-lost-after-begin")
    with pytest.raises(libvirt.libvirtError, match="End of file"):
        lab.pull("one")
    with connected(lab.server.qemu_uri) as again:
        domain = again.lookupByName("test")
        assert [found.getName() for found in domain.listAllCheckpoints()] == ["one"]
        domain.abortJob()


def test_begin_busy(lab: Lab) -> None:
    lab.server.scenario("begin-busy")
    assert lab.refused(lambda: lab.pull("one")) == libvirt.VIR_ERR_OPERATION_TIMEOUT
    lab.back_up("one")


def test_begin_slow(lab: Lab) -> None:
    lab.server.scenario("begin-slow")
    with lab.other_client() as other:
        calling = threading.Thread(target=lambda: other.pull("one"))
        calling.start()
        wait_until(lambda: BEGIN_PHASE in str(lab.server.control("clock")), "the call waits")
        lab.server.clock.step(29)
        assert lab.checkpoints == []
        lab.server.clock.step(1)
        calling.join()
    assert lab.checkpoints == ["one"]


def test_bitmap_inconsistent(lab: Lab) -> None:
    lab.back_up("one")
    lab.server.scenario("bitmap-inconsistent")
    assert (
        lab.refused(lambda: lab.back_up("two", since="one"))
        == libvirt.VIR_ERR_CHECKPOINT_INCONSISTENT
    )
    lab.back_up("two")


def test_bitmap_missing(lab: Lab) -> None:
    lab.back_up("one")
    lab.server.scenario("bitmap-missing")
    assert (
        lab.refused(lambda: lab.back_up("two", since="one"))
        == libvirt.VIR_ERR_CHECKPOINT_INCONSISTENT
    )
    back_up(lab.domain, lab.folder, ["vdb"], "two", since="one")


def test_qemu_killed_after_backup(lab: Lab) -> None:
    lab.server.scenario("qemu-killed-after-backup")
    back_up(lab.domain, lab.folder, ["vda"], "one")
    wait_until(lambda: lab.domain.state() == CRASHED, "QEMU is killed")
    lab.domain.create()
    assert lab.checkpoints == ["one"]
    assert (
        lab.refused(lambda: lab.back_up("two", since="one"))
        == libvirt.VIR_ERR_CHECKPOINT_INCONSISTENT
    )
    checkpoint = lab.domain.checkpointLookupByName("one")
    assert lab.refused(checkpoint.delete) == libvirt.VIR_ERR_INTERNAL_ERROR
    checkpoint.delete(libvirt.VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY)


def test_qemu_killed_during_backup(lab: Lab) -> None:
    lab.server.scenario("qemu-killed-during-backup")
    lab.pull("one")
    with pytest.raises(OSError):  # noqa: PT011 - a broken connection
        lab.read_twice()
    assert lab.domain.state() == CRASHED
    stats = lab.domain.jobStats(libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED)
    assert stats["type"] == libvirt.VIR_DOMAIN_JOB_CANCELLED


def test_qemu_killed_at_begin(lab: Lab) -> None:
    lab.server.scenario("qemu-killed-at-begin")
    assert lab.refused(lambda: lab.pull("one")) == libvirt.VIR_ERR_OPERATION_INVALID
    assert lab.domain.state() == CRASHED
    assert lab.checkpoints == []


def test_guest_shuts_down(lab: Lab) -> None:
    lab.server.scenario("guest-shuts-down")
    lab.pull("one")
    with pytest.raises(OSError):  # noqa: PT011 - a broken connection
        lab.read()
    shut_down = [libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN]
    assert lab.domain.state() == shut_down


def test_checkpoint_removed(lab: Lab) -> None:
    lab.back_up("one")
    lab.server.scenario("checkpoint-removed")
    assert (
        lab.refused(lambda: lab.back_up("two", since="one")) == libvirt.VIR_ERR_NO_DOMAIN_CHECKPOINT
    )
    assert lab.checkpoints == []


def test_checkpoint_delete_fails(lab: Lab) -> None:
    lab.back_up("one")
    lab.server.scenario("checkpoint-delete-fails")
    checkpoint = lab.domain.checkpointLookupByName("one")
    assert lab.refused(checkpoint.delete) == libvirt.VIR_ERR_INTERNAL_ERROR
    assert lab.checkpoints == ["one"]
    assert lab.refused(checkpoint.delete) == libvirt.VIR_ERR_INTERNAL_ERROR
    checkpoint.delete(libvirt.VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY)
    assert lab.checkpoints == []


def test_scratch_full(lab: Lab) -> None:
    lab.server.scenario("scratch-full")
    lab.pull("one")
    lab.server.domain().write("vda", 0, b"new")
    wait_until(lambda: lab.idle, "the job fails")
    stats = lab.domain.jobStats(libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED)
    assert (stats["success"], stats["errmsg"]) == (0, "No space left on device")


def test_target_full(lab: Lab) -> None:
    lab.server.scenario("target-full")
    lab.domain.backupBegin(push_xml(push_disk("vda", lab.folder / "full")), None)
    wait_until(lambda: lab.idle, "the job fails")
    stats = lab.domain.jobStats(libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED)
    assert (stats["success"], stats["errmsg"]) == (0, "No space left on device")
    assert not (lab.folder / "full").exists()


def test_freeze_hangs(lab: Lab) -> None:
    lab.server.scenario("freeze-hangs")
    codes: list[int | None] = []
    with lab.other_client() as other:
        calling = threading.Thread(target=lambda: codes.append(lab.refused(other.domain.fsFreeze)))
        calling.start()
        wait_until(lambda: not lab.server.faults.unmatched(), "the call hangs")
        assert lab.domain.state()[0] == libvirt.VIR_DOMAIN_RUNNING
        assert codes == []
        lab.domain.destroy()
        calling.join()
    assert codes == [libvirt.VIR_ERR_AGENT_UNRESPONSIVE]


def test_freeze_fails(lab: Lab) -> None:
    lab.server.scenario("freeze-fails")
    assert lab.refused(lab.domain.fsFreeze) == libvirt.VIR_ERR_AGENT_UNRESPONSIVE
    assert lab.domain.fsFreeze() == 2


def test_nbd_cut(lab: Lab) -> None:
    lab.server.scenario("nbd-cut")
    lab.pull()
    with pytest.raises(OSError):  # noqa: PT011 - a broken connection
        lab.read()
    assert len(lab.read()) == SIZE


def test_nbd_stalls(lab: Lab) -> None:
    lab.server.scenario("nbd-stalls")
    lab.pull()
    with nbd_client(lab.folder / "nbd", "vda", ALLOCATION) as client:
        client.wait_at_most(0.2)
        with pytest.raises(TimeoutError):
            client.read(0, SIZE)
        wait_until(lambda: not lab.server.faults.unmatched(), "the server stalls")
    lab.domain.abortJob()


def test_nbd_corrupt(lab: Lab) -> None:
    right = lab.server.domain().read("vda", 0, SIZE)
    lab.server.scenario("nbd-corrupt")
    lab.pull()
    read = lab.read()
    assert [place for place in range(SIZE) if read[place] != right[place]] == [4096]
    assert lab.read() == right


def test_nbd_error(lab: Lab) -> None:
    lab.server.scenario("nbd-error")
    lab.pull()
    with pytest.raises(ConnectionError, match="input/output error"):
        lab.read()
    assert len(lab.read()) == SIZE


def test_nbd_unreachable(lab: Lab) -> None:
    lab.server.scenario("nbd-unreachable")
    lab.pull()
    with pytest.raises(ConnectionError, match="closed the connection"):
        lab.read()


def test_abort_refused(lab: Lab) -> None:
    lab.server.scenario("abort-refused")
    lab.pull()
    assert lab.refused(lab.domain.abortJob) == libvirt.VIR_ERR_OPERATION_INVALID
    lab.domain.abortJob()
    wait_until(lambda: lab.idle, "the job ends")


@dataclass
class Heard:
    """The events of one backup, by label."""

    lab: Lab
    recorder: Recorder

    def labels(self, count: int) -> list[object]:
        return self.recorder.labels(count)


@pytest.fixture
def heard(lab: Lab) -> Heard:
    recorder = Recorder()
    for event, label in ((JOB_COMPLETED, "job"), (BLOCK_JOB_2, "disk")):
        lab.connection.domainEventRegisterAny(None, event, recorder, label)
    return Heard(lab, recorder)


def test_completed_event_lost(lab: Lab, heard: Heard) -> None:
    lab.server.scenario("completed-event-lost")
    lab.back_up("one")
    lab.back_up("two")
    assert heard.labels(3) == ["disk", "job", "disk"]


def test_completed_event_twice(lab: Lab, heard: Heard) -> None:
    lab.server.scenario("completed-event-twice")
    lab.back_up("one")
    assert heard.labels(3) == ["job", "job", "disk"]


def test_completed_event_late(lab: Lab, heard: Heard) -> None:
    lab.server.scenario("completed-event-late")
    lab.back_up("one")
    assert heard.labels(1) == ["disk"]
    lab.server.clock.step(10)
    assert heard.labels(2) == ["disk", "job"]


def test_events_out_of_order(lab: Lab, heard: Heard) -> None:
    lab.server.scenario("events-out-of-order")
    lab.back_up("one")
    assert heard.labels(2) == ["disk", "job"]
