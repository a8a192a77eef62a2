"""Authentication where none is asked for: the list says so, and every scheme refuses."""

from typing import TYPE_CHECKING

import pytest
from raw_client import RawClient

if TYPE_CHECKING:
    from tests.server.conftest import Server


@pytest.fixture
def stranger(server: "Server") -> RawClient:
    """Connected, nothing else."""
    return server.connect()


async def test_list_names_none(stranger: RawClient) -> None:
    assert await stranger.call("AUTH_LIST") == ([0],)


async def test_list_may_be_asked_again(client: RawClient) -> None:
    assert await client.call("AUTH_LIST") == ([0],)


async def test_sasl_has_no_mechanisms(stranger: RawClient) -> None:
    error = await stranger.refused("AUTH_SASL_INIT")
    assert (error.code, error.message.startswith("authentication failed")) == (45, True)


async def test_sasl_does_not_start(stranger: RawClient) -> None:
    assert (await stranger.refused("AUTH_SASL_START", "PLAIN", 0, b"")).code == 45


async def test_sasl_does_not_step(stranger: RawClient) -> None:
    assert (await stranger.refused("AUTH_SASL_STEP", 0, b"")).code == 45


async def test_polkit_is_refused_as_libvirt_does(stranger: RawClient) -> None:
    assert (await stranger.refused("AUTH_POLKIT")).code == 1
