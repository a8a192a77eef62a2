"""Servers for tests: in the loop of a Trio test, or in a thread of their own.

Both are the same daemon on the same in-memory state, without a process of its own. Knows no command
and no wire.
"""

import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Final, Unpack

import trio

from virtbackupd.drivers.errors import DriverError
from virtbackupd.server import daemon
from virtbackupd.testing.loop import Loop
from virtbackupd.testing.options import Options, Prepared, ServeOptions, StartError, prepared
from virtbackupd.testing.server import Server

if TYPE_CHECKING:
    from virtbackupd.server.services import Services

START_DEADLINE: Final = 60.0
STOP_DEADLINE: Final = 20.0
"""Seconds; longer than all that the daemon itself allows for its end."""


@contextmanager
def serve(**options: Unpack[ServeOptions]) -> Iterator[Server]:
    """A server in a thread, for synchronous code; its handle can be used from every thread.

    The options are those of `ServeOptions`, all of which may be left out. StartError when the
    server cannot start with them.
    """
    thread = _ServerThread(Options(**options))
    try:
        yield thread.start()
    finally:
        thread.stop()


@asynccontextmanager
async def open_server(**options: Unpack[ServeOptions]) -> AsyncIterator[Server]:
    """A server in the loop that runs, with the same options.

    Clients that block, as libvirt-python does, belong into threads then.
    """
    async with _opened(Options(**options)) as server:
        yield server


@asynccontextmanager
async def _opened(options: Options) -> AsyncIterator[Server]:
    body = _Postponed()
    try:
        with prepared(options) as ready:
            async with _running(ready, options) as server:
                with body:
                    yield server
    except ExceptionGroup as error:
        reason = _explained(error)
        # Who reads what a test printed is to see the reason, not its way through the daemon.
        raise reason from (None if isinstance(reason, StartError) else error)
    body.raise_again()


@asynccontextmanager
async def _running(ready: Prepared, options: Options) -> AsyncIterator[Server]:
    end = trio.Event()
    loop = Loop()
    async with trio.open_nursery() as nursery:
        run = partial(daemon.serve, ready.config, _nothing, end.wait)
        services: Services = await nursery.start(run)
        server = Server(loop, ready, services)
        try:
            if options.faults is not None:
                await trio.to_thread.run_sync(server.faults.load, options.faults)
            yield server
        finally:
            loop.end()
            end.set()


def _nothing() -> None:
    """Nobody has to be told in other ways that the server is ready."""


def _explained(error: Exception) -> Exception:
    """The one reason within nested groups."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return StartError(error.message) if isinstance(error, DriverError) else error


class _Postponed:
    """Keeps what its block raises until the server has ended, so that no group wraps it."""

    def __init__(self) -> None:
        self._error: Exception | None = None

    def __enter__(self) -> None:
        """Nothing to give."""

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> bool:
        if isinstance(error, Exception):
            self._error = error
        return self._error is not None

    def raise_again(self) -> None:
        if self._error is not None:
            raise self._error


class _ServerThread:
    """Runs one server from `start` to `stop`."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._started: Future[Server] = Future()
        self._ended: Future[None] = Future()
        self._stop: trio.Event | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        # A daemon thread: one that hangs must not keep the tests from ending.
        self._thread = threading.Thread(target=self._run, name="virtbackupd", daemon=True)

    def start(self) -> Server:
        self._thread.start()
        try:
            return self._started.result(START_DEADLINE)
        except TimeoutError:
            raise StartError(f"the server is not ready after {START_DEADLINE:.0f} s") from None

    def stop(self) -> None:
        """What made the server end before it was asked to is raised here."""
        if self._token is not None and self._stop is not None:
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._stop.set)
        self._thread.join(STOP_DEADLINE)
        if self._thread.is_alive():
            raise RuntimeError(f"the server has not ended after {STOP_DEADLINE:.0f} s")
        self._ended.result(0)

    def _run(self) -> None:
        try:
            trio.run(self._serve)
        except Exception as error:  # noqa: BLE001 - the boundary of the thread: somebody waits for it
            self._fail(error)
        else:
            self._ended.set_result(None)

    def _fail(self, error: Exception) -> None:
        if self._started.done():
            self._ended.set_exception(error)
        else:
            self._ended.set_result(None)
            self._started.set_exception(error)

    async def _serve(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._stop = trio.Event()
        async with _opened(self._options) as server:
            self._started.set_result(server)
            await self._stop.wait()
