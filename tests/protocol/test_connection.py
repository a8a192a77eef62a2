"""Incoming bytes to messages: every frame type, every limit, every way to cut the bytes."""

import pytest

from virtbackupd.protocol import message, schema
from virtbackupd.protocol.client import Frame, encode_call, encode_frame
from virtbackupd.protocol.connection import Limits, ServerConnection
from virtbackupd.protocol.errors import ProtocolError
from virtbackupd.protocol.message import (
    Call,
    CallWithFds,
    Incoming,
    KeepalivePing,
    KeepalivePong,
    MessageType,
    Stray,
    StreamData,
    StreamHole,
)

REMOTE = 0x20008086
FEATURE = encode_call(schema.load().by_name["CONNECT_SUPPORTS_FEATURE"], 5, (10,))
FEATURE_CALL = Call(REMOTE, 1, 60, 5, 0, b"\0\0\0\n")


def frame(kind: int, payload: bytes = b"", status: int = 0, program: int = REMOTE) -> bytes:
    return encode_frame(Frame(program, 1, 1, kind, 5, status, payload))


def received(data: bytes) -> list[Incoming]:
    connection = ServerConnection()
    messages = connection.receive_data(data)
    connection.receive_eof()
    return messages


def test_call() -> None:
    assert received(FEATURE) == [FEATURE_CALL]


def test_several_calls_in_one_chunk() -> None:
    assert received(FEATURE * 3) == [FEATURE_CALL] * 3


def test_nothing_in_an_empty_chunk() -> None:
    assert received(b"") == []


def test_byte_by_byte() -> None:
    connection = ServerConnection()
    pieces = [connection.receive_data(bytes([byte])) for byte in FEATURE * 2]
    assert [piece for piece in pieces if piece] == [[FEATURE_CALL], [FEATURE_CALL]]


@pytest.mark.parametrize("cut", range(len(FEATURE) * 2))
def test_cut_anywhere(cut: int) -> None:
    connection = ServerConnection()
    data = FEATURE * 2
    assert connection.receive_data(data[:cut]) + connection.receive_data(data[cut:]) == [
        FEATURE_CALL,
        FEATURE_CALL,
    ]


def test_status_of_a_call_is_left_to_the_dispatch() -> None:
    assert received(frame(MessageType.CALL, status=1)) == [Call(REMOTE, 1, 1, 5, 1, b"")]


@pytest.mark.parametrize(
    ("kind", "made"), [(MessageType.STREAM, StreamData), (MessageType.STREAM_HOLE, StreamHole)]
)
def test_stream_packets(kind: MessageType, made: type[StreamData] | type[StreamHole]) -> None:
    assert received(frame(kind, b"data", 2)) == [made(REMOTE, 1, 1, 5, 2, b"data")]


@pytest.mark.parametrize("kind", [1, 2, 5, 7, 9, -1, 2**31 - 1])
def test_frames_that_are_dropped(kind: int) -> None:
    assert received(frame(kind, b"whatever")) == [Stray(REMOTE, kind)]


def test_keepalive() -> None:
    assert received(message.ping() + message.pong()) == [KeepalivePing(), KeepalivePong()]


@pytest.mark.parametrize(("version", "procedure"), [(1, 3), (1, 0), (2, 1)])
def test_unknown_keepalive_is_dropped(version: int, procedure: int) -> None:
    program = message.KEEPALIVE_PROGRAM
    data = encode_frame(Frame(program, version, procedure, MessageType.MESSAGE, 0, 0, b""))
    assert received(data) == [Stray(program, MessageType.MESSAGE)]


def test_ping_as_a_call_is_a_call() -> None:
    assert isinstance(received(frame(0, program=message.KEEPALIVE_PROGRAM))[0], Call)


def with_fds(count: int) -> bytes:
    return frame(MessageType.CALL_WITH_FDS, count.to_bytes(4, "big") + b"args")


def test_call_with_descriptors_takes_a_byte_for_each() -> None:
    call = CallWithFds(REMOTE, 1, 1, 5, 0, b"args", 2)
    assert received(with_fds(2) + b"\0\0" + FEATURE) == [call, FEATURE_CALL]


def test_call_with_descriptors_waits_for_their_bytes() -> None:
    connection = ServerConnection()
    assert connection.receive_data(with_fds(2) + b"\0") == []
    assert len(connection.receive_data(b"\0")) == 1


def test_most_descriptors() -> None:
    assert len(received(with_fds(32) + bytes(32))) == 1


@pytest.mark.parametrize("data", [with_fds(33), with_fds(2**32 - 1), frame(4), frame(4, b"\0\0")])
def test_descriptors_that_cannot_be(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="descriptors"):
        received(data)


@pytest.mark.parametrize("length", [0, 3, 4, 5, 27, 33_554_437, 2**32 - 1])
def test_length_out_of_range(length: int) -> None:
    connection = ServerConnection()
    connection.authenticated = True
    with pytest.raises(ProtocolError, match=f"a message of {length} bytes"):
        connection.receive_data(length.to_bytes(4, "big"))


@pytest.mark.parametrize("length", [28, 33_554_436])
def test_length_at_the_border(length: int) -> None:
    connection = ServerConnection()
    connection.authenticated = True
    assert connection.receive_data(length.to_bytes(4, "big")) == []


def test_stranger_may_send_less() -> None:
    connection = ServerConnection(Limits(anonymous=100))
    with pytest.raises(ProtocolError, match="28 to 100 are allowed"):
        connection.receive_data((101).to_bytes(4, "big"))


def test_limit_rises_with_authentication() -> None:
    connection = ServerConnection(Limits(anonymous=100))
    assert not connection.authenticated
    connection.authenticated = True
    assert connection.authenticated
    assert connection.receive_data((101).to_bytes(4, "big")) == []


def test_most_sasl_data_fits_before_authentication() -> None:
    step = schema.load().by_name["AUTH_SASL_STEP"]
    assert len(received(encode_call(step, 1, (0, bytes(65536))))) == 1


@pytest.mark.parametrize("length", range(1, 32))
def test_end_in_the_middle_of_a_frame(length: int) -> None:
    connection = ServerConnection()
    connection.receive_data(FEATURE + FEATURE[:length])
    with pytest.raises(ProtocolError, match=f"after {length} bytes"):
        connection.receive_eof()


def test_large_call_in_small_chunks() -> None:
    define = schema.load().by_name["DOMAIN_DEFINE_XML"]
    data = encode_call(define, 1, ("x" * 4_194_304,))
    connection = ServerConnection()
    connection.authenticated = True
    chunks = [data[start : start + 65536] for start in range(0, len(data), 65536)]
    messages = [found for chunk in chunks for found in connection.receive_data(chunk)]
    assert [len(found.payload) for found in messages if isinstance(found, Call)] == [4_194_308]


def test_answers_are_at_hand() -> None:
    connection = ServerConnection()
    assert connection.reply(FEATURE_CALL, b"") == message.reply(FEATURE_CALL, b"")
    assert connection.pong() == message.pong()
