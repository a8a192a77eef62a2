"""The client's side: what it writes the server reads, and the other way round."""

from virtbackupd.protocol import client, message, schema
from virtbackupd.protocol.connection import ServerConnection
from virtbackupd.protocol.errors import RemoteError
from virtbackupd.protocol.message import Call, MessageType

FEATURE = schema.load().by_name["CONNECT_SUPPORTS_FEATURE"]
CALL = Call(FEATURE.program, 1, FEATURE.number, 5, 0, b"\0\0\0\n")


def test_server_reads_the_call() -> None:
    assert ServerConnection().receive_data(client.encode_call(FEATURE, 5, (10,))) == [CALL]


def test_reply() -> None:
    answer = message.reply(CALL, FEATURE.encode_ret((1,)))
    frame = client.decode_frame(answer)
    assert frame.error() is None
    assert FEATURE.decode_ret(frame.payload) == (1,)


def test_error_reply() -> None:
    error = RemoteError(39, 7, "no")
    assert client.decode_frame(message.error_reply(CALL, error)).error() == error


def test_frames_in_any_pieces() -> None:
    reader = client.FrameReader()
    data = message.ping() + message.event(CALL.program, 318, b"abcd")
    frames = [frame for byte in data for frame in reader.receive_data(bytes([byte]))]
    assert [frame.kind for frame in frames] == [MessageType.MESSAGE, MessageType.MESSAGE]
    assert [frame.payload for frame in frames] == [b"", b"abcd"]


def test_several_frames_in_one_piece() -> None:
    assert len(client.FrameReader().receive_data(message.ping() * 3)) == 3
