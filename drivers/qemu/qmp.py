"""One QEMU monitor: commands and their answers, events, and the loss of the socket.

The only module that knows `qemu.qmp` and asyncio; everybody else sees Trio. Several commands may be
under way at once. Events are handed over in order, each before the answers that QEMU sent after
it. Knows no domain and no command.
"""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final, TypeAlias

import trio
import trio_asyncio
from qemu.qmp import EventListener, ExecInterruptedError, Message, QMPClient, QMPError, Runstate
from qemu.qmp.qmp_client import ExecuteError

from virtbackupd.drivers.errors import InternalError
from virtbackupd.drivers.steps import step

OnEvent: TypeAlias = Callable[[str, dict[str, Any], float], None]
"""Name, data, and seconds since the epoch. Must neither wait nor raise."""

DEADLINE: Final = 30.0
"""Seconds that a command may take unless its caller knows better."""
_GREETING_DEADLINE: Final = 30.0
_CLOSE_GRACE: Final = 2.0
# Long lists of bitmaps make long lines; the library's default suits a domain without any.
_LINE_LIMIT: Final = 256 * 1024 * 1024


_silent = logging.getLogger(f"{__name__}.library")
_silent.setLevel(logging.CRITICAL)


class QmpError(InternalError):
    """QEMU refused a command. `class_` is QEMU's, for example CommandNotFound or GenericError."""

    def __init__(self, command: str, class_: str, desc: str) -> None:
        super().__init__(f"QEMU refused {command}: {desc}")
        self.command = command
        self.class_ = class_
        self.desc = desc


class MonitorLost(InternalError):
    """The monitor's socket is gone, or QEMU did not answer in time."""


class _Listener(EventListener):
    """Hands events over at once, so that their order among the answers is kept."""

    def __init__(self, on_event: OnEvent) -> None:
        super().__init__()
        self._on_event = on_event

    async def put(self, event: Message) -> None:
        stamp = event.get("timestamp")
        seconds = stamp.get("seconds", 0) if isinstance(stamp, dict) else 0
        micro = stamp.get("microseconds", 0) if isinstance(stamp, dict) else 0
        data = event.get("data")
        self._on_event(
            str(event["event"]), data if isinstance(data, dict) else {}, seconds + micro / 1e6
        )


class _Client(QMPClient):
    """Silent: an answer that came too late, or a socket that closed, is told by exceptions."""

    def __init__(self) -> None:
        super().__init__(readbuflen=_LINE_LIMIT)
        self.logger = _silent

    # The library's own write each message out for the log, which takes longer than the message.
    def _cb_outbound(self, msg: Message) -> Message:
        return msg

    def _cb_inbound(self, msg: Message) -> Message:
        return msg


class Bridge:
    """The asyncio loop that the monitors of one driver share."""

    def __init__(self, loop: trio_asyncio.BaseTrioEventLoop) -> None:
        self._loop = loop
        self._open: set[Monitor] = set()

    async def open(self, path: Path, on_event: OnEvent, *, name: str) -> "Monitor":
        """Connect and negotiate; MonitorLost when that cannot be done."""
        monitor = Monitor(self._loop, on_event, name, self._open.discard)
        await monitor.connect(path)
        self._open.add(monitor)
        return monitor

    async def close(self) -> None:
        async with trio.open_nursery() as nursery:
            for monitor in tuple(self._open):
                nursery.start_soon(monitor.close)


@asynccontextmanager
async def open_bridge() -> AsyncIterator[Bridge]:
    """Leaving it hangs up every monitor; QEMU goes on."""
    async with trio_asyncio.open_loop() as loop:
        bridge = Bridge(loop)
        try:
            yield bridge
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + _CLOSE_GRACE):
                await bridge.close()


class Monitor:
    """One connection. Once `lost` is set, every command raises MonitorLost."""

    def __init__(
        self,
        loop: trio_asyncio.BaseTrioEventLoop,
        on_event: OnEvent,
        name: str,
        on_close: "Callable[[Monitor], None]",
    ) -> None:
        self._loop = loop
        self._name = name
        self._on_close = on_close
        self._client = _Client()
        self._client.register_listener(_Listener(on_event))
        self._ending = asyncio.Lock()
        self.lost = trio.Event()

    async def connect(self, path: Path) -> None:
        try:
            with trio.fail_after(_GREETING_DEADLINE):
                await self._loop.run_aio_coroutine(self._connect(path))
        except (QMPError, OSError, trio.TooSlowError) as error:
            self.lost.set()
            raise MonitorLost(f"cannot use the monitor of {self._name}: {_text(error)}") from None

    async def execute(
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - part of what the caller knows
    ) -> Any:  # noqa: ANN401 - whatever the command returns
        """The command's result; QmpError when QEMU refuses it."""
        timeout = DEADLINE if timeout is None else timeout
        with self._telling_of_loss(command, timeout):
            return await self._loop.run_aio_coroutine(self._execute(command, arguments))

    async def execute_each(
        self, command: str, arguments: Sequence[Mapping[str, Any]]
    ) -> "list[QmpError | None]":
        """One command for several objects: QEMU gets all of them at once, in this order.

        Tells of each whether QEMU has refused it; what they return is not kept.
        """
        refusals: list[QmpError | None]
        with self._telling_of_loss(command, DEADLINE):
            refusals = await self._loop.run_aio_coroutine(self._execute_each(command, arguments))
        return refusals

    @contextmanager
    def _telling_of_loss(self, command: str, timeout: float) -> Iterator[None]:
        if self.lost.is_set():
            raise MonitorLost(f"the monitor of {self._name} is gone")
        try:
            with trio.fail_after(timeout):
                yield
        except trio.TooSlowError:
            raise MonitorLost(
                f"QEMU did not answer {command} for {self._name} within {timeout:g} s"
            ) from None
        except (QMPError, ExecInterruptedError, OSError) as error:
            raise MonitorLost(
                f"the monitor of {self._name} was lost during {command}: {_text(error)}"
            ) from None

    async def execute_raw(self, message: Mapping[str, Any], *, timeout: float = DEADLINE) -> Any:  # noqa: ANN401, ASYNC109
        """Send a whole message that somebody else wrote; returns QEMU's whole answer."""
        if self.lost.is_set():
            raise MonitorLost(f"the monitor of {self._name} is gone")
        try:
            with trio.fail_after(timeout):
                return await self._loop.run_aio_coroutine(self._raw(message))
        except trio.TooSlowError:
            raise MonitorLost(
                f"QEMU did not answer for {self._name} within {timeout:g} s"
            ) from None
        except (QMPError, OSError) as error:
            raise MonitorLost(f"the monitor of {self._name} was lost: {_text(error)}") from None

    async def send_fd(self, fdname: str, descriptor: int) -> None:
        """Give QEMU a copy of an open file under a name (`getfd`)."""
        # The library sends it at once, and QEMU keeps it for the next command that wants one.
        self._client.send_fd_scm(descriptor)
        await self.execute("getfd", {"fdname": fdname})

    async def read_out(self) -> None:
        """QEMU has ended: hand over what it has said last, then hang up."""
        with trio.move_on_after(_CLOSE_GRACE, shield=True):
            await self.lost.wait()
        await self.close()

    async def close(self) -> None:
        """Hang up; QEMU goes on. Safe to repeat."""
        with trio.move_on_after(_CLOSE_GRACE, shield=True):
            await self._loop.run_aio_coroutine(self._disconnect())

    # What follows runs on the asyncio side.
    async def _connect(self, path: Path) -> None:
        with ExitStack() as undo:
            sock = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            sock.settimeout(0)
            sock.connect(str(path))
            await self._client.connect(sock)
            undo.pop_all()
        self._watch = self._loop.create_task(self._watch_for_loss())

    async def _execute(self, command: str, arguments: Mapping[str, Any] | None) -> Any:  # noqa: ANN401
        step(command)
        try:
            answer = await self._client.execute(command, arguments)
        except ExecuteError as error:
            refusal = error.error.error
            raise QmpError(command, refusal.class_, refusal.desc) from None
        step(f"{command}: answered")
        return answer

    async def _execute_each(
        self, command: str, arguments: Sequence[Mapping[str, Any]]
    ) -> "list[QmpError | None]":
        async def one(its: Mapping[str, Any]) -> QmpError | None:
            try:
                await self._execute(command, its)
            except QmpError as error:
                return error
            return None

        # The tasks begin, and so the commands are sent, in the order of their making.
        return await asyncio.gather(*map(one, arguments))

    async def _watch_for_loss(self) -> None:
        while self._client.runstate is Runstate.RUNNING:
            await self._client.runstate_changed()
        await self._disconnect()

    async def _disconnect(self) -> None:
        self.lost.set()
        async with self._ending:
            if self._client.runstate is Runstate.IDLE:
                return
            try:
                await self._client.disconnect()
            except (QMPError, OSError, EOFError):
                # How the connection ended does not matter once it has.
                return
            finally:
                self._on_close(self)

    async def _raw(self, message: Mapping[str, Any]) -> Any:  # noqa: ANN401
        answer = dict(await self._client._raw(message))  # noqa: SLF001
        answer.pop("id", None)
        return answer


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__
