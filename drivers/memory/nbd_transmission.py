"""The transmission phase of one NBD connection: requests in, replies as buffers out.

Every export is read-only. Contents are never copied: a reply is a header and slices of the disk's
clusters. Knows neither sockets nor time.
"""

import errno
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import ClassVar

from virtbackupd.drivers.memory.nbd_export import NbdLimits, Observer
from virtbackupd.drivers.memory.nbd_negotiation import Session
from virtbackupd.drivers.memory.nbd_protocol import (
    DONE,
    MAX_READ,
    REQUEST,
    Buffers,
    Command,
    CommandFlag,
    NbdErrno,
    NbdViolation,
    Request,
    data_chunk,
    empty_chunk,
    error_chunk,
    hole_chunk,
    parse_request,
    simple_reply,
    status_chunk,
)

_FUA = int(CommandFlag.FUA)
_ANY_FLAG = 0xFFFF
_KNOWN_FLAGS: Mapping[int, int] = {
    Command.READ: _FUA | CommandFlag.DF.value,
    Command.WRITE: _ANY_FLAG,
    Command.FLUSH: _FUA,
    Command.TRIM: _ANY_FLAG,
    Command.CACHE: _FUA,
    Command.WRITE_ZEROES: _ANY_FLAG,
    Command.BLOCK_STATUS: _FUA | CommandFlag.REQ_ONE.value,
}
"""Flags a command may carry; what is refused anyway is refused whatever its flags."""
_WITH_RANGE = frozenset({Command.READ, Command.CACHE, Command.BLOCK_STATUS})


class _Refusal(Exception):
    """A request answered with an error."""

    def __init__(self, error: NbdErrno, message: str) -> None:
        super().__init__(message)
        self.error = error


class Transmission:
    """One client's requests, answered one after the other."""

    def __init__(
        self, session: Session, limits: NbdLimits, observer: Observer | None = None
    ) -> None:
        self.finished = False
        """The client has said good-bye."""
        self.current: Request | None = None
        """The request that the last reply is to."""
        self._export = session.export
        self._view = session.export.view
        self._structured = session.structured
        self._contexts = session.contexts
        self._limits = limits
        self._observer = observer
        self._pending = bytearray()
        self._skip = 0

    def receive(self, data: bytes | bytearray) -> Iterator[Buffers]:
        """The replies to what arrived, each made only when asked for."""
        self._pending += data
        position = self._skipped(0)
        while len(self._pending) - position >= REQUEST.size and not self.finished:
            request = parse_request(self._pending, position)
            position = self._after(request, position + REQUEST.size)
            if request.command == Command.DISC:
                self.finished = True
            else:
                self.current = request
                yield self.answer(request)
        del self._pending[:position]

    @property
    def export_name(self) -> str:
        return self._export.name

    def answer(self, request: Request) -> Buffers:
        """The reply to one request."""
        try:
            return self._reply(request)
        except _Refusal as refusal:
            return self.refuse(request, refusal.error, str(refusal))
        except OSError as error:
            reason = error.strerror or errno.errorcode.get(error.errno or 0, "I/O error")
            return self.refuse(request, NbdErrno.EIO, reason)

    def _after(self, request: Request, position: int) -> int:
        """Where the next request begins: the data of a write is passed over."""
        if request.command == Command.WRITE:
            if request.length > MAX_READ:
                raise NbdViolation(f"write of {request.length} bytes")
            self._skip = request.length
            return self._skipped(position)
        return position

    def _skipped(self, position: int) -> int:
        step = min(self._skip, len(self._pending) - position)
        self._skip -= step
        return position + step

    def _reply(self, request: Request) -> Buffers:
        answer = self._COMMANDS.get(request.command)
        if answer is None:
            raise _Refusal(NbdErrno.EINVAL, f"command {request.command} is unknown")
        if request.flags & ~_KNOWN_FLAGS[request.command]:
            raise _Refusal(NbdErrno.EINVAL, f"flags {request.flags:#x} do not fit the command")
        if request.command in _WITH_RANGE:
            self._check_range(request)
        return answer(self, request)

    def _check_range(self, request: Request) -> None:
        end, capacity = request.offset + request.length, self._view.capacity
        if end > capacity:
            raise _Refusal(NbdErrno.EINVAL, f"the request ends at {end}, the export at {capacity}")
        if self._observer is not None:
            self._observer(self._export, request.command, request.offset, request.length)

    def refuse(self, request: Request, error: NbdErrno, message: str) -> Buffers:
        """The reply to a request that is not carried out."""
        if self._structured:
            return [error_chunk(request.cookie, error, message)]
        return [simple_reply(request.cookie, error)]

    def _read(self, request: Request) -> Buffers:
        if request.length > MAX_READ:
            raise _Refusal(NbdErrno.EINVAL, f"a read is limited to {MAX_READ} bytes")
        if not self._structured:
            header = simple_reply(request.cookie)
            return [header, *self._view.read_slices(request.offset, request.length)]
        if request.flags & CommandFlag.DF:
            return self._data(request.cookie, DONE, request.offset, request.length)
        return self._chunks(request)

    def _chunks(self, request: Request) -> Buffers:
        cookie, end = request.cookie, request.offset + request.length
        buffers: Buffers = []
        for offset, length, _, zero in self._view.extents(request.offset, request.length):
            flags = DONE if offset + length == end else 0
            if zero:
                buffers.append(hole_chunk(cookie, flags, offset, length))
            else:
                buffers += self._data(cookie, flags, offset, length)
        return buffers or [empty_chunk(cookie)]

    def _data(self, cookie: int, flags: int, offset: int, length: int) -> Buffers:
        header = data_chunk(cookie, flags, offset, length)
        return [header, *self._view.read_slices(offset, length)]

    def _block_status(self, request: Request) -> Buffers:
        if not self._contexts:
            raise _Refusal(NbdErrno.EINVAL, "no metadata context was selected")
        if not request.length:
            raise _Refusal(NbdErrno.EINVAL, "block status of no bytes")
        limit = 1 if request.flags & CommandFlag.REQ_ONE else self._limits.extents
        last = self._contexts[-1][0]
        buffers: Buffers = []
        for number, status in self._contexts:
            extents = islice(status(request.offset, request.length), limit)
            flat = [value for extent in extents for value in extent]
            flags = DONE if number == last else 0
            buffers.append(status_chunk(request.cookie, flags, number, flat))
        return buffers

    def _nothing_to_do(self, request: Request) -> Buffers:
        if self._structured:
            return [empty_chunk(request.cookie)]
        return [simple_reply(request.cookie)]

    def _no_writing(self, _request: Request) -> Buffers:
        raise _Refusal(NbdErrno.EPERM, "the export is read-only")

    _COMMANDS: ClassVar[Mapping[int, Callable[["Transmission", Request], Buffers]]] = {
        Command.READ: _read,
        Command.WRITE: _no_writing,
        Command.FLUSH: _nothing_to_do,
        Command.TRIM: _no_writing,
        Command.CACHE: _nothing_to_do,
        Command.WRITE_ZEROES: _no_writing,
        Command.BLOCK_STATUS: _block_status,
    }
