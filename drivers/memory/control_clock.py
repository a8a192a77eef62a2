"""The control commands that move time, and the one that says which release is pretended."""

from collections.abc import Awaitable
from datetime import UTC, datetime
from typing import Annotated

import msgspec

from virtbackupd.drivers.clock import LAST_TIME, LONGEST_STEP, Clock, read_time
from virtbackupd.drivers.memory.control import (
    Arguments,
    CommandTable,
    ControlCommand,
    NoArguments,
    Target,
)
from virtbackupd.drivers.memory.control_job import JOB_COMMANDS

Json = dict[str, object]

_WAITING_SHOWN = 100
"""Of those who wait the first so many are named."""


class StepArguments(Arguments, frozen=True):
    """How far to go on."""

    seconds: Annotated[float, msgspec.Meta(ge=0, le=LONGEST_STEP)]


class SetArguments(Arguments, frozen=True):
    """Seconds since 1970, a time of ISO 8601, or `now` for the host's."""

    time: Annotated[float, msgspec.Meta(ge=0, le=LAST_TIME)] | str


def _describe(clock: Clock) -> Json:
    now = clock.monotonic()
    time = clock.time()
    return {
        "mode": "stopped" if clock.stopped else "running",
        "time": time,
        "utc": datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds"),
        "waiting": [
            {"what": waiter.what, "seconds": waiter.due - now}
            for waiter in clock.waiting()[:_WAITING_SHOWN]
        ],
    }


def _show(target: Target, _: NoArguments) -> Json:
    return _describe(target.host.clock)


def _stop(target: Target, _: NoArguments) -> Json:
    target.host.clock.stop()
    return _describe(target.host.clock)


def _start(target: Target, _: NoArguments) -> Json:
    target.host.clock.start()
    return _describe(target.host.clock)


def _step(target: Target, given: StepArguments) -> Awaitable[Json]:
    async def step() -> Json:
        woken = await target.host.clock.step(given.seconds)
        return {"woken": woken, **_describe(target.host.clock)}

    return step()


def _next(target: Target, _: NoArguments) -> Awaitable[Json]:
    async def jump() -> Json:
        seconds = await target.host.clock.jump()
        return {"seconds": seconds, **_describe(target.host.clock)}

    return jump()


def _set(target: Target, given: SetArguments) -> Json:
    clock, wanted = target.host.clock, given.time
    if isinstance(wanted, str):
        clock.set_time(None if wanted == "now" else read_time(wanted))
    else:
        clock.set_time(wanted)
    return _describe(clock)


def _profile(target: Target, _: NoArguments) -> Json:
    profile = target.host.profile
    return {"name": profile.name, "libvirt": str(profile.libvirt), "qemu": str(profile.qemu)}


_CLOCK_COMMANDS: CommandTable = {
    "clock": ControlCommand("Show the time, whether it runs, and who waits for what.", _show),
    "clock-stop": ControlCommand("Let time stand still.", _stop),
    "clock-start": ControlCommand("Let time run on from where it stands.", _start),
    "clock-step": ControlCommand(
        "Move a stopped clock on; returns when all that was woken waits again.",
        _step,
        StepArguments,
        waits=True,
    ),
    "clock-next": ControlCommand(
        "Move a stopped clock to the next moment that somebody waits for.", _next, waits=True
    ),
    "clock-set": ControlCommand(
        "Change the time of day; nobody wakes of that.", _set, SetArguments
    ),
    "profile": ControlCommand("Show the release of libvirt that is pretended.", _profile),
}

COMMANDS: CommandTable = {**_CLOCK_COMMANDS, **JOB_COMMANDS}
