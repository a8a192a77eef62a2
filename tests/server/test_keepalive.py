"""When the server pings and when it gives a silent client up."""

from typing import TYPE_CHECKING

import trio
from raw_client import RawClient
from trio.testing import MockClock

from virtbackupd.server.keepalive import KeepalivePolicy, KeepaliveTicker, KeepaliveTimer

if TYPE_CHECKING:
    from tests.server.conftest import Server


class Peer:
    """A target that notes when it is asked and given up."""

    def __init__(self, *, speaks: bool = True) -> None:
        self.keepalive = KeepaliveTimer(trio.current_time()) if speaks else None
        self.start = trio.current_time()
        self.asked: list[float] = []
        self.dead: list[float] = []

    def ask_alive(self) -> None:
        self.asked.append(round(trio.current_time() - self.start, 3))

    def give_up(self, reason: str) -> None:  # noqa: ARG002 - as the ticker calls it
        self.dead.append(round(trio.current_time() - self.start, 3))
        self.keepalive = None


async def run_for(seconds: float, policy: KeepalivePolicy, *peers: Peer) -> None:
    ticker = KeepaliveTicker(policy)
    for peer in peers:
        ticker.add(peer)
    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ticker.run)


async def test_silent_client_is_asked_and_given_up(autojump_clock: MockClock) -> None:
    peer = Peer()
    await run_for(10, KeepalivePolicy(1, 2), peer)
    assert (peer.asked, peer.dead) == ([1, 2], [3])


async def test_default_gives_up_after_thirty_seconds(autojump_clock: MockClock) -> None:
    peer = Peer()
    await run_for(60, KeepalivePolicy(), peer)
    assert (peer.asked, peer.dead) == ([5, 10, 15, 20, 25], [30])


async def test_count_zero_gives_up_at_once(autojump_clock: MockClock) -> None:
    peer = Peer()
    await run_for(10, KeepalivePolicy(1, 0), peer)
    assert (peer.asked, peer.dead) == ([], [1])


async def test_negative_interval_never_asks(autojump_clock: MockClock) -> None:
    peer = Peer()
    await run_for(100, KeepalivePolicy(-1, 2), peer)
    assert (peer.asked, peer.dead) == ([], [])


async def changing(policies: dict[float, KeepalivePolicy], *peers: Peer) -> None:
    """The first holds from 0 seconds on, the others from their time on, for 60 seconds in all."""
    ticker = KeepaliveTicker(policies[0])
    for peer in peers:
        ticker.add(peer)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ticker.run)
        for time, policy in policies.items():
            await trio.sleep_until(peers[0].start + time)
            ticker.take(policy)
        await trio.sleep_until(peers[0].start + 60)
        nursery.cancel_scope.cancel()


async def test_new_interval_holds_from_then_on(autojump_clock: MockClock) -> None:
    """A client that has been silent for long by then is not given up for it."""
    peer = Peer()
    await changing({0: KeepalivePolicy(100, 1), 50: KeepalivePolicy(2, 1)}, peer)
    assert (peer.asked, peer.dead) == ([52], [54])


async def test_pings_can_begin_and_end(autojump_clock: MockClock) -> None:
    peer = Peer()
    never, often = KeepalivePolicy(-1, 9), KeepalivePolicy(2, 9)
    await changing({0: never, 10: often, 15: never}, peer)
    assert (peer.asked, peer.dead) == ([12, 14], [])


async def test_same_policy_again_changes_nothing(autojump_clock: MockClock) -> None:
    peer = Peer()
    policy = KeepalivePolicy(20, 1)
    await changing({0: policy, 19: policy}, peer)
    assert (peer.asked, peer.dead) == ([20], [40])


async def test_client_without_keepalive_is_never_asked(autojump_clock: MockClock) -> None:
    peer = Peer(speaks=False)
    await run_for(100, KeepalivePolicy(1, 2), peer)
    assert (peer.asked, peer.dead) == ([], [])


def test_whatever_is_heard_starts_the_count_again() -> None:
    timer = KeepaliveTimer(0)
    timer.asked()
    timer.heard(7)
    assert timer.due(KeepalivePolicy(5, 1)) == 12
    assert not timer.dead(KeepalivePolicy(5, 1))


async def test_each_client_has_its_own_time(autojump_clock: MockClock) -> None:
    policy, early = KeepalivePolicy(1, 2), Peer()
    ticker = KeepaliveTicker(policy)
    ticker.add(early)
    with trio.move_on_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ticker.run)
            await trio.sleep(0.5)
            late = Peer()
            ticker.add(late)
    assert (early.dead, late.dead) == ([3], [3])


async def test_discarded_client_is_left_alone(autojump_clock: MockClock) -> None:
    peer, ticker = Peer(), KeepaliveTicker(KeepalivePolicy(1, 2))
    ticker.add(peer)
    ticker.discard(peer)
    with trio.move_on_after(5):
        await ticker.run()
    assert peer.asked == []


async def test_asking_for_the_feature_starts_pings(server: "Server") -> None:
    client = server.connect()
    await client.call("CONNECT_SUPPORTS_FEATURE", 10)
    frame = await client.frame()
    assert (frame.program, frame.procedure, frame.kind) == (0x6B656570, 1, 2)


async def test_client_that_does_not_answer_is_dropped(server: "Server") -> None:
    client = server.connect()
    await client.call("CONNECT_SUPPORTS_FEATURE", 10)
    while await client.receive() is not None:
        pass
    assert server.services.counters.dropped_silent == 1


async def test_ping_reaches_a_client_whose_call_waits(server: "Server", client: RawClient) -> None:
    await client.call("CONNECT_SUPPORTS_FEATURE", 10)
    await client.start("DOMAIN_SUSPEND", ("test", bytes(range(16)), 1))
    assert (await client.frame()).program == 0x6B656570
