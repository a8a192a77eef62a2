"""A console as a stream: data both ways, finish, abort, strays, and the end of either side."""

from typing import TYPE_CHECKING

from raw_client import RawClient
from trio.testing import wait_all_tasks_blocked

from virtbackupd.protocol.client import Frame

if TYPE_CHECKING:
    from tests.server.conftest import Server

TEST = ("test", bytes(range(16)), 1)
REMOTE, OPEN_CONSOLE, STREAM = 0x20008086, 201, 3
OK, ERROR, CONTINUE = 0, 1, 2


def packet(serial: int, status: int, data: bytes = b"") -> Frame:
    return Frame(REMOTE, 1, OPEN_CONSOLE, STREAM, serial, status, data)


async def opened(client: RawClient) -> int:
    """The serial that the stream keeps."""
    serial = await client.start("DOMAIN_OPEN_CONSOLE", TEST, None, 0)
    assert (await client.frame()).error() is None
    return serial


async def test_what_is_typed_reaches_the_guest_and_back(client: RawClient) -> None:
    serial = await opened(client)
    await client.send_frame(packet(serial, CONTINUE, b"hello"))
    assert await client.frame() == packet(serial, CONTINUE, b"hello")


async def test_finish_is_confirmed(server: "Server", client: RawClient) -> None:
    serial = await opened(client)
    await client.send_frame(packet(serial, OK))
    assert await client.frame() == packet(serial, OK)
    assert server.driver.test.consoles[0].closed


async def test_abort_is_confirmed(server: "Server", client: RawClient) -> None:
    serial = await opened(client)
    await client.send_frame(packet(serial, ERROR))
    assert await client.frame() == packet(serial, OK)
    assert server.driver.test.consoles[0].closed


async def test_end_of_the_guest_is_an_empty_frame(client: RawClient) -> None:
    serial = await opened(client)
    await client.send_frame(packet(serial, CONTINUE, b"\n"))
    assert await client.frame() == packet(serial, CONTINUE, b"")


async def test_data_for_no_stream_is_dropped(client: RawClient) -> None:
    await client.send_frame(packet(99, CONTINUE, b"hello"))
    assert await client.is_silent()


async def test_nothing_comes_after_the_finish(client: RawClient) -> None:
    serial = await opened(client)
    await client.send_frame(packet(serial, OK))
    await client.frame()
    await client.send_frame(packet(serial, CONTINUE, b"late"))
    assert await client.is_silent()


async def test_two_streams_do_not_mix(client: RawClient) -> None:
    first, second = await opened(client), await opened(client)
    await client.send_frame(packet(second, CONTINUE, b"two"))
    assert (await client.frame()).serial == second
    await client.send_frame(packet(first, CONTINUE, b"one"))
    assert (await client.frame()).serial == first


async def test_hole_in_a_stream_closes_the_connection(client: RawClient) -> None:
    serial = await opened(client)
    await client.send_frame(Frame(REMOTE, 1, OPEN_CONSOLE, 6, serial, CONTINUE, bytes(12)))
    assert await client.receive() is None


async def test_streams_end_with_their_client(server: "Server", client: RawClient) -> None:
    await opened(client)
    client.close()
    await wait_all_tasks_blocked()
    assert server.driver.test.consoles[0].closed


async def test_streams_of_one_client_are_bounded(client: RawClient) -> None:
    for _ in range(64):
        await opened(client)
    assert (await client.refused("DOMAIN_OPEN_CONSOLE", TEST, None, 0)).code == 1
