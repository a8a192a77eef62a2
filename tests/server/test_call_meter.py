"""Calls are counted by procedure and result, and measured."""

from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import cast

import pytest
import trio
import trio.testing

from virtbackupd.protocol import schema
from virtbackupd.protocol.errors import RemoteError
from virtbackupd.protocol.message import Call, Request, error_reply, reply
from virtbackupd.server.call_meter import BOUNDS, UNKNOWN, CallFigures, CallMeter
from virtbackupd.server.session import Session

REMOTE = 0x20008086
VERSION = Call(REMOTE, 1, 157, 0, 0, b"")
ANSWER = reply(VERSION, b"12345678")
NAME = "virConnectGetLibVersion"
SESSION = cast("Session", None)
"""The meter does not look at it."""


@dataclass
class Scripted:
    """Answers each call with what it is told to."""

    given: bytes | Exception = ANSWER
    wait: trio.Event | None = None
    seen: list[Request] = field(default_factory=list)

    def answer(self, session: Session, call: Request) -> bytes | Awaitable[bytes]:
        assert session is SESSION
        self.seen.append(call)
        return self._now() if self.wait is None else self._later(self.wait)

    async def _later(self, wait: trio.Event) -> bytes:
        await wait.wait()
        return self._now()

    def _now(self) -> bytes:
        if isinstance(self.given, Exception):
            raise self.given
        return self.given


def meter_of(scripted: Scripted) -> CallMeter:
    return CallMeter(scripted, schema.load())


def test_a_call_goes_on_to_the_dispatcher_and_its_answer_back() -> None:
    scripted = Scripted()
    assert meter_of(scripted).answer(SESSION, VERSION) == scripted.given
    assert scripted.seen == [VERSION]


def test_calls_are_counted_by_the_public_name() -> None:
    meter = meter_of(Scripted())
    for _ in range(3):
        meter.answer(SESSION, VERSION)
    figures = meter.figures()
    assert list(figures) == [NAME]
    assert sum(figures[NAME].buckets) == 3
    assert figures[NAME].seconds > 0
    assert not figures[NAME].errors


def test_refusals_are_counted_by_their_code() -> None:
    meter = meter_of(Scripted(error_reply(VERSION, RemoteError(42, 10, "no domain"))))
    meter.answer(SESSION, VERSION)
    figures = meter.figures()[NAME]
    assert (sum(figures.buckets), figures.errors) == (1, {42: 1})


def test_procedures_that_there_are_not_are_counted_as_one() -> None:
    meter = meter_of(Scripted())
    for number in range(60_000, 60_020):
        meter.answer(SESSION, VERSION._replace(procedure=number))
        meter.answer(SESSION, VERSION._replace(program=number))
    assert {name: sum(each.buckets) for name, each in meter.figures().items()} == {UNKNOWN: 40}


@pytest.mark.parametrize(("seconds", "bucket"), [(0.0, 0), (BOUNDS[3], 3), (0.0003, 5), (1e9, -1)])
def test_a_call_counts_for_the_first_bucket_that_it_fits_into(seconds: float, bucket: int) -> None:
    figures = CallFigures()
    figures.ended(seconds, reply(VERSION, b""))
    assert figures.buckets[bucket] == 1
    assert sum(figures.buckets) == 1


async def test_a_call_that_waits_runs_until_it_is_answered() -> None:
    scripted = Scripted(wait=trio.Event())
    meter = meter_of(scripted)
    waiting = meter.answer(SESSION, VERSION)
    assert not isinstance(waiting, bytes)

    async def wait() -> None:
        assert await waiting == scripted.given

    assert scripted.wait is not None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        assert (meter.running, meter.figures()) == (1, {})
        scripted.wait.set()
    assert (meter.running, sum(meter.figures()[NAME].buckets)) == (0, 1)


async def test_a_call_that_breaks_runs_no_more() -> None:
    scripted = Scripted(OSError("broken"), trio.Event())
    assert scripted.wait is not None
    scripted.wait.set()
    meter = meter_of(scripted)
    waiting = meter.answer(SESSION, VERSION)
    assert not isinstance(waiting, bytes)
    with pytest.raises(OSError, match="broken"):
        await waiting
    assert (meter.running, meter.figures()) == (0, {})


def test_figures_that_were_taken_do_not_change_any_more() -> None:
    meter = meter_of(Scripted(error_reply(VERSION, RemoteError(42, 10, ""))))
    meter.answer(SESSION, VERSION)
    before = meter.figures()[NAME]
    meter.answer(SESSION, VERSION)
    assert (sum(before.buckets), before.errors) == (1, {42: 1})
