"""The ways in which a run ends, as the world is told of them."""

from typing import NamedTuple

from virtbackupd.drivers.enums import ShutdownDetail, ShutoffReason, StoppedDetail


class Stop(NamedTuple):
    """One way to end: the event's detail and the reason that remains."""

    detail: StoppedDetail
    reason: ShutoffReason
    announced: ShutdownDetail | None = None
    """Of the event that comes before: QEMU tells that it was asked to end, where it is asked."""


DESTROYED = Stop(StoppedDetail.DESTROYED, ShutoffReason.DESTROYED, ShutdownDetail.HOST)
SHUT_DOWN = Stop(StoppedDetail.SHUTDOWN, ShutoffReason.SHUTDOWN)
SAVED = Stop(StoppedDetail.SAVED, ShutoffReason.SAVED)
CRASHED = Stop(StoppedDetail.FAILED, ShutoffReason.CRASHED)
FAILED = Stop(StoppedDetail.FAILED, ShutoffReason.FAILED)
