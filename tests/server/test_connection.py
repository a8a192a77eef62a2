"""What a client meets on connecting: authentication list, features, opening, keepalive, closing."""

from typing import TYPE_CHECKING

import pytest
from raw_client import RawClient

from virtbackupd.drivers.profiles import PROFILES
from virtbackupd.protocol.client import Frame

if TYPE_CHECKING:
    from tests.server.conftest import Server

KEEPALIVE = 0x6B656570
DOMAIN = ("test", bytes(range(16)), 1)


async def test_authentication_list_names_none(server: "Server") -> None:
    assert await server.connect().call("AUTH_LIST") == ([0],)


@pytest.mark.parametrize("name", ["AUTH_SASL_INIT", "AUTH_POLKIT"])
async def test_other_authentication_is_refused(server: "Server", name: str) -> None:
    assert (await server.connect().refused(name)).code in {1, 45}


async def test_opening_needs_no_authentication_list(server: "Server") -> None:
    client = server.connect()
    await client.open()
    assert await client.call("CONNECT_GET_TYPE") == ("SCRIPTED",)


async def test_calls_before_open_are_refused(server: "Server") -> None:
    error = await server.connect().refused("CONNECT_GET_TYPE")
    assert (error.code, error.message) == (1, "internal error: hypervisor connection not open")


@pytest.mark.parametrize("uri", ["qemu:///system", "test:///default", "test+unix:///default", ""])
async def test_uris_of_served_schemes_open(server: "Server", uri: str) -> None:
    await server.connect().open(uri)


async def test_empty_uri_is_resolved(server: "Server") -> None:
    client = server.connect()
    await client.open("")
    assert await client.call("CONNECT_GET_URI") == ("test:///default",)


async def test_uri_is_reported_as_given(server: "Server") -> None:
    client = server.connect()
    await client.open("qemu:///system")
    assert await client.call("CONNECT_GET_URI") == ("qemu:///system",)


async def test_unknown_scheme_names_the_served_ones(server: "Server") -> None:
    error = await server.connect().refused("CONNECT_OPEN", "xen:///", 0)
    assert error.code == 5
    assert "test:, qemu:" in error.message


async def test_driver_may_refuse_the_path(server: "Server") -> None:
    assert (await server.connect().refused("CONNECT_OPEN", "test:///elsewhere", 0)).code == 5


async def test_no_uri_at_all_is_refused(server: "Server") -> None:
    assert (await server.connect().refused("CONNECT_OPEN", None, 0)).code == 1


async def test_second_open_is_refused(client: RawClient) -> None:
    assert (await client.refused("CONNECT_OPEN", "test:///default", 0)).code == 1


async def test_refused_open_may_be_repeated(server: "Server") -> None:
    client = server.connect()
    await client.refused("CONNECT_OPEN", "xen:///", 0)
    await client.open()


async def test_unknown_open_flags_are_ignored(server: "Server") -> None:
    await server.connect().open(flags=0x80)


@pytest.mark.parametrize(
    ("feature", "answer"), [(8, 0), (9, 1), (10, 1), (14, 1), (15, 1), (16, 1), (3, 0), (999, 0)]
)
async def test_features(client: RawClient, feature: int, answer: int) -> None:
    assert await client.call("CONNECT_SUPPORTS_FEATURE", feature) == (answer,)


@pytest.mark.parametrize(("profile", "answer"), [("6.0", 0), ("7.6", 1)])
async def test_feature_of_a_later_release(
    server: "Server", client: RawClient, profile: str, answer: int
) -> None:
    server.driver.profile = PROFILES[profile]
    assert await client.call("CONNECT_SUPPORTS_FEATURE", 16) == (answer,)


async def test_keepalive_feature_is_answered_before_open(server: "Server") -> None:
    assert await server.connect().call("CONNECT_SUPPORTS_FEATURE", 10) == (1,)


async def test_other_features_need_an_open_connection(server: "Server") -> None:
    assert (await server.connect().refused("CONNECT_SUPPORTS_FEATURE", 14)).code == 1


async def test_ping_is_answered_before_open(server: "Server") -> None:
    client = server.connect()
    await client.send_frame(Frame(KEEPALIVE, 1, 1, 2, 0, 0, b""))
    assert await client.frame() == Frame(KEEPALIVE, 1, 2, 2, 0, 0, b"")


async def test_ping_as_a_call_is_an_unknown_program(server: "Server") -> None:
    client = server.connect()
    await client.send_frame(Frame(KEEPALIVE, 1, 1, 0, 7, 0, b""))
    error = (await client.frame()).error()
    assert error is not None
    assert error.message.startswith("Cannot find program")


async def test_close_is_answered_and_then_closes(client: RawClient) -> None:
    await client.call("CONNECT_CLOSE")
    assert await client.receive() is None


async def test_close_needs_no_open_connection(server: "Server") -> None:
    client = server.connect()
    await client.call("CONNECT_CLOSE")
    assert await client.receive() is None


async def test_calls_after_close_in_the_same_bytes_are_dropped(client: RawClient) -> None:
    await client.send(client.call_bytes("CONNECT_CLOSE") + client.call_bytes("CONNECT_GET_TYPE"))
    assert (await client.frame()).procedure == client.procedures["CONNECT_CLOSE"].number
    assert await client.receive() is None


async def test_close_callback_may_be_registered_twice(client: RawClient) -> None:
    await client.call("CONNECT_REGISTER_CLOSE_CALLBACK")
    await client.call("CONNECT_REGISTER_CLOSE_CALLBACK")
    await client.call("CONNECT_UNREGISTER_CLOSE_CALLBACK")


async def test_plain_socket_pair_is_not_called_secure(client: RawClient) -> None:
    assert await client.call("CONNECT_IS_SECURE") == (0,)
