"""What every call goes through: lookup, rights, decoding, the driver, encoding, each refusal."""

from typing import TYPE_CHECKING

import pytest
from raw_client import RawClient

from virtbackupd.protocol import schema
from virtbackupd.protocol.client import Frame
from virtbackupd.protocol.errors import RemoteError
from virtbackupd.protocol.procedures import ReadOnly
from virtbackupd.server.dispatch import Dispatcher, public_name
from virtbackupd.server.handlers import all_handlers
from virtbackupd.server.procedures import AGENT_ADDRESSES, PROCEDURES, SECURE_FLAGS
from virtbackupd.server.session import Stage
from virtbackupd.server.translate import TableError

if TYPE_CHECKING:
    from tests.server.conftest import Server

REMOTE, QEMU = 0x20008086, 0x20008087
DOMAIN = ("test", bytes(range(16)), 1)
CHECKPOINT = ("one", DOMAIN)


async def refusal(client: RawClient, frame: Frame) -> RemoteError:
    await client.send_frame(frame)
    error = (await client.frame()).error()
    assert error is not None
    return error


@pytest.mark.parametrize("number", [0, -1, 454, 107, 318])
async def test_unknown_procedure(client: RawClient, number: int) -> None:
    error = await refusal(client, Frame(REMOTE, 1, number, 0, 1, 0, b""))
    assert (error.code, error.domain) == (39, 7)
    assert error.message == f"unknown procedure: {number}"


@pytest.mark.parametrize(("program", "version"), [(1, 1), (REMOTE, 2), (0x00068000, 1)])
async def test_unknown_program(client: RawClient, program: int, version: int) -> None:
    error = await refusal(client, Frame(program, version, 1, 0, 1, 0, b""))
    assert (error.code, error.domain) == (39, 7)
    assert error.message.startswith("Cannot find program")


async def test_unknown_procedure_of_the_qemu_program(client: RawClient) -> None:
    assert (await refusal(client, Frame(QEMU, 1, 99, 0, 1, 0, b""))).message.endswith(": 99")


async def test_status_of_a_call_has_to_be_ok(client: RawClient) -> None:
    error = await refusal(client, Frame(REMOTE, 1, 3, 0, 1, 1, b""))
    assert error.message.startswith("Unexpected message status")


async def test_undecodable_arguments(client: RawClient) -> None:
    error = await refusal(client, Frame(REMOTE, 1, 23, 0, 1, 0, b"\0\0\0\x09abc"))
    assert (error.code, error.domain) == (39, 7)
    assert error.message.startswith("Unable to decode message payload")


async def test_arguments_of_a_call_without_any_are_ignored(client: RawClient) -> None:
    await client.send_frame(Frame(REMOTE, 1, 3, 0, 1, 0, b"rubbish!"))
    assert (await client.frame()).error() is None


async def test_procedure_without_an_answer_is_unsupported(client: RawClient) -> None:
    error = await client.refused("DOMAIN_ATTACH_DEVICE", DOMAIN, "<disk/>")
    assert error.code == 3
    assert error.message.endswith("by the connection driver: virDomainAttachDevice")


async def test_method_the_driver_lacks_is_unsupported(client: RawClient) -> None:
    assert (await client.refused("NODE_GET_INFO")).code == 3


async def test_refusal_of_the_driver(client: RawClient) -> None:
    error = await client.refused("DOMAIN_GET_AUTOSTART", ("gone", b"x" * 16, -1))
    assert (error.code, error.domain, error.level) == (42, 12, 2)
    assert (error.str1, error.int1, error.int2) == ("Domain not found: %s", -1, -1)


async def test_error_domain_follows_the_scheme(server: "Server") -> None:
    client = server.connect()
    await client.open("qemu:///system")
    assert (await client.refused("DOMAIN_LOOKUP_BY_NAME", "gone")).domain == 10


async def test_bug_is_logged_and_answered(
    client: RawClient, caplog: pytest.LogCaptureFixture
) -> None:
    error = await client.refused("DOMAIN_GET_OS_TYPE", DOMAIN)
    assert error.code == 1
    assert "the bug the test asks for" in caplog.text
    assert "the bug the test asks for" not in error.message


async def test_result_over_a_limit_is_refused(client: RawClient) -> None:
    assert (await client.refused("CONNECT_GET_HOSTNAME")).code == 1


@pytest.mark.parametrize("name", ["DOMAIN_SUSPEND", "DOMAIN_CREATE", "DOMAIN_RESUME"])
async def test_read_only_socket_refuses_changes(server: "Server", name: str) -> None:
    client = await server.opened(read_only=True)
    error = await client.refused(name, DOMAIN)
    assert (error.code, error.message.startswith("operation forbidden: read only")) == (29, True)


async def test_read_only_flag_of_open_refuses_changes(server: "Server") -> None:
    client = server.connect()
    await client.open(flags=1)
    assert (await client.refused("DOMAIN_SUSPEND", DOMAIN)).code == 29


async def test_read_only_refuses_the_monitor(server: "Server") -> None:
    client = await server.opened(read_only=True)
    assert (await client.refused("QEMU_DOMAIN_MONITOR_COMMAND", DOMAIN, "x", 0)).code == 29


@pytest.mark.parametrize(
    ("name", "args", "domain"),
    [
        ("DOMAIN_SUSPEND", (DOMAIN,), 20),
        ("DOMAIN_CHECKPOINT_DELETE", (("c", DOMAIN), 0), 69),
        ("SECRET_GET_VALUE", ((bytes(16), 0, ""), 0), 30),
        ("QEMU_DOMAIN_MONITOR_COMMAND", (DOMAIN, "x", 0), 0),
    ],
)
async def test_a_read_only_refusal_is_of_the_part_it_is_about(
    server: "Server", name: str, args: tuple[object, ...], domain: int
) -> None:
    client = await server.opened(read_only=True)
    assert (await client.refused(name, *args)).domain == domain


async def test_read_only_refuses_secure_xml_only(server: "Server") -> None:
    client = await server.opened(read_only=True)
    assert (await client.refused("DOMAIN_GET_XML_DESC", DOMAIN, 1)).code == 29
    assert await client.call("DOMAIN_GET_XML_DESC", DOMAIN, 2) == ("<domain>test</domain>",)


async def test_read_only_may_list(server: "Server") -> None:
    client = await server.opened(read_only=True)
    assert (await client.call("CONNECT_LIST_ALL_DOMAINS", 1, 0))[1] == 2


async def test_read_only_refusal_of_a_checkpoint_comes_from_its_domain(server: "Server") -> None:
    client = await server.opened(read_only=True)
    assert (await client.refused("DOMAIN_CHECKPOINT_DELETE", CHECKPOINT, 0)).domain == 69


async def test_calls_before_authentication_are_refused(server: "Server") -> None:
    client = server.connect()
    await client.call("AUTH_LIST")
    server.clients[0]._session.stage = Stage.CONNECTED
    error = await client.refused("CONNECT_OPEN", "test:///default", 0)
    assert (error.code, error.domain, error.message) == (39, 7, "authentication required")


async def test_unknown_procedure_before_authentication_is_unknown(server: "Server") -> None:
    client = server.connect()
    await client.call("AUTH_LIST")
    server.clients[0]._session.stage = Stage.CONNECTED
    error = await refusal(client, Frame(REMOTE, 1, 999, 0, 1, 0, b""))
    assert error.message == "unknown procedure: 999"


@pytest.mark.parametrize(
    ("procedure", "function"),
    [
        ("DOMAIN_CHECKPOINT_GET_XML_DESC", "virDomainCheckpointGetXMLDesc"),
        ("CONNECT_GET_TYPE", "virConnectGetType"),
        ("QEMU_DOMAIN_MONITOR_COMMAND", "virDomainQemuMonitorCommand"),
        (
            "QEMU_CONNECT_DOMAIN_MONITOR_EVENT_REGISTER",
            "virConnectDomainQemuMonitorEventRegister",
        ),
    ],
)
def test_refusals_name_the_public_function(procedure: str, function: str) -> None:
    assert public_name(procedure) == function


def test_row_and_handler_for_one_procedure_are_refused() -> None:
    twice = {next(iter(PROCEDURES)): next(iter(all_handlers().values()))}
    with pytest.raises(TableError, match="both a row and a handler"):
        Dispatcher(schema.load(), twice)


def test_every_answer_is_to_a_call_of_the_interface_text() -> None:
    procedures = schema.load().by_name
    for name in (*PROCEDURES, *all_handlers()):
        assert not procedures[name].is_event


def test_every_conditional_call_has_its_condition() -> None:
    found = {
        procedure.name
        for procedure in schema.load().by_name.values()
        if procedure.read_only is ReadOnly.CONDITIONAL
    }
    assert found == {*SECURE_FLAGS, AGENT_ADDRESSES}


TIERS = {
    0: "1 2 60 66 67 68 69 70 110 360 361",
    1: "14 22 23 24 163 164 212 238 273 298 316 317 411 412 413 414 415 416 417 421 422 442",
    2: "3 4 6 7 9 10 11 12 15 16 19 27 28 29 33 34 44 59 87 89 121 122 141 142 143 144 145 146 150"
    " 151 152 153 155 157 183 187 194 196 201 231 234 243 245 258 265 274 281 283 287 335 342 344"
    " 350 380 381 391 418 426",
}


@pytest.mark.parametrize("tier", TIERS)
def test_every_procedure_of_the_first_tiers_has_an_answer(tier: int) -> None:
    by_number = schema.load().by_number
    names = {by_number[REMOTE, int(number)].name for number in TIERS[tier].split()}
    assert names <= {*PROCEDURES, *all_handlers()}
