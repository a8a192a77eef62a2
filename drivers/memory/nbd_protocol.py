"""Numbers and byte layouts of the NBD protocol (fixed newstyle) from its public specification.

Only packing and unpacking; what to answer is decided in `nbd_negotiation` and `nbd_transmission`.
"""

from enum import IntEnum, IntFlag
from struct import Struct
from typing import NamedTuple, TypeAlias

Buffers: TypeAlias = list[bytes | memoryview]
"""A reply in pieces, to be sent one behind the other without joining them."""

MAX_READ = 32 << 20
"""Bytes one read may ask for; the specification lets clients rely on 32 MiB and no more."""
MAX_NAME = 4096
"""Bytes in an export name or a metadata query."""

SERVER_MAGIC = 0x4E42444D41474943
OPTION_MAGIC = 0x49484156454F5054
OPTION_REPLY_MAGIC = 0x3E889045565A9
REQUEST_MAGIC = 0x25609513
SIMPLE_REPLY_MAGIC = 0x67446698
CHUNK_MAGIC = 0x668E33EF

GREETING = Struct(">QQH")
CLIENT_FLAGS = Struct(">I")
OPTION = Struct(">QII")
OPTION_REPLY = Struct(">QIII")
EXPORT_NAME_REPLY = Struct(">QH")
REQUEST = Struct(">IHHQQI")
SIMPLE_REPLY = Struct(">IIQ")
CHUNK = Struct(">IHHQI")
DATA_CHUNK = Struct(">IHHQIQ")
HOLE_CHUNK = Struct(">IHHQIQI")
ERROR_CHUNK = Struct(">IHHQIIH")
U16 = Struct(">H")
U32 = Struct(">I")


class NbdViolation(Exception):
    """The client broke the protocol: end its connection and nothing else."""


class HandshakeFlag(IntFlag):
    """Capabilities both sides announce before haggling."""

    FIXED_NEWSTYLE = 1
    NO_ZEROES = 2


class ExportFlag(IntFlag):
    """What an export can do (transmission flags)."""

    HAS_FLAGS = 1 << 0
    READ_ONLY = 1 << 1
    SEND_FLUSH = 1 << 2
    SEND_FUA = 1 << 3
    SEND_DF = 1 << 7
    CAN_MULTI_CONN = 1 << 8
    SEND_CACHE = 1 << 10


class Option(IntEnum):
    """What a client may ask for while haggling."""

    EXPORT_NAME = 1
    ABORT = 2
    LIST = 3
    STARTTLS = 5
    INFO = 6
    GO = 7
    STRUCTURED_REPLY = 8
    LIST_META_CONTEXT = 9
    SET_META_CONTEXT = 10


class OptionReply(IntEnum):
    """The server's answers to an option."""

    ACK = 1
    SERVER = 2
    INFO = 3
    META_CONTEXT = 4
    ERR_UNSUP = (1 << 31) + 1
    ERR_POLICY = (1 << 31) + 2
    ERR_INVALID = (1 << 31) + 3
    ERR_TLS_REQD = (1 << 31) + 5
    ERR_UNKNOWN = (1 << 31) + 6
    ERR_TOO_BIG = (1 << 31) + 9


class Info(IntEnum):
    """Pieces of information about an export."""

    EXPORT = 0
    NAME = 1
    DESCRIPTION = 2
    BLOCK_SIZE = 3


class Command(IntEnum):
    """What a client may ask for in transmission."""

    READ = 0
    WRITE = 1
    DISC = 2
    FLUSH = 3
    TRIM = 4
    CACHE = 5
    WRITE_ZEROES = 6
    BLOCK_STATUS = 7


class CommandFlag(IntFlag):
    """Modifiers of a command."""

    FUA = 1 << 0
    NO_HOLE = 1 << 1
    DF = 1 << 2
    REQ_ONE = 1 << 3
    FAST_ZERO = 1 << 4


class ChunkType(IntEnum):
    """Kinds of structured reply chunks."""

    NONE = 0
    OFFSET_DATA = 1
    OFFSET_HOLE = 2
    BLOCK_STATUS = 5
    ERROR = (1 << 15) + 1


DONE = 1
"""The flag of the last chunk of a structured reply."""

HOLE, ZERO = 1, 2
"""Bits of an extent in the context base:allocation."""
DIRTY = 1
"""The bit of an extent in a dirty bitmap's context."""


class NbdErrno(IntEnum):
    """Error numbers on the wire, the same on every platform."""

    OK = 0
    EPERM = 1
    EIO = 5
    ENOMEM = 12
    EINVAL = 22
    ENOSPC = 28
    EOVERFLOW = 75


class Request(NamedTuple):
    """One request of the transmission phase."""

    flags: int
    command: int
    cookie: int
    offset: int
    length: int


def option_reply(option: int, reply: OptionReply, payload: bytes = b"") -> bytes:
    """One answer to an option."""
    return OPTION_REPLY.pack(OPTION_REPLY_MAGIC, option, reply, len(payload)) + payload


def parse_request(data: bytes | bytearray, position: int) -> Request:
    """The request at `position`, where enough bytes are known to be."""
    magic, flags, command, cookie, offset, length = REQUEST.unpack_from(data, position)
    if magic != REQUEST_MAGIC:
        raise NbdViolation(f"request begins with {magic:#010x} instead of {REQUEST_MAGIC:#010x}")
    return Request(flags, command, cookie, offset, length)


def simple_reply(cookie: int, error: NbdErrno = NbdErrno.OK) -> bytes:
    """The header of an unstructured reply."""
    return SIMPLE_REPLY.pack(SIMPLE_REPLY_MAGIC, error, cookie)


def data_chunk(cookie: int, flags: int, offset: int, length: int) -> bytes:
    """The header of a chunk that `length` bytes of content follow."""
    kind = ChunkType.OFFSET_DATA
    return DATA_CHUNK.pack(CHUNK_MAGIC, flags, kind, cookie, length + 8, offset)


def hole_chunk(cookie: int, flags: int, offset: int, length: int) -> bytes:
    """A chunk saying that a range reads as zeroes."""
    return HOLE_CHUNK.pack(CHUNK_MAGIC, flags, ChunkType.OFFSET_HOLE, cookie, 12, offset, length)


def status_chunk(cookie: int, flags: int, context: int, extents: list[int]) -> bytes:
    """A chunk of block status; `extents` alternates length and flags."""
    length = 4 + 4 * len(extents)
    header = CHUNK.pack(CHUNK_MAGIC, flags, ChunkType.BLOCK_STATUS, cookie, length)
    return header + Struct(f">I{len(extents)}I").pack(context, *extents)


def empty_chunk(cookie: int) -> bytes:
    """A structured reply without content."""
    return CHUNK.pack(CHUNK_MAGIC, DONE, ChunkType.NONE, cookie, 0)


def error_chunk(cookie: int, error: NbdErrno, message: str) -> bytes:
    """A structured reply that refuses."""
    text = message.encode()
    kind, length = ChunkType.ERROR, 6 + len(text)
    return ERROR_CHUNK.pack(CHUNK_MAGIC, DONE, kind, cookie, length, error, len(text)) + text
