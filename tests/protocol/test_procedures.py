"""Payloads of procedures: sizes and values seen on the wire, and what is refused."""

import pytest

from virtbackupd.protocol import schema
from virtbackupd.protocol.errors import XdrEncodeError, XdrError

BY_NAME = schema.load().by_name
DOMAIN = ("test", bytes(range(16)), -1)


def test_arguments_come_back() -> None:
    procedure = BY_NAME["DOMAIN_GET_XML_DESC"]
    assert procedure.decode_args(procedure.encode_args((DOMAIN, 1))) == (DOMAIN, 1)


def test_result_comes_back() -> None:
    procedure = BY_NAME["CONNECT_LIST_ALL_DOMAINS"]
    assert procedure.decode_ret(procedure.encode_ret(([DOMAIN], 1))) == ([DOMAIN], 1)


def test_event_comes_back() -> None:
    procedure = BY_NAME["DOMAIN_EVENT_CALLBACK_LIFECYCLE"]
    value = (3, (DOMAIN, 2, 0))
    assert procedure.decode_message(procedure.encode_message(value)) == value


def test_node_info_takes_160_bytes() -> None:
    """188 with the frame, as measured at libvirtd."""
    info = BY_NAME["NODE_GET_INFO"].encode_ret((b"x86_64", 1, 2, 3, 4, 5, 6, 7))
    assert len(info) == 160


def test_domain_info_has_a_word_for_its_state() -> None:
    info = BY_NAME["DOMAIN_GET_INFO"].encode_ret((1, 2048, 1024, 4, 77))
    assert info == bytes.fromhex(
        "00000001 0000000000000800 0000000000000400 00000004 000000000000004d"
    )


def test_checkpoint_document_may_be_absent() -> None:
    begin = BY_NAME["DOMAIN_BACKUP_BEGIN"]
    args = begin.decode_args(begin.encode_args((DOMAIN, "<domainbackup/>", None, 0)))
    assert args == (DOMAIN, "<domainbackup/>", None, 0)


def test_typed_parameters_keep_their_kinds() -> None:
    stats = BY_NAME["DOMAIN_GET_JOB_STATS"]
    value = (1, [("operation", (1, 9)), ("time", (4, 2**40)), ("message", (7, "none"))])
    assert stats.decode_ret(stats.encode_ret(value)) == value


def test_go_clients_present_flag() -> None:
    """A client was seen to send the flag before the name in the other byte order."""
    payload = bytes.fromhex("01000000 00000004 71656d75 00000000")
    assert BY_NAME["CONNECT_OPEN"].decode_args(payload) == ("qemu", 0)


def test_bytes_behind_the_arguments_are_ignored() -> None:
    payload = bytes.fromhex("0000000a ffffffff")
    assert BY_NAME["CONNECT_SUPPORTS_FEATURE"].decode_args(payload) == (10,)


def test_arguments_for_a_procedure_without_any_are_ignored() -> None:
    assert BY_NAME["CONNECT_CLOSE"].decode_args(b"anything") == ()


def test_procedure_without_result_has_an_empty_one() -> None:
    assert BY_NAME["CONNECT_CLOSE"].encode_ret(()) == b""


def test_undecodable_arguments_name_the_procedure() -> None:
    with pytest.raises(XdrError, match=r"DOMAIN_GET_XML_DESC: .* end in the middle"):
        BY_NAME["DOMAIN_GET_XML_DESC"].decode_args(b"\0\0")


def test_name_of_over_4_mib() -> None:
    payload = (4194305).to_bytes(4, "big") + bytes(4194308)
    with pytest.raises(XdrError, match="the limit is 4194304"):
        BY_NAME["DOMAIN_LOOKUP_BY_NAME"].decode_args(payload)


def test_result_that_is_too_long() -> None:
    with pytest.raises(XdrEncodeError, match="limit of 16384"):
        BY_NAME["CONNECT_LIST_ALL_DOMAINS"].encode_ret(([DOMAIN] * 16385, 16385))


def test_fields_describe_the_arguments() -> None:
    args = BY_NAME["DOMAIN_GET_XML_DESC"].args
    assert args is not None
    assert [(field.name, field.type_name) for field in args.fields] == [
        ("dom", "remote_nonnull_domain"),
        ("flags", "unsigned int"),
    ]
