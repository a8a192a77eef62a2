"""The NBD handshake byte by byte, without a socket."""

from struct import pack, unpack_from

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtbackupd.drivers.memory.bitmap import DirtyMap
from virtbackupd.drivers.memory.image import Image
from virtbackupd.drivers.memory.nbd_export import NbdExport, NbdLimits
from virtbackupd.drivers.memory.nbd_negotiation import Negotiation
from virtbackupd.drivers.memory.nbd_protocol import (
    OPTION_MAGIC,
    OPTION_REPLY,
    OPTION_REPLY_MAGIC,
    ExportFlag,
    Info,
    NbdViolation,
    Option,
    OptionReply,
)

Replies = list[tuple[int, bytes]]


def make(*names: str, limits: NbdLimits | None = None, flags: int = 3) -> Negotiation:
    exports = {
        name: NbdExport(name, Image(1 << 20, path=name), {"day": DirtyMap([1])}, f"disk {name}")
        for name in names or ("vda",)
    }
    negotiation = Negotiation(exports, limits or NbdLimits())
    assert negotiation.receive(pack(">I", flags)) == b""
    return negotiation


def option(number: int, data: bytes = b"") -> bytes:
    return pack(">QII", OPTION_MAGIC, number, len(data)) + data


def text(value: str) -> bytes:
    return pack(">I", len(value.encode())) + value.encode()


def ask(negotiation: Negotiation, number: int, data: bytes = b"") -> Replies:
    return split(number, negotiation.receive(option(number, data)))


def split(number: int, data: bytes) -> Replies:
    replies = []
    while data:
        magic, echoed, kind, length = OPTION_REPLY.unpack_from(data)
        assert (magic, echoed) == (OPTION_REPLY_MAGIC, number)
        replies.append((kind, data[20 : 20 + length]))
        data = data[20 + length :]
    return replies


def contexts(name: str, *queries: str) -> bytes:
    return text(name) + pack(">I", len(queries)) + b"".join(map(text, queries))


def structured(*names: str) -> Negotiation:
    negotiation = make(*names)
    assert ask(negotiation, Option.STRUCTURED_REPLY) == [(OptionReply.ACK, b"")]
    return negotiation


def test_the_greeting() -> None:
    assert Negotiation.greeting() == b"NBDMAGICIHAVEOPT\0\3"


def test_unknown_client_flags_end_the_connection() -> None:
    with pytest.raises(NbdViolation, match="unknown bits"):
        make(flags=4)


def test_a_wrong_option_magic_ends_the_connection() -> None:
    with pytest.raises(NbdViolation):
        make().receive(bytes(16))


def test_list_names_each_export() -> None:
    server = OptionReply.SERVER
    assert ask(make("vda", "vdb"), Option.LIST) == [
        (server, text("vda") + b"disk vda"),
        (server, text("vdb") + b"disk vdb"),
        (OptionReply.ACK, b""),
    ]


def test_list_takes_no_data() -> None:
    assert ask(make(), Option.LIST, b"x")[0][0] == OptionReply.ERR_INVALID


def test_abort_is_acknowledged() -> None:
    negotiation = make()
    assert ask(negotiation, Option.ABORT) == [(OptionReply.ACK, b"")]
    assert negotiation.closed


def test_tls_is_refused_by_policy() -> None:
    assert ask(make(), Option.STARTTLS)[0][0] == OptionReply.ERR_POLICY


@pytest.mark.parametrize("number", [4, 11, 99, 0xFFFFFFFF])
def test_unknown_options_are_unsupported(number: int) -> None:
    negotiation = make()
    assert ask(negotiation, number, b"data")[0][0] == OptionReply.ERR_UNSUP
    assert ask(negotiation, Option.ABORT)[0][0] == OptionReply.ACK


def test_info_gives_size_and_flags() -> None:
    negotiation = make()
    replies = ask(negotiation, Option.INFO, text("vda") + pack(">H", 0))
    kind, size, flags = unpack_from(">HQH", replies[0][1])
    assert (kind, size, negotiation.session) == (Info.EXPORT, 1 << 20, None)
    assert ExportFlag.READ_ONLY | ExportFlag.CAN_MULTI_CONN in ExportFlag(flags)
    assert ExportFlag.SEND_FLUSH | ExportFlag.SEND_FUA in ExportFlag(flags)
    assert ExportFlag.SEND_DF not in ExportFlag(flags)


def test_info_gives_what_was_asked_for() -> None:
    wanted = pack(">HHHHH", 4, Info.NAME, Info.DESCRIPTION, Info.BLOCK_SIZE, 77)
    replies = ask(make(), Option.INFO, text("vda") + wanted)
    payloads = [payload for kind, payload in replies if kind == OptionReply.INFO]
    assert payloads[:2] == [b"\0\1vda", b"\0\2disk vda"]
    assert unpack_from(">HIII", payloads[2]) == (3, 1, 65536, 32 << 20)


def test_go_ends_the_handshake() -> None:
    negotiation = make()
    replies = ask(negotiation, Option.GO, text("vda") + pack(">H", 0))
    assert replies[-1] == (OptionReply.ACK, b"")
    assert negotiation.session is not None
    assert negotiation.session.export.name == "vda"


def test_bytes_behind_go_are_left_for_transmission() -> None:
    negotiation = make()
    negotiation.receive(option(Option.GO, text("vda") + pack(">H", 0)) + b"request")
    assert negotiation.rest == b"request"


def test_an_unknown_export_is_named() -> None:
    negotiation = make()
    replies = ask(negotiation, Option.GO, text("vdz") + pack(">H", 0))
    assert replies == [(OptionReply.ERR_UNKNOWN, b"there is no export named 'vdz'")]
    assert negotiation.session is None


def test_a_refusal_is_no_longer_than_a_string_may_be() -> None:
    ((_, message),) = ask(make(), Option.GO, text("x" * 4096) + pack(">H", 0))
    assert len(message) <= 4096


@pytest.mark.parametrize(
    ("names", "reply"), [(["vda"], OptionReply.ACK), (["vda", "vdb"], OptionReply.ERR_UNKNOWN)]
)
def test_the_default_export_must_be_the_only_one(names: list[str], reply: OptionReply) -> None:
    assert ask(make(*names), Option.GO, text("") + pack(">H", 0))[-1][0] == reply


@pytest.mark.parametrize("data", [b"", b"\0", text("vda"), text("vda") + b"\0\1", b"\xff" * 4])
def test_truncated_go_is_refused(data: bytes) -> None:
    refusals = {OptionReply.ERR_INVALID, OptionReply.ERR_TOO_BIG}
    assert ask(make(), Option.GO, data)[0][0] in refusals


def test_a_name_that_is_not_utf8_is_refused() -> None:
    assert ask(make(), Option.GO, b"\0\0\0\1\xff\0\0")[0][0] == OptionReply.ERR_INVALID


@pytest.mark.parametrize(("flags", "length"), [(3, 10), (1, 134)])
def test_export_name_answers_without_a_frame(flags: int, length: int) -> None:
    negotiation = make(flags=flags)
    reply = negotiation.receive(option(Option.EXPORT_NAME, b"vda"))
    assert (len(reply), unpack_from(">Q", reply)) == (length, (1 << 20,))


def test_export_name_of_nothing_ends_the_connection() -> None:
    with pytest.raises(NbdViolation, match="no export named 'vdz'"):
        make().receive(option(Option.EXPORT_NAME, b"vdz"))


def test_contexts_need_structured_replies() -> None:
    replies = ask(make(), Option.LIST_META_CONTEXT, contexts("vda"))
    assert replies[0][0] == OptionReply.ERR_INVALID


BOTH = ["base:allocation", "qemu:dirty-bitmap:day"]


@pytest.mark.parametrize(
    ("queries", "names"),
    [
        ([], BOTH),
        (["base:"], BOTH[:1]),
        (["qemu:"], BOTH[1:]),
        (["qemu:dirty-bitmap:"], BOTH[1:]),
        (["qemu:dirty-bitmap:day"], BOTH[1:]),
        (["qemu:dirty-bitmap:night", "x-other:", "base:alloc"], []),
        (["base:allocation", "qemu:"], BOTH),
    ],
)
def test_listing_contexts(queries: list[str], names: list[str]) -> None:
    replies = ask(structured(), Option.LIST_META_CONTEXT, contexts("vda", *queries))
    assert [payload[4:].decode() for _, payload in replies[:-1]] == names
    assert replies[-1][0] == OptionReply.ACK


def test_selected_contexts_are_numbered() -> None:
    replies = ask(structured(), Option.SET_META_CONTEXT, contexts("vda", *BOTH, "x-no:"))
    assert [payload for _, payload in replies] == [
        pack(">I", 1) + b"base:allocation",
        pack(">I", 2) + b"qemu:dirty-bitmap:day",
        b"",
    ]


def test_a_wildcard_selects_nothing() -> None:
    replies = ask(structured(), Option.SET_META_CONTEXT, contexts("vda", "base:", "qemu:"))
    assert replies == [(OptionReply.ACK, b"")]


def go(negotiation: Negotiation, name: str) -> int:
    ask(negotiation, Option.GO, text(name) + pack(">H", 0))
    assert negotiation.session is not None
    return len(negotiation.session.contexts)


def test_selected_contexts_are_kept() -> None:
    negotiation = structured()
    ask(negotiation, Option.SET_META_CONTEXT, contexts("vda", *BOTH))
    assert go(negotiation, "vda") == 2


def test_contexts_of_another_export_are_dropped() -> None:
    negotiation = structured("vda", "vdb")
    ask(negotiation, Option.SET_META_CONTEXT, contexts("vda", *BOTH))
    assert go(negotiation, "vdb") == 0


def test_an_absurd_number_of_queries_is_refused() -> None:
    data = text("vda") + pack(">I", 0xFFFFFFFF)
    replies = ask(structured(), Option.SET_META_CONTEXT, data)
    assert replies[0][0] == OptionReply.ERR_TOO_BIG


def test_an_oversized_option_ends_the_connection() -> None:
    with pytest.raises(NbdViolation, match="65537 bytes"):
        make().receive(pack(">QII", OPTION_MAGIC, Option.GO, 65537))


def test_endless_haggling_ends_the_connection() -> None:
    negotiation = make(limits=NbdLimits(options=2))
    with pytest.raises(NbdViolation, match="2 options"):
        negotiation.receive(option(Option.LIST) * 3)


def test_the_handshake_survives_any_split() -> None:
    negotiation = Negotiation({"vda": NbdExport("vda", Image(1, path=""))}, NbdLimits())
    script = pack(">I", 3) + option(Option.LIST) + option(Option.ABORT)
    replies = b"".join(negotiation.receive(bytes([byte])) for byte in script)
    assert len(split(Option.LIST, replies[: 20 + 7 + 20])) == 2
    assert negotiation.closed


@given(st.integers(0, 12), st.binary(max_size=64))
def test_any_option_gets_an_answer_or_ends_the_connection(number: int, data: bytes) -> None:
    negotiation = structured()
    try:
        reply = negotiation.receive(option(number, data))
    except NbdViolation:
        return
    assert reply
