"""Our own client against peers that do as a test says: answers, events, pings, and misbehaviour."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from virtbackupd.protocol import message, schema
from virtbackupd.protocol.client import Frame, FrameReader, encode_frame
from virtbackupd.protocol.errors import RemoteError
from virtbackupd.protocol.message import Call, MessageType
from virtbackupd.server import remote as remote_module
from virtbackupd.server.remote import CALL_PATIENCE, ConnectionLost, Refused, Remote, connected
from virtbackupd.server.remote_dial import CannotConnect, RemoteProblem
from virtbackupd.server.remote_uri import parse_uri

HOSTNAME = schema.load().by_name["CONNECT_GET_HOSTNAME"]
LIFECYCLE = schema.load().by_name["DOMAIN_EVENT_CALLBACK_LIFECYCLE"]
DOMAIN = ("vm", bytes(16), 3)


class Peer:
    """The server's end: reads calls, sends what it is told."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._reader = FrameReader()
        self._frames: list[Frame] = []

    async def frame(self) -> Frame:
        while not self._frames:
            self._frames = self._reader.receive_data(bytes(await self.stream.receive_some()))
        return self._frames.pop(0)

    async def hostname(self, name: str, frame: Frame | None = None) -> None:
        call = _call(frame or await self.frame())
        await self.stream.send_all(message.reply(call, HOSTNAME.encode_ret((name,))))

    async def event(self, detail: int) -> None:
        body = LIFECYCLE.encode_message((0, (DOMAIN, 5, detail)))
        await self.stream.send_all(message.event(LIFECYCLE.program, LIFECYCLE.number, body))


def _call(frame: Frame) -> Call:
    return Call(frame.program, 1, frame.procedure, frame.serial, frame.status, frame.payload)


@pytest.fixture
async def peers() -> AsyncIterator[tuple[Remote, Peer]]:
    ours, theirs = memory_stream_pair()
    yield Remote(ours, parse_uri("test:///default")), Peer(theirs)
    await trio.aclose_forcefully(ours)
    await trio.aclose_forcefully(theirs)


async def test_answers_come_in_the_order_of_the_questions(peers: tuple[Remote, Peer]) -> None:
    remote, peer = peers

    async def answer_backwards() -> None:
        frames = [await peer.frame() for _ in range(3)]
        for number, frame in reversed(list(enumerate(frames))):
            await peer.hostname(f"h{number}", frame)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer_backwards)
        answers = await remote.calls("CONNECT_GET_HOSTNAME", [()] * 3)
    assert answers == [("h0",), ("h1",), ("h2",)]


async def test_many_questions_wait_for_room(
    peers: tuple[Remote, Peer], monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    monkeypatch.setattr(remote_module, "IN_FLIGHT", 2)
    remote, peer = peers
    waiting: list[int] = []

    async def answer() -> None:
        for _ in range(3):
            frames = [await peer.frame()]
            with trio.move_on_after(1):
                while True:
                    frames.append(await peer.frame())
            waiting.append(len(frames))
            for frame in frames:
                await peer.hostname("h", frame)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        assert len(await remote.calls("CONNECT_GET_HOSTNAME", [()] * 6)) == 6
    assert waiting == [2, 2, 2]


async def test_a_refusal_has_the_servers_words_and_code(peers: tuple[Remote, Peer]) -> None:
    remote, peer = peers

    async def refuse() -> None:
        error = RemoteError(42, 10, "no such thing")
        await peer.stream.send_all(message.error_reply(_call(await peer.frame()), error))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(refuse)
        with pytest.raises(Refused, match="no such thing") as caught:
            await remote.call("CONNECT_GET_HOSTNAME")
    assert caught.value.code == 42


async def test_pings_are_answered_while_waiting(peers: tuple[Remote, Peer]) -> None:
    remote, peer = peers

    async def ping_first() -> None:
        call = await peer.frame()
        await peer.stream.send_all(message.ping())
        pong = await peer.frame()
        assert (pong.program, pong.procedure) == (message.KEEPALIVE_PROGRAM, message.PONG)
        await peer.hostname("h", call)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ping_first)
        assert await remote.call("CONNECT_GET_HOSTNAME") == ("h",)


async def test_events_that_come_between_are_kept(peers: tuple[Remote, Peer]) -> None:
    remote, peer = peers

    async def event_first() -> None:
        call = await peer.frame()
        await peer.event(7)
        await peer.hostname("h", call)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(event_first)
        await remote.call("CONNECT_GET_HOSTNAME")
    event = await remote.next_event()
    assert event == ("DOMAIN_EVENT_CALLBACK_LIFECYCLE", (0, (DOMAIN, 5, 7)))


async def test_events_are_collected_until_the_moment(
    peers: tuple[Remote, Peer], autojump_clock: MockClock
) -> None:
    remote, peer = peers
    await peer.event(1)
    await peer.event(2)
    events = await remote.events_until(trio.current_time() + 5)
    assert [event.fields[1][2] for event in events] == [1, 2]
    assert trio.current_time() >= 5


async def test_a_server_that_is_silent_loses_the_connection(
    peers: tuple[Remote, Peer], autojump_clock: MockClock
) -> None:
    remote, _ = peers
    with pytest.raises(ConnectionLost, match="no answer to CONNECT_GET_HOSTNAME"):
        await remote.call("CONNECT_GET_HOSTNAME")
    assert trio.current_time() == pytest.approx(CALL_PATIENCE)


async def test_a_server_that_closes_is_named(peers: tuple[Remote, Peer]) -> None:
    remote, peer = peers
    await peer.stream.aclose()
    with pytest.raises(RemoteProblem, match=r"closed the connection|connection broke"):
        await remote.call("CONNECT_GET_HOSTNAME")


@pytest.mark.parametrize("length", [0, 27, message.MAX_FRAME + 1, 2**32 - 1])
async def test_a_length_that_cannot_be_is_not_waited_for(
    peers: tuple[Remote, Peer], length: int
) -> None:
    remote, peer = peers
    await peer.stream.send_all(length.to_bytes(4, "big"))
    with pytest.raises(ConnectionLost, match="no libvirt protocol"):
        await remote.call("CONNECT_GET_HOSTNAME")


async def test_an_answer_that_cannot_be_read_ends_the_connection(
    peers: tuple[Remote, Peer],
) -> None:
    remote, peer = peers

    async def answer_nonsense() -> None:
        await peer.stream.send_all(message.reply(_call(await peer.frame()), b"\xff"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer_nonsense)
        with pytest.raises(ConnectionLost, match="makes no sense"):
            await remote.call("CONNECT_GET_HOSTNAME")


async def test_frames_that_nobody_waits_for_are_dropped(peers: tuple[Remote, Peer]) -> None:
    remote, peer = peers

    async def stray_first() -> None:
        call = await peer.frame()
        stray = Frame(HOSTNAME.program, 1, HOSTNAME.number, MessageType.REPLY, 999, 0, b"")
        unknown = Frame(5, 1, 5, MessageType.MESSAGE, 0, 0, b"")
        await peer.stream.send_all(encode_frame(stray) + encode_frame(unknown))
        await peer.hostname("h", call)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stray_first)
        assert await remote.call("CONNECT_GET_HOSTNAME") == ("h",)


async def test_a_socket_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CannotConnect, match=r"no socket at .*nothing: start the daemon"):
        async with connected(f"test+unix:///default?socket={tmp_path}/nothing"):
            raise AssertionError


async def test_a_host_that_nobody_can_be_is_named() -> None:
    with pytest.raises(CannotConnect, match=r"cannot connect to a\.\.b: no host can be called so"):
        async with connected("test+tcp://a..b/default"):
            raise AssertionError


async def test_a_socket_that_nobody_answers_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CannotConnect, match=os.strerror(111)):
        async with connected(f"test+unix:///default?socket={tmp_path}/file"):
            raise AssertionError


async def test_a_server_that_wants_an_unknown_login_is_not_pestered() -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    auth_list = schema.load().by_name["AUTH_LIST"]

    async def want_more(stream: trio.SocketStream) -> None:
        peer = Peer(stream)
        call = _call(await peer.frame())
        await stream.send_all(message.reply(call, auth_list.encode_ret(([1],))))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, want_more, listeners)
        with pytest.raises(CannotConnect, match="protects nothing over plain TCP here: use TLS"):
            async with connected(f"test+tcp://127.0.0.1:{port}/default"):
                raise AssertionError
        nursery.cancel_scope.cancel()
