"""What the wire answers by itself: code, domain and the words that clients look for."""

import pytest

from virtbackupd.protocol import refusals, schema
from virtbackupd.protocol.errors import RemoteError
from virtbackupd.protocol.message import Call
from virtbackupd.protocol.procedures import Procedure

REMOTE, QEMU, KEEPALIVE, LXC = 0x20008086, 0x20008087, 0x6B656570, 0x00068000
SCHEMA = schema.load()


def call(program: int = REMOTE, version: int = 1, procedure: int = 60, status: int = 0) -> Call:
    return Call(program, version, procedure, 5, status, b"\0\0\0\n")


def refused(request: Call) -> str:
    error = refusals.resolve(SCHEMA, request)
    assert isinstance(error, RemoteError)
    assert (error.code, error.domain, error.level) == (39, 7, 2)
    return error.message


def test_known_procedure() -> None:
    assert refusals.resolve(SCHEMA, call()) is SCHEMA.by_name["CONNECT_SUPPORTS_FEATURE"]


def test_procedure_of_the_qemu_program() -> None:
    found = refusals.resolve(SCHEMA, call(QEMU, procedure=1))
    assert found is SCHEMA.by_name["QEMU_DOMAIN_MONITOR_COMMAND"]


@pytest.mark.parametrize("procedure", [0, -1, 454, 2**31 - 1, 318, 107])
def test_unknown_procedure_and_events(procedure: int) -> None:
    assert refused(call(procedure=procedure)) == f"unknown procedure: {procedure}"


@pytest.mark.parametrize("procedure", [0, 6, 8])
def test_unknown_procedure_of_the_qemu_program(procedure: int) -> None:
    assert refused(call(QEMU, procedure=procedure)).startswith("unknown procedure: ")


@pytest.mark.parametrize(
    ("program", "version"), [(KEEPALIVE, 1), (LXC, 1), (0, 1), (REMOTE, 2), (REMOTE, 0), (QEMU, 2)]
)
def test_unknown_program_or_version(program: int, version: int) -> None:
    text = refused(call(program, version))
    assert text == f"Cannot find program {program:#x} version {version}"


@pytest.mark.parametrize("status", [1, 2, -1])
def test_status_of_a_call(status: int) -> None:
    assert refused(call(status=status)).startswith(f"Unexpected message status {status}")


def procedure() -> Procedure:
    return SCHEMA.by_name["CONNECT_SUPPORTS_FEATURE"]


def test_arguments() -> None:
    assert refusals.arguments(procedure(), call()) == (10,)


def test_undecodable_arguments() -> None:
    error = refusals.arguments(procedure(), call()._replace(payload=b""))
    assert isinstance(error, RemoteError)
    assert (error.code, error.domain) == (39, 7)
    assert error.message.startswith("Unable to decode message payload of CONNECT_SUPPORTS_FEATURE")
