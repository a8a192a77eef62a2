"""What an NBD client may say before TLS has begun, and what it agreed on then."""

from struct import pack

import pytest

from virtbackupd.drivers.memory.image import Image
from virtbackupd.drivers.memory.nbd_export import NbdExport, NbdLimits
from virtbackupd.drivers.memory.nbd_negotiation import Negotiation
from virtbackupd.drivers.memory.nbd_protocol import (
    OPTION_MAGIC,
    OPTION_REPLY,
    NbdViolation,
    Option,
    OptionReply,
)


@pytest.fixture
def negotiation() -> Negotiation:
    made = Negotiation({"vda": NbdExport("vda", Image(1, path=""))}, NbdLimits(), tls=True)
    made.receive(pack(">I", 3))
    return made


def option(number: int, data: bytes = b"") -> bytes:
    return pack(">QII", OPTION_MAGIC, number, len(data)) + data


def answer(negotiation: Negotiation, number: int) -> int:
    """The kind of the first reply."""
    kind: int = OPTION_REPLY.unpack_from(negotiation.receive(option(number)))[2]
    return kind


@pytest.mark.parametrize(
    "number", [Option.LIST, Option.INFO, Option.GO, Option.STRUCTURED_REPLY, 99]
)
def test_nothing_is_told_before(negotiation: Negotiation, number: int) -> None:
    assert answer(negotiation, number) == OptionReply.ERR_TLS_REQD


def test_export_by_the_old_option_ends_the_connection(negotiation: Negotiation) -> None:
    with pytest.raises(NbdViolation, match="without TLS"):
        negotiation.receive(option(Option.EXPORT_NAME, b"vda"))


def test_leaving_is_always_possible(negotiation: Negotiation) -> None:
    assert answer(negotiation, Option.ABORT) == OptionReply.ACK


def test_tls_begins_after_the_acknowledgement(negotiation: Negotiation) -> None:
    assert answer(negotiation, Option.STARTTLS) == OptionReply.ACK
    assert negotiation.starting_tls


def test_bytes_sent_along_are_not_taken_for_encrypted_ones(negotiation: Negotiation) -> None:
    with pytest.raises(NbdViolation, match="before TLS began"):
        negotiation.receive(option(Option.STARTTLS) + option(Option.STRUCTURED_REPLY))


def test_tls_begins_once(negotiation: Negotiation) -> None:
    answer(negotiation, Option.STARTTLS)
    negotiation.starting_tls = False
    assert answer(negotiation, Option.STARTTLS) == OptionReply.ERR_INVALID


def test_all_is_told_after(negotiation: Negotiation) -> None:
    answer(negotiation, Option.STARTTLS)
    negotiation.starting_tls = False
    assert answer(negotiation, Option.LIST) == OptionReply.SERVER
