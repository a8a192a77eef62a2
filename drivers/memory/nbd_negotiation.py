"""The handshake of one NBD connection, from greeting to chosen export: bytes in, bytes out.

Knows neither sockets nor time. What a client may not have gets an error reply and the haggling goes
on; what breaks the protocol raises NbdViolation.
"""

from collections.abc import Callable, Mapping
from struct import Struct
from typing import ClassVar, Final

import msgspec

from virtbackupd.drivers.memory.clusters import CLUSTER
from virtbackupd.drivers.memory.nbd_export import (
    ALLOCATION,
    BITMAP_NAMESPACE,
    NbdExport,
    NbdLimits,
    Status,
)
from virtbackupd.drivers.memory.nbd_protocol import (
    CLIENT_FLAGS,
    EXPORT_NAME_REPLY,
    GREETING,
    MAX_NAME,
    MAX_READ,
    OPTION,
    OPTION_MAGIC,
    SERVER_MAGIC,
    U16,
    U32,
    ExportFlag,
    HandshakeFlag,
    Info,
    NbdViolation,
    Option,
    OptionReply,
    option_reply,
)

_HANDSHAKE = HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES
_EXPORT_FLAGS = (
    ExportFlag.HAS_FLAGS
    | ExportFlag.READ_ONLY
    | ExportFlag.SEND_FLUSH
    | ExportFlag.SEND_FUA
    | ExportFlag.CAN_MULTI_CONN
    | ExportFlag.SEND_CACHE
)
_QUOTED = 256
"""Characters of a client's own words in a refusal, which like every string is limited to 4096."""
_NAMESPACES = {"base:": ALLOCATION, "qemu:": "qemu:", BITMAP_NAMESPACE: BITMAP_NAMESPACE}
"""Queries that ask for every context whose name begins with the value."""


class Session(msgspec.Struct, frozen=True):
    """What a client has agreed on: the terms of the transmission phase."""

    export: NbdExport
    structured: bool
    contexts: tuple[tuple[int, Status], ...]


class _Refusal(Exception):
    """An option answered with an error."""

    def __init__(self, reply: OptionReply, message: str) -> None:
        super().__init__(message)
        self.reply = reply


class _Fields:
    """The data of an option, read from front to back with every length checked."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def number(self, layout: Struct = U32) -> int:
        (value,) = layout.unpack(self._take(layout.size))
        return int(value)

    def text(self) -> str:
        length = self.number()
        if length > MAX_NAME:
            raise _Refusal(OptionReply.ERR_TOO_BIG, f"a name of {length} bytes is too long")
        return _decoded(self._take(length))

    def end(self) -> None:
        if self._position != len(self._data):
            raise _Refusal(OptionReply.ERR_INVALID, "the option has bytes left over")

    def _take(self, length: int) -> bytes:
        piece = self._data[self._position : self._position + length]
        if len(piece) != length:
            raise _Refusal(OptionReply.ERR_INVALID, "the option ends too early")
        self._position += length
        return piece


_BEFORE_TLS: Final = (Option.STARTTLS, Option.ABORT)


class Negotiation:
    """One client's handshake. Feed it with `receive` until `session` is set or `closed`."""

    def __init__(
        self, exports: Mapping[str, NbdExport], limits: NbdLimits, *, tls: bool = False
    ) -> None:
        """With `tls` nothing is said to a client before it has begun that."""
        self.starting_tls = False
        """Everything after what `receive` returned is encrypted; the caller sets it back."""
        self._tls, self._plain = tls, tls
        self.session: Session | None = None
        self.closed = False
        self.rest = bytearray()
        """Received and not used yet; after the handshake, the first bytes of transmission."""
        self._exports = exports
        self._limits = limits
        self._flags: int | None = None
        self._structured = False
        self._contexts: dict[str, Status] = {}
        self._contexts_of: NbdExport | None = None
        self._options = 0

    @staticmethod
    def greeting() -> bytes:
        """What the server says first."""
        return GREETING.pack(SERVER_MAGIC, OPTION_MAGIC, _HANDSHAKE)

    def receive(self, data: bytes) -> bytes:
        """Take in what arrived and return what to send."""
        self.rest += data
        replies = bytearray()
        if self._flags is None and not self._read_flags():
            return b""
        while self.session is None and not self.closed and not self.starting_tls:
            option = self._next_option()
            if option is None:
                break
            replies += self._answer(*option)
        return bytes(replies)

    def _read_flags(self) -> bool:
        if len(self.rest) < CLIENT_FLAGS.size:
            return False
        (flags,) = CLIENT_FLAGS.unpack_from(self.rest)
        if flags & ~int(_HANDSHAKE):
            raise NbdViolation(f"client flags {flags:#x} hold unknown bits")
        del self.rest[: CLIENT_FLAGS.size]
        self._flags = flags
        return True

    def _next_option(self) -> tuple[int, bytes] | None:
        if len(self.rest) < OPTION.size:
            return None
        magic, number, length = OPTION.unpack_from(self.rest)
        self._check_option(magic, number, length)
        end = OPTION.size + length
        if len(self.rest) < end:
            return None
        data = bytes(self.rest[OPTION.size : end])
        del self.rest[:end]
        self._options += 1
        return number, data

    def _check_option(self, magic: int, number: int, length: int) -> None:
        if magic != OPTION_MAGIC:
            raise NbdViolation(f"option begins with {magic:#018x}")
        if length > self._limits.option_bytes:
            raise NbdViolation(f"option {number} has {length} bytes of data")
        if self._options >= self._limits.options:
            raise NbdViolation(f"client sent {self._options} options without choosing an export")

    def _answer(self, number: int, data: bytes) -> bytes:
        answer = self._OPTIONS.get(number)
        try:
            if self._plain and number not in _BEFORE_TLS:
                self._demand_tls(number)
            if answer is None:
                raise _Refusal(OptionReply.ERR_UNSUP, f"option {number} is not supported")
            return answer(self, number, data)
        except _Refusal as refusal:
            return option_reply(number, refusal.reply, str(refusal).encode())

    def _export(self, name: str) -> NbdExport:
        export = self._exports.get(name)
        if export is None and not name and len(self._exports) == 1:
            # The empty name asks for the default export; with one export there is no doubt.
            export = next(iter(self._exports.values()))
        if export is None:
            raise _Refusal(OptionReply.ERR_UNKNOWN, f"there is no export named '{name[:_QUOTED]}'")
        return export

    def _choose(self, export: NbdExport) -> None:
        contexts = self._contexts if self._contexts_of is export else {}
        self.session = Session(export, self._structured, tuple(enumerate(contexts.values(), 1)))

    def _export_flags(self) -> int:
        return _EXPORT_FLAGS | (ExportFlag.SEND_DF if self._structured else 0)

    def _on_export_name(self, _number: int, data: bytes) -> bytes:
        try:
            export = self._export(_decoded(data))
        except _Refusal as refusal:
            raise NbdViolation(str(refusal)) from refusal
        self._choose(export)
        zeroes = b"" if (self._flags or 0) & HandshakeFlag.NO_ZEROES else bytes(124)
        return EXPORT_NAME_REPLY.pack(export.view.capacity, self._export_flags()) + zeroes

    def _on_abort(self, number: int, _data: bytes) -> bytes:
        self.closed = True
        return option_reply(number, OptionReply.ACK)

    def _on_list(self, number: int, data: bytes) -> bytes:
        _Fields(data).end()
        replies = bytearray()
        for export in self._exports.values():
            name = export.name.encode()
            payload = U32.pack(len(name)) + name + export.description.encode()
            replies += option_reply(number, OptionReply.SERVER, payload)
        return bytes(replies) + option_reply(number, OptionReply.ACK)

    def _demand_tls(self, number: int) -> None:
        if number == Option.EXPORT_NAME:
            raise NbdViolation("client asked for an export without TLS")
        raise _Refusal(OptionReply.ERR_TLS_REQD, "this server wants TLS first")

    def _on_starttls(self, number: int, data: bytes) -> bytes:
        """What was agreed on before, or sent along, is not to be trusted."""
        if not self._tls:
            raise _Refusal(OptionReply.ERR_POLICY, "this server is not set up for TLS")
        if not self._plain:
            raise _Refusal(OptionReply.ERR_INVALID, "TLS has begun already")
        _Fields(data).end()
        if self.rest:
            raise NbdViolation(f"client sent {len(self.rest)} bytes before TLS began")
        self._plain = False
        self.starting_tls = True
        return option_reply(number, OptionReply.ACK)

    def _on_structured_reply(self, number: int, data: bytes) -> bytes:
        _Fields(data).end()
        self._structured = True
        return option_reply(number, OptionReply.ACK)

    def _on_info(self, number: int, data: bytes) -> bytes:
        fields = _Fields(data)
        export = self._export(fields.text())
        wanted = {fields.number(U16) for _ in range(fields.number(U16))}
        fields.end()
        if number == Option.GO:
            self._choose(export)
        return self._infos(number, export, wanted) + option_reply(number, OptionReply.ACK)

    def _infos(self, number: int, export: NbdExport, wanted: set[int]) -> bytes:
        infos = {
            Info.NAME: export.name.encode(),
            Info.DESCRIPTION: export.description.encode(),
            Info.BLOCK_SIZE: U32.pack(1) + U32.pack(CLUSTER) + U32.pack(MAX_READ),
        }
        chosen = {info: payload for info, payload in infos.items() if info in wanted and payload}
        size = export.view.capacity.to_bytes(8, "big")
        chosen[Info.EXPORT] = size + U16.pack(self._export_flags())
        replies = (U16.pack(info) + payload for info, payload in chosen.items())
        return b"".join(option_reply(number, OptionReply.INFO, reply) for reply in replies)

    def _on_meta_context(self, number: int, data: bytes) -> bytes:
        if not self._structured:
            raise _Refusal(OptionReply.ERR_INVALID, "structured replies must be agreed on first")
        fields = _Fields(data)
        export = self._export(fields.text())
        queries = [fields.text() for _ in range(self._query_count(fields))]
        fields.end()
        if number == Option.LIST_META_CONTEXT:
            return _context_replies(number, _listed(export, queries), first=0, step=0)
        available = export.contexts()
        self._contexts_of = export
        self._contexts = {query: available[query] for query in queries if query in available}
        return _context_replies(number, list(self._contexts), first=1, step=1)

    def _query_count(self, fields: _Fields) -> int:
        count = fields.number()
        if count > self._limits.option_bytes // U32.size:
            raise _Refusal(OptionReply.ERR_TOO_BIG, f"{count} queries are too many")
        return count

    _OPTIONS: ClassVar[Mapping[int, Callable[["Negotiation", int, bytes], bytes]]] = {
        Option.EXPORT_NAME: _on_export_name,
        Option.ABORT: _on_abort,
        Option.LIST: _on_list,
        Option.STARTTLS: _on_starttls,
        Option.INFO: _on_info,
        Option.GO: _on_info,
        Option.STRUCTURED_REPLY: _on_structured_reply,
        Option.LIST_META_CONTEXT: _on_meta_context,
        Option.SET_META_CONTEXT: _on_meta_context,
    }


def _decoded(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise _Refusal(OptionReply.ERR_INVALID, "a name is not valid UTF-8") from error


def _listed(export: NbdExport, queries: list[str]) -> list[str]:
    names = list(export.contexts())
    if not queries:
        return names
    prefixes = tuple(_NAMESPACES[query] for query in queries if query in _NAMESPACES)
    return [name for name in names if name in queries or name.startswith(prefixes)]


def _context_replies(number: int, names: list[str], *, first: int, step: int) -> bytes:
    replies = bytearray()
    for position, name in enumerate(names):
        payload = U32.pack(first + step * position) + name.encode()
        replies += option_reply(number, OptionReply.META_CONTEXT, payload)
    return bytes(replies) + option_reply(number, OptionReply.ACK)
