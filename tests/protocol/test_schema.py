"""The interface text as a whole: complete, consistent, and right where it was seen on the wire."""

import pytest

from virtbackupd.protocol import message, schema
from virtbackupd.protocol.idl import IdlError
from virtbackupd.protocol.procedures import Procedure, ReadOnly

SCHEMA = schema.load()
REMOTE = [procedure for procedure in SCHEMA.by_name.values() if procedure.program == 0x20008086]
EVENTS = [procedure for procedure in REMOTE if procedure.is_event]

MODERN_EVENTS = {
    **dict(enumerate(range(318, 334))),
    16: 339, 17: 346, 18: 348, 19: 354, 20: 359, 21: 363, 22: 367, 23: 379, 24: 385, 25: 423,
    26: 438, 27: 453,
}  # fmt: skip
OLD_EVENTS = (107, 169, 170, 171, 172, 173, 195, 224, 241, 248, 268, 269, 270, 276, 292, 311)


def remote(number: int) -> Procedure:
    return SCHEMA.by_number[0x20008086, number]


def test_schema_is_loaded_once() -> None:
    assert schema.load() is SCHEMA


def test_numbers_have_no_gaps() -> None:
    assert [procedure.number for procedure in REMOTE] == list(range(1, 454))


def test_400_calls_and_53_events() -> None:
    assert (len(REMOTE) - len(EVENTS), len(EVENTS)) == (400, 53)


def test_qemu_program() -> None:
    numbers = [number for program, number in SCHEMA.by_number if program == 0x20008087]
    assert numbers == list(range(1, 8))
    assert SCHEMA.by_name["QEMU_DOMAIN_MONITOR_COMMAND"].number == 1


def test_versions() -> None:
    assert SCHEMA.versions == {0x20008086: 1, 0x20008087: 1}


def test_all_types_compile() -> None:
    for procedure in SCHEMA.by_name.values():
        for struct in (procedure.args, procedure.ret, procedure.message):
            assert struct is None or struct.codec.size >= 4


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.name)
def test_event_has_a_message_and_is_no_call(event: Procedure) -> None:
    assert event.message is not None
    assert (event.args, event.ret, event.read_only) == (None, None, ReadOnly.NONE)


@pytest.mark.parametrize(("event_id", "number"), MODERN_EVENTS.items())
def test_modern_event_begins_with_the_callback(event_id: int, number: int) -> None:
    message_struct = remote(number).message
    assert message_struct is not None, event_id
    assert (message_struct.fields[0].name, message_struct.fields[0].type_name) == (
        "callbackID",
        "int",
    )


@pytest.mark.parametrize("number", OLD_EVENTS)
def test_old_event_begins_with_the_domain(number: int) -> None:
    message_struct = remote(number).message
    assert message_struct is not None
    assert message_struct.fields[0].type_name == "remote_nonnull_domain"


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("CONNECT_OPEN", 1),
        ("CONNECT_SUPPORTS_FEATURE", 60),
        ("AUTH_LIST", 66),
        ("DOMAIN_GET_XML_DESC", 14),
        ("CONNECT_LIST_ALL_DOMAINS", 273),
        ("CONNECT_GET_ALL_DOMAIN_STATS", 344),
        ("DOMAIN_CHECKPOINT_CREATE_XML", 411),
        ("DOMAIN_BACKUP_BEGIN", 421),
        ("DOMAIN_FD_ASSOCIATE", 443),
    ],
)
def test_number_of(name: str, number: int) -> None:
    assert SCHEMA.by_name[name] is remote(number)
    assert remote(number).declared


@pytest.mark.parametrize(
    ("name", "stream"),
    [
        ("DOMAIN_OPEN_CONSOLE", "both"),
        ("DOMAIN_OPEN_CHANNEL", "both"),
        ("STORAGE_VOL_UPLOAD", "upload"),
        ("STORAGE_VOL_DOWNLOAD", "download"),
        ("DOMAIN_SCREENSHOT", "download"),
        ("DOMAIN_GET_INFO", None),
    ],
)
def test_stream(name: str, stream: str | None) -> None:
    assert SCHEMA.by_name[name].stream == stream


@pytest.mark.parametrize(
    ("name", "read_only"),
    [
        ("DOMAIN_LOOKUP_BY_NAME", ReadOnly.ALLOW),
        ("DOMAIN_BACKUP_BEGIN", ReadOnly.DENY),
        ("DOMAIN_GET_XML_DESC", ReadOnly.CONDITIONAL),
        ("AUTH_LIST", ReadOnly.NONE),
        ("QEMU_DOMAIN_MONITOR_COMMAND", ReadOnly.DENY),
    ],
)
def test_read_only(name: str, read_only: ReadOnly) -> None:
    assert SCHEMA.by_name[name].read_only is read_only


def test_priority_and_access_rules() -> None:
    assert SCHEMA.by_name["DOMAIN_DESTROY"].priority == "high"
    assert SCHEMA.by_name["DOMAIN_CREATE_XML"].acl == ("domain:write", "domain:start")
    assert SCHEMA.by_name["CONNECT_CLOSE"].acl == ()
    assert SCHEMA.by_name["CONNECT_LIST_ALL_DOMAINS"].acl_filter == "domain:getattr"


def test_187_calls_of_high_priority() -> None:
    assert sum(procedure.priority == "high" for procedure in REMOTE) == 187


def test_void_procedure_is_declared_although_it_has_no_types() -> None:
    close = SCHEMA.by_name["CONNECT_CLOSE"]
    assert (close.args, close.ret, close.declared) == (None, None, True)


def test_procedure_known_by_name_only() -> None:
    assert not SCHEMA.by_name["DOMAIN_MIGRATE_PERFORM"].declared


@pytest.mark.parametrize("kind", message.MessageType)
def test_message_types_are_those_of_the_interface(kind: message.MessageType) -> None:
    assert SCHEMA.constants[f"MESSAGE_TYPE_{kind.name}"] == kind


@pytest.mark.parametrize("status", message.Status)
def test_statuses_are_those_of_the_interface(status: message.Status) -> None:
    assert SCHEMA.constants[f"MESSAGE_STATUS_{status.name}"] == status


def test_frame_constants_are_those_of_the_interface() -> None:
    constants = SCHEMA.constants
    length_size = constants["MESSAGE_LENGTH_SIZE"]
    assert length_size + constants["MESSAGE_HEADER_SIZE"] == message.HEADER.size
    assert length_size + constants["MESSAGE_MAX"] == message.MAX_FRAME
    assert constants["MESSAGE_FDS_MAX"] == message.MAX_FDS
    assert SCHEMA.codec("message_header").size == constants["MESSAGE_HEADER_SIZE"]


def test_keepalive_constants_are_those_of_the_interface() -> None:
    constants = SCHEMA.constants
    assert constants["KEEPALIVE_PROGRAM"] == message.KEEPALIVE_PROGRAM
    assert constants["KEEPALIVE_PROTOCOL_VERSION"] == message.KEEPALIVE_VERSION
    assert constants["KEEPALIVE_PROC_PING"] == message.PING
    assert constants["KEEPALIVE_PROC_PONG"] == message.PONG


def test_text_without_the_procedures() -> None:
    with pytest.raises(IdlError, match="no enum remote_procedure"):
        schema.compile_schema("const REMOTE_PROGRAM = 1;")
