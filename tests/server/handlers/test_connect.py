"""Lookups in families that the driver does not manage; the rest is in test_connection.py."""

import pytest
from raw_client import RawClient

NETWORK = POOL = ("default", bytes(16))


@pytest.mark.parametrize("call", ["GET_AUTOSTART", "IS_ACTIVE", "IS_PERSISTENT"])
async def test_unknown_network(client: RawClient, call: str) -> None:
    error = await client.refused(f"NETWORK_{call}", NETWORK)
    assert error.code == 43
    assert "'default'" in error.message


@pytest.mark.parametrize("call", ["GET_AUTOSTART", "GET_INFO", "IS_ACTIVE", "IS_PERSISTENT"])
async def test_unknown_pool(client: RawClient, call: str) -> None:
    error = await client.refused(f"STORAGE_POOL_{call}", POOL)
    assert error.code == 49
    assert "'default'" in error.message


async def test_unknown_pool_by_name(client: RawClient) -> None:
    assert (await client.refused("STORAGE_POOL_LOOKUP_BY_NAME", "default")).code == 49


async def test_unknown_pool_by_path(client: RawClient) -> None:
    """virtnbdbackup's restore goes on after this code, and after no other."""
    error = await client.refused("STORAGE_POOL_LOOKUP_BY_TARGET_PATH", "/var/lib")
    assert (error.code, "'/var/lib'" in error.message) == (49, True)
