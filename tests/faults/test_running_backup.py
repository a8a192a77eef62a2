"""A backup that runs while the daemon is killed goes on as if nothing had happened."""

import libvirt
import pytest
from binding import Recorder, wait_until
from crash_cases import CASES
from crash_look import DISKS
from crash_site import Site, checkpoint
from tools import nbd_read, unix_uri

ELAPSED = 1
"""In the answer of virDomainGetJobInfo."""


@pytest.fixture
def pull(site: Site) -> Site:
    """A pull runs."""
    site.machine.backupBegin(site.pull_xml(), checkpoint("c1"))
    return site


@pytest.fixture
def push(site: Site) -> Site:
    """A push runs that will not end by itself."""
    CASES["abort-push"].prepare(site)
    return site


def hear(site: Site) -> Recorder:
    """What a client that has come back is told of the ends of jobs."""
    recorder = Recorder()
    event = libvirt.VIR_DOMAIN_EVENT_ID_JOB_COMPLETED
    site.connection.domainEventRegisterAny(None, event, recorder, "completed")
    return recorder


def test_the_document_stays_the_same(pull: Site) -> None:
    before = pull.machine.backupGetXMLDesc()
    pull.kill_daemon()
    pull.start_daemon()
    assert pull.machine.backupGetXMLDesc() == before


def test_the_start_time_is_kept(pull: Site) -> None:
    wait_until(lambda: pull.machine.jobInfo()[ELAPSED] > 300, "some time")
    pull.kill_daemon()
    pull.start_daemon()
    assert pull.machine.jobInfo()[ELAPSED] > 300


def test_the_totals_are_kept(push: Site) -> None:
    before = push.machine.jobStats()
    push.kill_daemon()
    push.start_daemon()
    after = push.machine.jobStats()
    assert after["disk_total"] == before["disk_total"]
    assert after["disk_processed"] >= before["disk_processed"]


def test_the_first_error_is_kept(push: Site) -> None:
    push.machine.blockJobAbort("vda", libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_ASYNC)
    push.kill_daemon()
    push.start_daemon()
    push.await_end()
    stats = push.machine.jobStats(libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED)
    assert stats["type"] == libvirt.VIR_DOMAIN_JOB_CANCELLED
    assert stats["errmsg"] == "Operation canceled"


def test_clients_of_the_export_notice_nothing(pull: Site) -> None:
    pull.kill_daemon()
    assert len(nbd_read(unix_uri(pull.root / "nbd"), 0, 512)) == 512
    pull.start_daemon()


def test_the_end_is_told_to_clients_that_come_back(pull: Site) -> None:
    pull.kill_daemon()
    pull.start_daemon()
    recorder = hear(pull)
    pull.machine.abortJob()
    ((_, name, stats),) = recorder.wait(1)
    assert name == "m"
    assert isinstance(stats, dict)
    assert stats["success"]


def test_a_push_ends_although_nobody_looks(site: Site) -> None:
    site.machine.backupBegin(site.push_xml(), None)
    site.kill_daemon()
    site.start_daemon()
    site.await_end()
    assert site.result() == libvirt.VIR_DOMAIN_JOB_COMPLETED
    assert site.written() == {f"backup-{disk}" for disk in DISKS}


def test_the_result_is_still_known_after_another_restart(pull: Site) -> None:
    pull.machine.abortJob()
    pull.await_end()
    assert pull.all_steps() == []
    pull.kill_daemon()
    pull.start_daemon()
    assert pull.result() == libvirt.VIR_DOMAIN_JOB_COMPLETED


def test_a_domain_that_died_meanwhile_ends_its_backup(pull: Site) -> None:
    pull.kill_daemon()
    pull.kill_machine()
    pull.start_daemon()
    pull.check_ended()
    assert pull.checkpoints() == {"c1"}


def test_it_outlives_several_daemons(pull: Site) -> None:
    for _ in range(3):
        pull.kill_daemon()
        pull.start_daemon()
    pull.check()
