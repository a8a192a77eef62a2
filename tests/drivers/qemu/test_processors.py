"""The kernel's account of a thread, in the words of several kernels."""

import os

import pytest

from virtbackupd.drivers.qemu import processors

SCHED = """qemu-system-x86 (4711, #threads: 3)
-------------------------------------------------------------------
se.exec_start                                :      15077143.123456
{name}                                       :             1.500000
nr_switches                                  :                   12
"""


def tell(monkeypatch: pytest.MonkeyPatch, **files: str) -> None:
    monkeypatch.setattr(processors, "_read", lambda _pid, _thread, name: files.get(name, ""))


@pytest.mark.parametrize("name", ["wait_sum", "se.wait_sum", "se.statistics.wait_sum"])
def test_waiting_is_told_in_milliseconds(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    tell(monkeypatch, sched=SCHED.format(name=name))
    assert processors.thread_times(os.getpid(), os.getpid()).wait == 1_500_000


def test_delay_is_the_second_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    tell(monkeypatch, schedstat="100 2500 7\n")
    assert processors.thread_times(os.getpid(), os.getpid()).delay == 2500


def test_a_kernel_that_does_not_count_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    tell(monkeypatch, sched=SCHED.format(name="nr_migrations"))
    found = processors.thread_times(os.getpid(), os.getpid())
    assert (found.wait, found.delay) == (0, 0)


def test_a_thread_that_has_ended_was_idle() -> None:
    assert processors.thread_times(os.getpid(), 1) == (0, 0, 0)
