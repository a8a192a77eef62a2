"""Figures and labels whose wire shape is their own."""

from typing import TYPE_CHECKING

from raw_client import RawClient

if TYPE_CHECKING:
    from tests.server.conftest import Server

TEST = ("test", bytes(range(16)), 1)
STRING_OKAY = 4


async def test_statistics_of_all_domains(client: RawClient) -> None:
    (records,) = await client.call("CONNECT_GET_ALL_DOMAIN_STATS", [], 0, 0)
    assert records == [(TEST, [("state.state", (1, 1))])]


async def test_first_call_asks_for_the_count(client: RawClient) -> None:
    args = TEST, "vda", 0, STRING_OKAY
    assert await client.call("DOMAIN_BLOCK_STATS_FLAGS", *args) == ([], 2)


async def test_second_call_gets_what_there_is_room_for(client: RawClient) -> None:
    args = TEST, "vda", 1, STRING_OKAY
    assert (await client.call("DOMAIN_BLOCK_STATS_FLAGS", *args))[0] == [("rd_bytes", (3, 7))]


async def test_strings_go_to_those_who_can_take_them(client: RawClient) -> None:
    params, _ = await client.call("DOMAIN_BLOCK_STATS_FLAGS", TEST, "vda", 2, STRING_OKAY)
    assert params[1] == ("name", (7, "vda"))


async def test_strings_are_left_out_for_others(client: RawClient) -> None:
    assert (await client.call("DOMAIN_BLOCK_STATS_FLAGS", TEST, "vda", 0, 0))[1] == 1


async def test_driver_does_not_see_the_string_flag(server: "Server", client: RawClient) -> None:
    await client.call("DOMAIN_BLOCK_STATS_FLAGS", TEST, "vda", 0, STRING_OKAY | 8)
    assert server.driver.test.flags_seen == [8]


async def test_label_ends_with_its_terminator(client: RawClient) -> None:
    assert await client.call("DOMAIN_GET_SECURITY_LABEL", TEST) == (b"label\0", 1)


async def test_security_model_ends_with_its_terminator(client: RawClient) -> None:
    assert await client.call("NODE_GET_SECURITY_MODEL") == (b"none\0", b"0\0")
