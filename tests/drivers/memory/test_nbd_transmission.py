"""NBD requests and their replies byte by byte, without a socket."""

from struct import pack, unpack, unpack_from

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtbackupd.drivers.memory.bitmap import DirtyMap
from virtbackupd.drivers.memory.clusters import CLUSTER
from virtbackupd.drivers.memory.image import Image
from virtbackupd.drivers.memory.nbd_export import NbdExport, NbdLimits
from virtbackupd.drivers.memory.nbd_negotiation import Session
from virtbackupd.drivers.memory.nbd_protocol import (
    CHUNK,
    CHUNK_MAGIC,
    REQUEST_MAGIC,
    SIMPLE_REPLY_MAGIC,
    ChunkType,
    Command,
    CommandFlag,
    NbdErrno,
    NbdViolation,
)
from virtbackupd.drivers.memory.nbd_transmission import Transmission

CAPACITY = 4 * CLUSTER
COOKIE = 0x1122334455667788


@pytest.fixture
def image() -> Image:
    image = Image(CAPACITY, path="/images/a")
    image.fill(CLUSTER, CLUSTER, 0xAB)
    return image


def serve(
    image: Image, *, structured: bool = True, limits: NbdLimits | None = None
) -> Transmission:
    export = NbdExport("vda", image, {"day": DirtyMap([0, 2])})
    contexts = tuple(enumerate(export.contexts().values(), 1)) if structured else ()
    return Transmission(Session(export, structured, contexts), limits or NbdLimits())


def request(command: int, offset: int = 0, length: int = 0, flags: int = 0) -> bytes:
    return pack(">IHHQQI", REQUEST_MAGIC, flags, command, COOKIE, offset, length)


def ask(server: Transmission, *what: int) -> bytes:
    (reply,) = server.receive(request(*what))
    return b"".join(reply)


def chunks(data: bytes) -> list[tuple[int, int, bytes]]:
    """The (flags, type, payload) of each chunk of a structured reply."""
    found = []
    while data:
        magic, flags, kind, cookie, length = CHUNK.unpack_from(data)
        assert (magic, cookie) == (CHUNK_MAGIC, COOKIE)
        found.append((flags, kind, data[20 : 20 + length]))
        data = data[20 + length :]
    return found


def error_of(data: bytes) -> int:
    ((flags, kind, payload),) = chunks(data)
    assert (flags, kind) == (1, ChunkType.ERROR)
    number, length = unpack_from(">IH", payload)
    assert length == len(payload) - 6
    return int(number)


def test_a_simple_read(image: Image) -> None:
    reply = ask(serve(image, structured=False), Command.READ, CLUSTER - 2, 4)
    assert reply == pack(">IIQ", SIMPLE_REPLY_MAGIC, 0, COOKIE) + b"\0\0\xab\xab"


def test_a_structured_read_separates_holes(image: Image) -> None:
    reply = ask(serve(image), Command.READ, CLUSTER - 2, 4)
    assert chunks(reply) == [
        (0, ChunkType.OFFSET_HOLE, pack(">QI", CLUSTER - 2, 2)),
        (1, ChunkType.OFFSET_DATA, pack(">Q", CLUSTER) + b"\xab\xab"),
    ]


def test_a_read_in_one_piece(image: Image) -> None:
    reply = ask(serve(image), Command.READ, CLUSTER - 2, 4, CommandFlag.DF)
    payload = pack(">Q", CLUSTER - 2) + b"\0\0\xab\xab"
    assert chunks(reply) == [(1, ChunkType.OFFSET_DATA, payload)]


def test_contents_are_not_copied(image: Image) -> None:
    (reply,) = serve(image).receive(request(Command.READ, CLUSTER, CLUSTER))
    assert reply[1] is image.cluster(1)


@pytest.mark.parametrize("command", [Command.FLUSH, Command.CACHE, Command.READ])
def test_nothing_to_do_is_done(image: Image, command: Command) -> None:
    assert chunks(ask(serve(image), command, 0, 0)) == [(1, ChunkType.NONE, b"")]


def test_a_simple_flush(image: Image) -> None:
    reply = ask(serve(image, structured=False), Command.FLUSH)
    assert reply == pack(">IIQ", SIMPLE_REPLY_MAGIC, 0, COOKIE)


@pytest.mark.parametrize("command", [Command.READ, Command.CACHE, Command.BLOCK_STATUS])
@pytest.mark.parametrize("offset", [CAPACITY, CAPACITY - 1, 2**64 - 1])
def test_requests_beyond_the_end_are_invalid(image: Image, command: Command, offset: int) -> None:
    assert error_of(ask(serve(image), command, offset, 2)) == NbdErrno.EINVAL


def test_a_read_has_a_limit() -> None:
    server = serve(Image(1 << 30, path="a"))
    assert error_of(ask(server, Command.READ, 0, (32 << 20) + 1)) == NbdErrno.EINVAL
    assert len(chunks(ask(server, Command.READ, 0, 32 << 20))) == 1


@pytest.mark.parametrize("command", [Command.TRIM, Command.WRITE_ZEROES])
@pytest.mark.parametrize("flags", [0, CommandFlag.FUA, CommandFlag.NO_HOLE])
def test_changes_are_not_permitted(image: Image, command: Command, flags: int) -> None:
    assert error_of(ask(serve(image), command, 0, 10, flags)) == NbdErrno.EPERM


def test_the_data_of_a_write_is_passed_over(image: Image) -> None:
    stream = request(Command.WRITE, 0, 5) + b"xxxxx" + request(Command.FLUSH)
    replies = [b"".join(reply) for reply in serve(image).receive(stream)]
    assert error_of(replies[0]) == NbdErrno.EPERM
    assert chunks(replies[1]) == [(1, ChunkType.NONE, b"")]


def test_an_oversized_write_ends_the_connection(image: Image) -> None:
    with pytest.raises(NbdViolation):
        ask(serve(image), Command.WRITE, 0, (32 << 20) + 1)


@pytest.mark.parametrize(("command", "flags"), [(99, 0), (Command.READ, 0x100), (Command.FLUSH, 8)])
def test_unknown_commands_and_flags_are_invalid(image: Image, command: int, flags: int) -> None:
    assert error_of(ask(serve(image), command, 0, 1, flags)) == NbdErrno.EINVAL


def test_a_simple_error(image: Image) -> None:
    reply = ask(serve(image, structured=False), 99)
    assert reply == pack(">IIQ", SIMPLE_REPLY_MAGIC, NbdErrno.EINVAL, COOKIE)


def test_a_wrong_magic_ends_the_connection(image: Image) -> None:
    with pytest.raises(NbdViolation, match="request begins with"):
        list(serve(image).receive(bytes(28)))


def test_goodbye_has_no_reply(image: Image) -> None:
    server = serve(image)
    assert list(server.receive(request(Command.DISC) + request(Command.FLUSH))) == []
    assert server.finished


def status(data: bytes) -> dict[int, list[tuple[int, int]]]:
    found = {}
    for _, kind, payload in chunks(data):
        assert kind == ChunkType.BLOCK_STATUS
        context, *flat = unpack(f">{len(payload) // 4}I", payload)
        found[context] = list(zip(flat[::2], flat[1::2], strict=True))
    return found


def test_block_status_of_each_context(image: Image) -> None:
    assert status(ask(serve(image), Command.BLOCK_STATUS, 0, CAPACITY)) == {
        1: [(CLUSTER, 3), (CLUSTER, 0), (2 * CLUSTER, 3)],
        2: [(CLUSTER, 1), (CLUSTER, 0), (CLUSTER, 1), (CLUSTER, 0)],
    }


def test_only_the_last_status_chunk_is_done(image: Image) -> None:
    reply = ask(serve(image), Command.BLOCK_STATUS, 0, 1)
    assert [flags for flags, _, _ in chunks(reply)] == [0, 1]


def test_one_extent_when_one_is_asked_for(image: Image) -> None:
    reply = ask(serve(image), Command.BLOCK_STATUS, 10, CAPACITY - 10, CommandFlag.REQ_ONE)
    assert status(reply) == {1: [(CLUSTER - 10, 3)], 2: [(CLUSTER - 10, 1)]}


def test_extents_are_bounded(image: Image) -> None:
    server = serve(image, limits=NbdLimits(extents=2))
    reply = status(ask(server, Command.BLOCK_STATUS, 0, CAPACITY))
    assert [len(extents) for extents in reply.values()] == [2, 2]


def test_four_gibibytes_of_nothing_are_one_extent() -> None:
    reply = status(ask(serve(Image(1 << 40, path="a")), Command.BLOCK_STATUS, 0, 0xFFFFFFFF))
    assert reply[1] == [(0xFFFFFFFF, 3)]


def test_status_of_nothing_is_invalid(image: Image) -> None:
    assert error_of(ask(serve(image), Command.BLOCK_STATUS, 0, 0)) == NbdErrno.EINVAL


def test_status_without_a_context_is_invalid(image: Image) -> None:
    reply = ask(serve(image, structured=False), Command.BLOCK_STATUS, 0, 1)
    assert unpack_from(">I", reply, 4) == (NbdErrno.EINVAL,)


def test_a_broken_view_is_an_io_error(image: Image) -> None:
    frozen = image.freeze()
    frozen.preserve_limit = 0
    image.write(CLUSTER, b"x")
    session = Session(NbdExport("vda", frozen), structured=True, contexts=())
    reply = ask(Transmission(session, NbdLimits()), Command.READ, CLUSTER, 1)
    assert error_of(reply) == NbdErrno.EIO


def test_reads_are_observed(image: Image) -> None:
    seen: list[tuple[str, int, int, int]] = []
    export = NbdExport("vda", image)
    server = Transmission(
        Session(export, structured=True, contexts=()),
        NbdLimits(),
        lambda export, command, offset, length: seen.append((export.name, command, offset, length)),
    )
    ask(server, Command.READ, 5, 7)
    assert seen == [("vda", Command.READ, 5, 7)]


def assemble(reply: bytes, offset: int, length: int) -> bytes:
    data = bytearray(b"?" * length)
    for _, kind, payload in chunks(reply):
        (start,) = unpack_from(">Q", payload) if payload else (offset,)
        hole = kind == ChunkType.OFFSET_HOLE
        content = bytes(unpack_from(">I", payload, 8)[0]) if hole else payload[8:]
        data[start - offset : start - offset + len(content)] = content
    return bytes(data)


@given(st.integers(0, CAPACITY), st.integers(0, CAPACITY), st.sets(st.integers(0, 3)))
def test_a_structured_read_adds_up(offset: int, length: int, data: set[int]) -> None:
    image = Image(CAPACITY, path="a")
    for index in data:
        image.fill_pattern(1, index * CLUSTER, CLUSTER)
    length = min(length, CAPACITY - offset)
    reply = ask(serve(image), Command.READ, offset, length)
    assert assemble(reply, offset, length) == image.read(offset, length)


@given(st.lists(st.integers(1, 40), max_size=20))
def test_requests_survive_any_split(cuts: list[int]) -> None:
    server = serve(Image(CAPACITY, path="a"))
    stream = (request(Command.WRITE, 0, 9) + b"123456789" + request(Command.FLUSH)) * 3
    replies = 0
    for cut in [*cuts, len(stream)]:
        replies += len(list(server.receive(stream[:cut])))
        stream = stream[cut:]
    assert replies == 6


@given(st.binary(max_size=100), st.booleans())
def test_any_bytes_are_answered_or_end_the_connection(noise: bytes, framed: bool) -> None:
    server = serve(Image(CAPACITY, path="a"))
    stream = pack(">I", REQUEST_MAGIC) + noise if framed else noise
    try:
        replies = list(server.receive(stream))
    except NbdViolation:
        return
    assert not replies or framed
