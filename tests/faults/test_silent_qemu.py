"""QEMU does not answer: calls fail in time and say why, and all is well once it answers again."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import crash_site
import libvirt
import pytest
from binding import error_code, wait_until
from crash_cases import CASES, Case, count_steps
from crash_site import Site, attempt, checkpoint

FEW = 25.0
"""Seconds in which a call on a silent QEMU must have failed: less than a patient daemon waits."""


@pytest.fixture(scope="module")
def shared_site(folder: Path) -> Iterator[Site]:
    with crash_site.site(folder, impatient=True) as made:
        yield made


@pytest.fixture
def silent(site: Site) -> Iterator[Site]:
    """QEMU does not answer until the end of the test, or until it is told to."""
    os.kill(site.pid, signal.SIGSTOP)
    yield site
    site.go_on()


def fall_silent_at(site: Site, case: Case, number: int) -> None:
    """QEMU stops at a step; the call fails; QEMU goes on, and so does everything else."""
    case.prepare(site)
    site.order("answers", number)
    start = time.monotonic()
    attempt(site, case.act)
    assert time.monotonic() - start < FEW
    site.call_off()
    site.go_on()
    wait_until(site.agrees, "the completion of what was interrupted")
    site.clear()


COMMANDS = {
    "create": ("transaction", "transaction: answered"),
    "delete": ("query-named-block-nodes", "transaction"),
    "pull": ("blockdev-add", "nbd-server-start", "transaction", "block-export-add"),
    "push": ("blockdev-add", "transaction"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_what_was_interrupted_is_set_right(site: Site, name: str) -> None:
    steps = count_steps(site, CASES[name])
    for command in COMMANDS[name]:
        fall_silent_at(site, CASES[name], steps.index(command) + 1)


def test_the_cause_is_named(silent: Site) -> None:
    with pytest.raises(libvirt.libvirtError, match="did not answer"):
        silent.machine.checkpointCreateXML(checkpoint("c1"))


def test_a_checkpoint_can_be_made_afterwards(silent: Site) -> None:
    assert not attempt(silent, CASES["create"].act)
    silent.go_on()
    silent.machine.checkpointCreateXML(checkpoint("c1"))
    silent.check()


def test_a_backup_can_be_made_afterwards(silent: Site) -> None:
    assert error_code(lambda: CASES["abort-pull"].prepare(silent)) == libvirt.VIR_ERR_INTERNAL_ERROR
    silent.go_on()
    CASES["abort-pull"].prepare(silent)
    silent.check()


def test_an_abort_can_be_repeated(site: Site) -> None:
    CASES["abort-pull"].prepare(site)
    os.kill(site.pid, signal.SIGSTOP)
    assert error_code(site.machine.abortJob) == libvirt.VIR_ERR_INTERNAL_ERROR
    site.go_on()
    CASES["abort-pull"].act(site)
    assert CASES["abort-pull"].promise(site)


def test_a_backup_goes_on_afterwards(site: Site) -> None:
    CASES["abort-push"].prepare(site)
    os.kill(site.pid, signal.SIGSTOP)
    assert not attempt(site, Site.job_type)
    site.go_on()
    assert site.job_type() == libvirt.VIR_DOMAIN_JOB_UNBOUNDED


def test_it_does_not_hold_up_the_start_of_the_daemon(site: Site) -> None:
    CASES["abort-pull"].prepare(site)
    os.kill(site.pid, signal.SIGSTOP)
    site.kill_daemon()
    site.start_daemon()
    assert site.machine.isActive()
    site.go_on()
    wait_until(lambda: attempt(site, CASES["abort-pull"].act), "an answer")
    assert CASES["abort-pull"].promise(site)


def test_other_calls_do_not_wait(silent: Site) -> None:
    silent.order("nobody", 0)
    silent.machine.XMLDesc()
    silent.machine.state()
    silent.machine.listAllCheckpoints()
    assert silent.steps() == [], "they have not asked QEMU"
    silent.call_off()
