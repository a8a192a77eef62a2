"""QEMU is killed while a backup runs: what is told, in which order, and what is remembered."""

import libvirt
import pytest
from binding import Recorder, error_code
from crash_cases import CASES
from crash_site import Site, attempt, checkpoint


@pytest.fixture
def ended(site: Site) -> Recorder:
    """A pull ran when QEMU was killed; what clients have been told since."""
    site.machine.backupBegin(site.pull_xml(), checkpoint("c1"))
    recorder = Recorder()
    for name in ("LIFECYCLE", "JOB_COMPLETED", "BLOCK_JOB"):
        event = getattr(libvirt, f"VIR_DOMAIN_EVENT_ID_{name}")
        site.connection.domainEventRegisterAny(None, event, recorder, name)
    site.kill_machine()
    recorder.wait(2)
    return recorder


def test_the_job_ends_before_the_domain(ended: Recorder) -> None:
    assert ended.labels(2) == ["JOB_COMPLETED", "LIFECYCLE"]


def test_the_domain_has_failed(ended: Recorder) -> None:
    stopped, failed = libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_FAILED
    assert ended.wait(2)[1][2:] == (stopped, failed)


def test_the_job_was_no_success(ended: Recorder) -> None:
    stats = ended.wait(1)[0][2]
    assert isinstance(stats, dict)
    assert stats["success"] is False
    assert set(stats) == {"operation", "time_elapsed", "success"}


def test_the_result_is_remembered(site: Site, ended: Recorder) -> None:
    assert site.result() == libvirt.VIR_DOMAIN_JOB_CANCELLED
    site.start_machine()
    assert site.result() == libvirt.VIR_DOMAIN_JOB_CANCELLED


def test_nothing_is_left_over(site: Site, ended: Recorder) -> None:
    site.check_ended()
    assert error_code(site.machine.abortJob) == libvirt.VIR_ERR_OPERATION_INVALID


def test_the_next_backup_works(site: Site, ended: Recorder) -> None:
    site.start_machine()
    site.machine.backupBegin(site.pull_xml(), None)
    CASES["abort-pull"].act(site)
    assert site.result() == libvirt.VIR_DOMAIN_JOB_COMPLETED


def test_targets_that_are_not_complete_go(site: Site) -> None:
    CASES["abort-push"].prepare(site)
    site.kill_machine()
    site.await_stop()
    site.check_ended()
    assert not attempt(site, Site.job_type)
