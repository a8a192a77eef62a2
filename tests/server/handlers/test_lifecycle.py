"""Starting domains; what AUTODESTROY means for the client is in test_session.py."""

from raw_client import RawClient

TEST = ("test", bytes(range(16)), 1)
OTHER = ("other", bytes(range(16, 32)), 1)


async def test_starting_returns_the_domain_with_its_id(client: RawClient) -> None:
    started = await client.call("DOMAIN_CREATE_WITH_FLAGS", ("test", TEST[1], -1), 0)
    assert started == (TEST,)


async def test_creating_returns_the_domain(client: RawClient) -> None:
    assert await client.call("DOMAIN_CREATE_XML", "<domain/>", 0) == (OTHER,)


async def test_unknown_domain_does_not_start(client: RawClient) -> None:
    assert (await client.refused("DOMAIN_CREATE_WITH_FLAGS", ("x", b"x" * 16, -1), 0)).code == 42
