"""One connection: its reader, its window of unanswered calls, its outbox and the only writer.

Knows sockets and frames, but no procedure. Whatever the peer does wrong ends this client alone.
"""

import logging
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from typing import assert_never

import trio

from virtbackupd.protocol import message
from virtbackupd.protocol.connection import Limits as FrameLimits
from virtbackupd.protocol.connection import ServerConnection
from virtbackupd.protocol.errors import ProtocolError, TooLongError
from virtbackupd.protocol.message import (
    Call,
    CallWithFds,
    Incoming,
    KeepalivePing,
    KeepalivePong,
    Request,
    Stray,
    StreamData,
    StreamHole,
)
from virtbackupd.server.events import CallbackTable
from virtbackupd.server.handlers.streams import StreamTable
from virtbackupd.server.identity import Identity
from virtbackupd.server.keepalive import KeepaliveTimer
from virtbackupd.server.login import NO_LOGIN, Login
from virtbackupd.server.outbox import Outbox, OutboxFullError
from virtbackupd.server.services import Services
from virtbackupd.server.session import CAUSE, RunningCall, Session

log = logging.getLogger(__name__)

RECEIVE_SIZE = 65_536
TURN_CALLS = 16
"""Calls of one client answered before the others have their turn."""
TURN_BYTES = 1_048_576
HURRIED_LOGIN = 10.0
"""Seconds from being accepted to being known while others wait for the place."""
LOOK_INTERVAL = 1.0
SLOWEST = 65_536
"""Bytes in a second at which a message that has begun has to come at least."""
HELD_LIMIT = 16_384
"""Events that may wait for the reply of the call that caused them."""


class Client:
    """Serves one socket until either side ends it. Satisfies `Link` and `KeepaliveTarget`."""

    __slots__ = (
        "_calls",
        "_changed",
        "_closing",
        "_connection",
        "_dead",
        "_ended",
        "_expecting",
        "_held",
        "_holding",
        "_known",
        "_login",
        "_nursery",
        "_outbox",
        "_parked",
        "_reading",
        "_running",
        "_services",
        "_session",
        "_socket",
        "_stopping",
        "keepalive",
        "number",
        "since",
    )

    _calls: trio.Nursery
    _nursery: trio.Nursery

    def __init__(
        self,
        sock: socket.socket,
        services: Services,
        *,
        read_only: bool = False,
        secure: bool = False,
        identity: Identity | None = None,
        login: Login = NO_LOGIN,
        known: Callable[[], None] | None = None,
    ) -> None:
        """`sock` is connected and does not block; `serve` closes it.

        `known` is called when the client has logged in.
        """
        self._socket = sock
        self._services = services
        self._connection = ServerConnection(FrameLimits(authenticated=services.limits.max_message))
        self._connection.authenticated = login is NO_LOGIN
        self._login = None if login is NO_LOGIN else trio.Event()
        self._known = known
        self._outbox = Outbox(sock, services.clock, services.limits)
        self._ended = trio.Event()
        self._reading: object | None = None
        """Another one each time that reading begins."""
        self._expecting = False
        self._running = 0
        self._parked: deque[Request] | None = None
        self._changed: trio.Event | None = None
        self._holding = 0
        self._held: list[bytes] | None = None
        self._closing = False
        self._stopping = False
        self._dead = False
        self.keepalive: KeepaliveTimer | None = None
        self.number = services.counters.accepted
        self.since = services.clock.time()
        callbacks = CallbackTable(services.router, self)
        self._session = Session(
            self,
            services.drivers,
            callbacks,
            StreamTable(services.limits),
            read_only=read_only,
            secure=secure,
            identity=identity,
            login=login,
        )

    @property
    def identity(self) -> Identity:
        """Who it is, as far as it is known by now."""
        return self._session.identity

    @property
    def read_only(self) -> bool:
        return self._session.read_only

    @property
    def anonymous(self) -> bool:
        """Whether it has still to log in."""
        return self._login is not None and not self._login.is_set()

    @property
    def waiting_calls(self) -> int:
        """Calls that wait until others of this client have their answers."""
        return len(self._parked or ())

    @property
    def unread(self) -> int:
        """Bytes that have still to leave for it."""
        return self._outbox.size

    async def serve(self) -> None:
        """Returns when the client has gone, for whatever reason, and all its traces with it.

        A call that runs by then runs to its end, as with libvirtd: what it began on a machine is
        not left half done because nobody waits for the answer any more. A question to polkit has
        begun nothing, and would hold a place for as long as somebody may look for a password.
        """
        async with trio.open_nursery() as self._calls:
            try:
                with self._outbox.closing():
                    async with trio.open_nursery() as self._nursery:
                        await self._converse()
                        self._nursery.cancel_scope.cancel()
            finally:
                self._dead = True
                self._ended.set()
                self._parked = None
                self._services.ticker.discard(self)
                await self._session.close()
                if self.anonymous and self._session.login.polkit is not None:
                    self._calls.cancel_scope.cancel()
        self._let_go()

    def _let_go(self) -> None:
        """Leave no cycle behind: the collector comes round to old objects very rarely."""
        del self._session, self._nursery, self._calls

    async def _converse(self) -> None:
        try:
            self._resume_reading()
            if self._login is not None:
                self._nursery.start_soon(self._expect, self._login)
            await self._ended.wait()
        finally:
            self._pause_reading()
        await self._finish()

    def _end(self) -> None:
        """Nothing more is read, whatever is still there to be read."""
        self._pause_reading()
        self._ended.set()

    def stop(self) -> None:
        """The daemon ends: read no more, finish the calls that run, then close."""
        self._stopping = True
        self._end()

    async def _finish(self) -> None:
        """After CLOSE only what is in the outbox still leaves; a client that left gets nothing."""
        if self._stopping and not self._closing:
            await self._calls_done()
        if self._stopping or self._closing:
            await self._outbox.drained()

    # What handlers and the event router ask of the connection (Link)

    def send(self, data: bytes) -> None:
        if self._dead:
            return
        try:
            if self._outbox.put(data):
                self._nursery.start_soon(self._flush)
        except OutboxFullError as error:
            self._services.counters.dropped_slow += 1
            self._abort(str(error))
        except OSError as error:
            self._abort(str(error))

    def deliver(self, frame: bytes) -> None:
        if not self._holding:
            self.send(frame)
            return
        held = self._held = self._held if self._held is not None else []
        held.append(frame)
        if len(held) > HELD_LIMIT:
            self._abort(f"{len(held)} events wait for the reply of one call")

    def hold_events(self) -> Callable[[], None]:
        self._holding += 1
        return self._release_events

    def start(self, task: Callable[[], Awaitable[None]]) -> None:
        self._nursery.start_soon(task)

    def close_after_reply(self) -> None:
        self._closing = True

    def authenticated(self) -> None:
        self._connection.authenticated = True
        if self._login is not None:
            self._login.set()
        if self._known is not None:
            self._known()

    async def _expect(self, login: trio.Event) -> None:
        """People may have to find their password; nobody holds a place for ever."""
        began, longest = trio.current_time(), self._services.limits.login_timeout
        while not login.is_set():
            crowded = self._services.admission.crowded
            patience = min(HURRIED_LOGIN, longest) if crowded else longest
            left = began + patience - trio.current_time()
            if left <= 0:
                self._services.counters.dropped_anonymous += 1
                self._services.limits.reached["login_timeout"] += 1
                self._abort(f"it has not logged in within {patience:.0f} seconds")
                return
            with trio.move_on_after(min(left, LOOK_INTERVAL)):
                await login.wait()

    def start_keepalive(self) -> None:
        if self.keepalive is None:
            self.keepalive = KeepaliveTimer(self._services.clock.monotonic())
            self._services.ticker.add(self)

    async def drained(self) -> None:
        await self._outbox.drained()

    def cut(self, reason: str) -> None:
        self._closing = True
        self._abort(reason)

    async def gone(self) -> None:
        await self._ended.wait()

    # What the ticker asks (KeepaliveTarget)

    def ask_alive(self) -> None:
        self.send(message.ping())

    def give_up(self, reason: str) -> None:
        self._services.counters.dropped_silent += 1
        self._abort(reason)

    # Reading

    def _resume_reading(self) -> None:
        if not self._ended.is_set():
            self._reading = object()
            self._services.poller.add(self._socket.fileno(), self._readable)

    def _pause_reading(self) -> None:
        self._reading = None
        self._services.poller.remove(self._socket.fileno())

    def _readable(self) -> None:
        """Told by the poller. Whatever happens concerns this client alone."""
        try:
            self._receive()
        except BlockingIOError:
            return
        except ProtocolError as error:
            self._broken(error)
        except OSError as error:
            log.debug("a connection broke: %s", error)
            self._end()
        except Exception:
            log.exception("a bug of ours ends a connection")
            self._end()

    def _receive(self) -> None:
        chunk = self._socket.recv(RECEIVE_SIZE)
        if not chunk:
            self._end()
            self._connection.receive_eof()
            return
        if self.keepalive is not None:
            self.keepalive.heard(self._services.clock.monotonic())
        rest = self._take_turn(self._connection.receive_data(chunk))
        if self._connection.unfinished and not self._expecting:
            self._expecting = True
            self._nursery.start_soon(self._expect_rest)
        if rest or self._parked or not self._outbox.empty:
            self._pause_reading()
            self._nursery.start_soon(self._catch_up, rest)

    async def _expect_rest(self) -> None:
        """A message that has begun comes to its end, as long as we read."""
        connection, stall = self._connection, self._services.limits.client_stall_timeout
        while connection.unfinished:
            begun = connection.completed, self._reading
            await trio.sleep(stall + connection.wanted / SLOWEST)
            went_on = begun != (connection.completed, self._reading)
            if connection.unfinished and self._reading and not went_on:
                self._services.counters.dropped_unfinished += 1
                self._services.limits.reached["client_stall_timeout"] += 1
                self._abort("it has not gone on with a message")
                return
        self._expecting = False

    def _take_turn(self, messages: list[Incoming]) -> list[Incoming]:
        """Replies of one turn leave together. Returns what has to wait for the next."""
        replies: list[bytes] = []
        size = done = 0
        for incoming in messages:
            done += 1
            reply = self._take(incoming)
            if reply is not None:
                replies.append(reply)
                size += len(reply)
            if self._closing or size > TURN_BYTES or done == TURN_CALLS:
                break
        if replies:
            self.send(replies[0] if len(replies) == 1 else b"".join(replies))
        self._services.router.flush()
        self._end_if_closing()
        return messages[done:]

    def _end_if_closing(self) -> None:
        if self._closing:
            self._end()

    async def _catch_up(self, rest: list[Incoming]) -> None:
        """A client that does not read its replies, or calls too much, is not read meanwhile."""
        timer, self.keepalive = self.keepalive, None
        try:
            await self._room()
            while rest and not self._closing:
                rest = self._take_turn(rest)
                await self._room()
        except ProtocolError as error:
            self._broken(error)
        if timer is not None:
            timer.heard(self._services.clock.monotonic())
            self.keepalive = timer
        self._resume_reading()

    async def _room(self) -> None:
        """Wait until the outbox is empty and more calls can be taken."""
        await trio.lowlevel.checkpoint()
        await self._outbox.drained()
        if self._overfull():
            self._services.limits.reached["max_client_waiting_calls"] += 1
        while self._overfull():
            await self._change()

    def _broken(self, error: ProtocolError) -> None:
        self._services.counters.protocol_errors += 1
        if isinstance(error, TooLongError) and self._connection.authenticated:
            self._services.limits.reached["max_message"] += 1
        log.info("closing a connection: %s", error)
        self._end()

    def _overfull(self) -> bool:
        return self._parked is not None and len(self._parked) >= (
            self._services.limits.max_client_waiting_calls
        )

    def _take(self, incoming: Incoming) -> bytes | None:
        if isinstance(incoming, Call | CallWithFds):
            return self._call(incoming)
        if isinstance(incoming, KeepalivePing):
            return message.pong()
        if isinstance(incoming, StreamData):
            self._session.streams.receive(incoming, self)
        elif isinstance(incoming, StreamHole):
            self._refuse_hole(incoming)
        elif not isinstance(incoming, KeepalivePong | Stray):
            assert_never(incoming)
        return None

    def _refuse_hole(self, packet: StreamHole) -> None:
        if self._session.streams.has(packet):
            raise ProtocolError(f"stream {packet.serial} is not sparse, yet its client sent a hole")

    # Calls

    def _call(self, call: Request) -> bytes | None:
        """The reply, if it is known at once."""
        if self._running >= self._services.limits.max_client_requests:
            self._parked = self._parked if self._parked is not None else deque()
            self._parked.append(call)
            self._services.limits.reached["max_client_requests"] += 1
            return None
        answer = self._services.dispatcher.answer(self._session, call)
        if isinstance(answer, bytes):
            return answer
        self._running += 1
        self._calls.start_soon(self._wait_for, answer)
        return None

    async def _wait_for(self, answer: Awaitable[bytes]) -> None:
        running = RunningCall(self)
        CAUSE.set(running)
        try:
            self.send(await answer)
        finally:
            running.replied()
        self._running -= 1
        self._unpark()
        self._end_if_closing()
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    def _unpark(self) -> None:
        limit = self._services.limits.max_client_requests
        while self._parked and self._running < limit and not self._closing:
            reply = self._call(self._parked.popleft())
            if reply is not None:
                self.send(reply)
            self._end_if_closing()

    async def _calls_done(self) -> None:
        while self._running:
            await self._change()

    async def _change(self) -> None:
        """Wait until another call has ended."""
        if self._changed is None:
            self._changed = trio.Event()
        await self._changed.wait()

    def _release_events(self) -> None:
        self._holding -= 1
        if self._holding or not self._held:
            return
        held, self._held = self._held, None
        for frame in held:
            self.send(frame)

    # Writing and ending

    async def _flush(self) -> None:
        try:
            await self._outbox.flush()
        except trio.TooSlowError:
            self._services.counters.dropped_slow += 1
            self._services.limits.reached["client_stall_timeout"] += 1
            self._abort("it has not read for too long")
        except OSError as error:
            self._abort(str(error))

    def _abort(self, reason: str) -> None:
        if not self._dead:
            self._dead = True
            self._pause_reading()
            log.info("dropping a connection: %s", reason)
            self._nursery.cancel_scope.cancel()
