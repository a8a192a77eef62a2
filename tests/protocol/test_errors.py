"""The error records: what is filled in for a caller that says little."""

from virtbackupd.protocol.errors import ProtocolError, RemoteError, XdrEncodeError, XdrError


def test_details_default_as_libvirtd_fills_them() -> None:
    error = RemoteError(42, 10, "no domain")
    assert (error.level, error.str1, error.int1, error.int2) == (2, None, -1, -1)


def test_bad_bytes_of_one_call_do_not_close_the_connection() -> None:
    assert not issubclass(XdrError, ProtocolError)
    assert not issubclass(XdrEncodeError, XdrError | ProtocolError)
