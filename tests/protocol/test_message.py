"""Outgoing frames: lengths and header words as libvirtd sends them."""

import pytest

from virtbackupd.protocol import message
from virtbackupd.protocol.errors import ProtocolError, RemoteError, XdrEncodeError
from virtbackupd.protocol.message import Call, MessageType, Status, StreamHole

REMOTE = 0x20008086
CALL = Call(REMOTE, 1, 208, 7, Status.OK, b"")
ERROR = RemoteError(42, 20, "no domain 'x'", str1="no domain '%s'", str2="x")


def header(frame: bytes) -> tuple[int, ...]:
    """Type, serial, status; the words before them are checked on the way."""
    length, program, version, procedure, kind, serial, status = message.HEADER.unpack_from(frame)
    assert (length, program, version, procedure) == (len(frame), REMOTE, 1, 208)
    return kind, serial, status


def test_reply() -> None:
    frame = message.reply(CALL, b"abcd")
    assert header(frame) == (MessageType.REPLY, 7, Status.OK)
    assert frame[28:] == b"abcd"


@pytest.mark.parametrize("serial", [0, 1, 0xFFFFFFFF])
def test_serial_is_echoed(serial: int) -> None:
    assert header(message.reply(CALL._replace(serial=serial), b""))[1] == serial


def test_reply_to_a_call_with_descriptors_is_an_ordinary_one() -> None:
    call = message.CallWithFds(*CALL, fd_count=2)
    assert message.reply(call, b"") == message.reply(CALL, b"")


def test_reply_for_a_negative_procedure() -> None:
    frame = message.error_reply(CALL._replace(procedure=-1), ERROR)
    assert message.HEADER.unpack_from(frame)[3] == -1


def test_longest_reply() -> None:
    assert len(message.reply(CALL, bytes(message.MAX_PAYLOAD))) == 33_554_436


def test_reply_that_is_too_long() -> None:
    with pytest.raises(XdrEncodeError, match="do not fit"):
        message.reply(CALL, bytes(message.MAX_PAYLOAD + 1))


def test_error_reply_carries_the_error() -> None:
    frame = message.error_reply(CALL, ERROR)
    assert header(frame) == (MessageType.REPLY, 7, Status.ERROR)
    assert message.decode_error(frame[28:]) == ERROR


def test_error_on_the_wire() -> None:
    payload = message.encode_error(RemoteError(3, 7, "abcd"))
    assert payload == bytes.fromhex(
        "00000003 00000007 00000001 00000004 61626364 00000002"
        "00000000 00000000 00000000 00000000 ffffffff ffffffff 00000000"
    )


def test_empty_message_is_still_there() -> None:
    """A client was seen to take an absent message for the wrong field."""
    assert message.encode_error(RemoteError(1, 0, ""))[8:16] == bytes.fromhex("0000000100000000")


def test_overlong_error_text_is_cut() -> None:
    error = message.decode_error(message.encode_error(RemoteError(1, 0, "ä" * 5_000_000)))
    assert error.message == "ä" * 65_536


def test_event_has_serial_1() -> None:
    frame = message.event(REMOTE, 208, b"abcd")
    assert header(frame) == (MessageType.MESSAGE, 1, Status.OK)


def test_stream_data() -> None:
    frame = message.stream_data(CALL, b"data")
    assert header(frame) == (MessageType.STREAM, 7, Status.CONTINUE)
    assert frame[28:] == b"data"


def test_end_of_stream_data_is_empty_data() -> None:
    assert len(message.stream_data(CALL, b"")) == 28


def test_stream_finish() -> None:
    assert header(message.stream_finish(CALL)) == (MessageType.STREAM, 7, Status.OK)


def test_stream_abort_carries_the_error() -> None:
    frame = message.stream_abort(CALL, ERROR)
    assert header(frame) == (MessageType.STREAM, 7, Status.ERROR)
    assert message.decode_error(frame[28:]) == ERROR


def test_stream_hole_takes_40_bytes() -> None:
    frame = message.stream_hole(CALL, 65536)
    assert header(frame) == (MessageType.STREAM_HOLE, 7, Status.CONTINUE)
    assert frame[28:] == bytes.fromhex("0000000000010000 00000000")


def test_keepalive_on_the_wire() -> None:
    words = "0000001c 6b656570 00000001 0000000{} 00000002 00000000 00000000"
    assert message.ping() == bytes.fromhex(words.format(1))
    assert message.pong() == bytes.fromhex(words.format(2))


def hole(payload: str) -> StreamHole:
    return StreamHole(REMOTE, 1, 208, 7, Status.CONTINUE, bytes.fromhex(payload))


def test_length_of_a_hole() -> None:
    assert hole("0000000000010000 00000000").length() == 65536


@pytest.mark.parametrize("payload", ["", "0000000000010000", "ffffffffffffffff 00000000"])
def test_hole_without_a_sensible_length(payload: str) -> None:
    with pytest.raises(ProtocolError, match="stream 7"):
        hole(payload).length()
