"""The ways in which a run ends, as the world is told of them."""

from typing import NamedTuple

from virtbackupd.drivers.enums import ShutoffReason, StoppedDetail


class Stop(NamedTuple):
    """One way to end: the event's detail and the reason that remains."""

    detail: StoppedDetail
    reason: ShutoffReason


DESTROYED = Stop(StoppedDetail.DESTROYED, ShutoffReason.DESTROYED)
SHUT_DOWN = Stop(StoppedDetail.SHUTDOWN, ShutoffReason.SHUTDOWN)
SAVED = Stop(StoppedDetail.SAVED, ShutoffReason.SAVED)
CRASHED = Stop(StoppedDetail.FAILED, ShutoffReason.CRASHED)
FAILED = Stop(StoppedDetail.FAILED, ShutoffReason.FAILED)
