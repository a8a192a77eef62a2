"""Whole, split and mutated frames into the connection core and the decoders behind it.

Whatever comes, only `ProtocolError` leaves the connection, and only a refusal leaves the decoding
of a call. The examples are the same in every run.
"""

import contextlib
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from virtbackupd.protocol import client, message, refusals, schema
from virtbackupd.protocol.connection import Limits, ServerConnection
from virtbackupd.protocol.errors import ProtocolError, RemoteError
from virtbackupd.protocol.message import Call, CallWithFds, Incoming, StreamHole

SCHEMA = schema.load()
DOMAIN = ("test", bytes(range(16)), 1)
WORDS = (0, 1, 2, 3, 4, 6, 27, 28, 33, 60, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 33_554_437)
fuzz = settings(max_examples=400, deadline=None, derandomize=True)


def calls() -> list[bytes]:
    """One good call of each kind of argument."""
    arguments = {
        "AUTH_LIST": (),
        "AUTH_SASL_STEP": (0, b"secret"),
        "CONNECT_OPEN": ("test:///default", 0),
        "CONNECT_SUPPORTS_FEATURE": (10,),
        "CONNECT_LIST_ALL_DOMAINS": (1, 3),
        "CONNECT_GET_ALL_DOMAIN_STATS": ([DOMAIN, DOMAIN], 0, 0),
        "DOMAIN_BACKUP_BEGIN": (DOMAIN, "<domainbackup/>", None, 0),
        "DOMAIN_FSFREEZE": (DOMAIN, ["/", "/home"], 0),
        "SECRET_SET_VALUE": ((bytes(16), 1, "usage"), b"value", 0),
        "DOMAIN_SET_BLOCK_THRESHOLD": (DOMAIN, "vda", 2**40, 0),
        "QEMU_DOMAIN_MONITOR_COMMAND": (DOMAIN, "info block", 1),
    }
    return [
        client.encode_call(SCHEMA.by_name[name], serial, args)
        for serial, (name, args) in enumerate(arguments.items())
    ]


def others() -> list[bytes]:
    source = Call(0x20008086, 1, 208, 3, 0, b"")
    fds = client.Frame(0x20008086, 1, 443, 4, 3, 0, b"\0\0\0\2" + bytes(32))
    return [
        message.ping(),
        message.stream_data(source, b"data"),
        message.stream_hole(source, 4096),
        message.stream_finish(source),
        client.encode_frame(fds) + b"\0\0",
    ]


FRAMES = calls() + others()
frames = st.lists(st.sampled_from(FRAMES), min_size=1, max_size=4).map(b"".join)


def connection() -> ServerConnection:
    return ServerConnection(Limits(anonymous=4096))


def use(incoming: Incoming) -> None:
    """What a server does with a message before anybody is asked."""
    if isinstance(incoming, StreamHole):
        incoming.length()
    if isinstance(incoming, Call | CallWithFds):
        found = refusals.resolve(SCHEMA, incoming)
        error = found if isinstance(found, RemoteError) else refusals.arguments(found, incoming)
        if isinstance(error, RemoteError):
            message.error_reply(incoming, error)


def feed(chunks: list[bytes]) -> list[Incoming]:
    """All messages, up to the first error, which must be the peer's fault."""
    server = connection()
    messages: list[Incoming] = []
    with contextlib.suppress(ProtocolError):
        for chunk in chunks:
            messages += server.receive_data(chunk)
        server.receive_eof()
    for incoming in messages:
        with contextlib.suppress(ProtocolError):
            use(incoming)
    return messages


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    borders = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(borders)]


@given(st.binary(max_size=200))
@fuzz
def test_any_bytes(data: bytes) -> None:
    feed([data])


@given(frames, st.lists(st.integers(0, 10_000), max_size=6))
@fuzz
def test_splitting_changes_nothing(data: bytes, cuts: list[int]) -> None:
    assert feed(split(data, cuts)) == feed([data])


@given(frames)
@fuzz
def test_byte_by_byte_changes_nothing(data: bytes) -> None:
    assert feed([bytes([byte]) for byte in data]) == feed([data])


@given(frames, st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=5))
@fuzz
def test_changed_bytes(data: bytes, changes: list[tuple[int, int]]) -> None:
    mutated = bytearray(data)
    for position, byte in changes:
        mutated[position % len(mutated)] = byte
    feed([bytes(mutated)])


@given(st.sampled_from(FRAMES), st.integers(0, 10_000), st.sampled_from(WORDS))
@fuzz
def test_changed_words_behind_the_length(data: bytes, position: int, word: int) -> None:
    start = 4 + position % ((len(data) - 4) // 4) * 4
    feed([data[:start] + word.to_bytes(4, "big") + data[start + 4 :]])


@given(st.sampled_from(FRAMES), st.integers(0, 10_000))
@fuzz
def test_arguments_cut_short(data: bytes, position: int) -> None:
    end = 28 + position % (len(data) - 27)
    feed([end.to_bytes(4, "big") + data[4:end]])


@given(st.sampled_from(sorted(SCHEMA.by_number)), st.binary(max_size=120))
@fuzz
def test_any_arguments_for_any_procedure(number: tuple[int, int], payload: bytes) -> None:
    frame = client.Frame(number[0], 1, number[1], 0, 1, 0, payload)
    assert len(feed([client.encode_frame(frame)])) == 1
