"""Lists: elements or the count alone, what they belong to, empty families, legacy lists."""

import pytest
from raw_client import RawClient

TEST = ("test", bytes(range(16)), 1)
OTHER = ("other", bytes(range(16, 32)), 1)


async def test_domains(client: RawClient) -> None:
    assert await client.call("CONNECT_LIST_ALL_DOMAINS", 1, 0) == ([TEST, OTHER], 2)


async def test_count_alone(client: RawClient) -> None:
    assert await client.call("CONNECT_LIST_ALL_DOMAINS", 0, 0) == ([], 2)


async def test_checkpoints_belong_to_their_domain(client: RawClient) -> None:
    found, count = await client.call("DOMAIN_LIST_ALL_CHECKPOINTS", TEST, 1, 0)
    assert (found, count) == ([("one", TEST), ("two", TEST)], 2)


async def test_children_belong_to_the_domain_of_their_parent(client: RawClient) -> None:
    args = ("one", TEST), 1, 0
    found, _ = await client.call("DOMAIN_CHECKPOINT_LIST_ALL_CHILDREN", *args)
    assert found == [("child of one", TEST)]


@pytest.mark.parametrize(
    "family",
    ["INTERFACES", "NODE_DEVICES", "NWFILTERS", "NETWORKS", "STORAGE_POOLS", "SECRETS"],
)
async def test_families_without_objects_are_empty(client: RawClient, family: str) -> None:
    assert await client.call(f"CONNECT_LIST_ALL_{family}", 1, 0) == ([], 0)


async def test_ids_of_domains(client: RawClient) -> None:
    assert await client.call("CONNECT_LIST_DOMAINS", 10) == ([1, 1],)


async def test_no_more_ids_than_there_is_room_for(client: RawClient) -> None:
    assert await client.call("CONNECT_LIST_DOMAINS", 1) == ([1],)


async def test_number_of_domains(client: RawClient) -> None:
    assert await client.call("CONNECT_NUM_OF_DOMAINS") == (2,)


async def test_names_of_defined_domains(client: RawClient) -> None:
    assert await client.call("CONNECT_LIST_DEFINED_DOMAINS", 10) == (["test", "other"],)


async def test_number_of_defined_domains(client: RawClient) -> None:
    assert await client.call("CONNECT_NUM_OF_DEFINED_DOMAINS") == (2,)
