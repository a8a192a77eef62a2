"""What faults do to NBD connections, seen by a client of a real server."""

import struct
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import pytest
import trio
from nbd_client import CHUNK, NbdClient, nbd_client

from virtbackupd.drivers.clock import Clock
from virtbackupd.drivers.events import DomainRef
from virtbackupd.drivers.faults.engine import Faults
from virtbackupd.drivers.memory.clusters import CLUSTER
from virtbackupd.drivers.memory.image import Image
from virtbackupd.drivers.memory.nbd import UnixAddress, close_listeners, open_listeners, serve_nbd
from virtbackupd.drivers.memory.nbd_export import NbdExport
from virtbackupd.drivers.memory.nbd_faults import NbdFaults

DOMAIN = DomainRef("web", bytes(16), 1)
SIZE = 8 * CLUSTER
GREETING = 18


async def until(condition: Callable[[], bool]) -> None:
    """A client in a thread is seen by nobody but the server."""
    with trio.fail_after(60):
        while not condition():
            await trio.lowlevel.checkpoint()


class Site:
    """A server with one disk full of data, `vda`, that is exported as `disk`."""

    def __init__(self, address: Path) -> None:
        self.address = address
        self.faults = Faults()
        self.clock = Clock(0)
        self.image = Image(SIZE, path="/i/a")
        self.image.fill_pattern(1, 0, SIZE)
        self.reading = True
        self.asked: list[str] = []

    @property
    def data(self) -> bytes:
        return self.image.read(0, SIZE)

    def add(self, effect: str, nbd: str = "read", when: str = "times = 1", more: str = "") -> None:
        match = f"nbd = '{nbd}'{more}"
        self.faults.load_text(
            f"[[faults]]\nmatch = {{ {match} }}\nwhen = {{ {when} }}\neffect = {{ {effect} }}\n"
        )

    async def ask(self, action: Callable[[NbdClient], bytes | int]) -> bytes | int:
        """What a client gets that does something."""

        def work() -> bytes | int:
            with nbd_client(self.address, "disk") as client:
                return action(client)

        return await trio.to_thread.run_sync(work, abandon_on_cancel=True)

    async def read(self, offset: int = 0, length: int = SIZE) -> bytes | int:
        return await self.ask(lambda client: client.read(offset, length))

    def asked_to_read(self, disk: str) -> bool:
        self.asked.append(disk)
        return self.reading


@pytest.fixture
async def site(nursery: trio.Nursery, tmp_path: Path) -> AsyncIterator[Site]:
    site = Site(tmp_path / "nbd")
    address = UnixAddress(str(site.address))
    listeners = await open_listeners(address)
    about = NbdFaults(site.faults, DOMAIN, {"disk": "vda"}, site.clock, site.asked_to_read)
    async with trio.open_nursery() as serving:
        exports = [NbdExport("disk", site.image)]
        serving.start_soon(partial(serve_nbd, listeners, exports, faults=about))
        yield site
        serving.cancel_scope.cancel()
    close_listeners(listeners, address)


async def test_without_rules_all_is_well(site: Site) -> None:
    assert await site.read() == site.data
    assert site.asked == []


async def test_a_read_fails(site: Site) -> None:
    site.add("kind = 'error', code = 'ENOSPC', message = 'full'")
    with pytest.raises(ConnectionError, match="full"):
        await site.read()
    assert await site.read() == site.data


async def test_block_status_fails(site: Site) -> None:
    site.add("kind = 'error'", "block-status")
    with pytest.raises(ConnectionError, match="input/output error"):
        await site.ask(lambda client: len(client.extents()))


@pytest.mark.parametrize("byte", [0, 1, CLUSTER, 3 * CLUSTER + 5])
async def test_contents_are_cut_at_a_byte(site: Site, byte: int) -> None:
    site.add(f"kind = 'drop', byte = {byte}")
    received = 0

    def count(client: NbdClient) -> int:
        nonlocal received
        client._send(0, 0, SIZE)
        while part := client._socket.recv(CLUSTER):
            received += len(part)
        return received

    with pytest.raises(OSError):  # noqa: PT011 - the end of the connection
        await site.ask(count)
    assert received == (byte + CHUNK.size + 8 if byte else 0)
    assert site.faults.unmatched() == []


async def test_bytes_are_counted_over_several_reads(site: Site) -> None:
    site.add(f"kind = 'drop', byte = {CLUSTER + 1}", when="")
    read = 0

    def twice(client: NbdClient) -> int:
        nonlocal read
        for number in range(3):
            client.read(number * CLUSTER, CLUSTER)
            read += 1
        return read

    with pytest.raises(OSError):  # noqa: PT011 - the end of the connection
        await site.ask(twice)
    assert read == 1


async def test_a_connection_that_ends_before_the_byte_was_not_hit(site: Site) -> None:
    site.add(f"kind = 'drop', byte = {SIZE}")
    assert await site.read() == site.data
    assert len(site.faults.unmatched()) == 1


async def test_one_byte_arrives_changed(site: Site) -> None:
    site.add(f"kind = 'corrupt', byte = {CLUSTER + 7}")
    read, right = await site.read(), site.data
    assert isinstance(read, bytes)
    assert [place for place in range(SIZE) if read[place] != right[place]] == [CLUSTER + 7]
    assert site.data == right


async def test_bytes_across_two_reads_arrive_changed(site: Site) -> None:
    site.add(f"kind = 'corrupt', byte = {CLUSTER - 1}, count = 2")
    read = await site.ask(lambda c: c.read(0, CLUSTER) + c.read(CLUSTER, CLUSTER))
    right = site.data
    assert isinstance(read, bytes)
    wrong = [place for place in range(2 * CLUSTER) if read[place] != right[place]]
    assert wrong == [CLUSTER - 1, CLUSTER]


async def test_holes_are_not_counted(site: Site) -> None:
    site.image.discard(0, CLUSTER)
    site.add("kind = 'corrupt', byte = 0")
    read, right = await site.read(), site.data
    assert isinstance(read, bytes)
    assert [place for place in range(SIZE) if read[place] != right[place]] == [CLUSTER]


async def test_a_reply_that_is_not_a_read_counts_whole(site: Site) -> None:
    site.add("kind = 'drop', byte = 1", "block-status")
    with pytest.raises(OSError):  # noqa: PT011 - the end of the connection
        await site.ask(lambda client: len(client.extents()))
    assert site.faults.unmatched() == []


async def test_a_stalled_connection_stays_open(site: Site, nursery: trio.Nursery) -> None:
    site.add("kind = 'stall', byte = 100")
    nursery.start_soon(site.read)
    await until(lambda: not site.faults.unmatched())
    assert await site.read() == site.data
    nursery.cancel_scope.cancel()


async def test_a_reply_is_delayed_by_the_clock(site: Site, nursery: trio.Nursery) -> None:
    site.add("kind = 'delay', seconds = 5")
    done = trio.Event()

    async def read() -> None:
        assert await site.read() == site.data
        done.set()

    nursery.start_soon(read)
    await until(lambda: any("fault" in each.what for each in site.clock.waiting()))
    await site.clock.step(4)
    assert not done.is_set()
    await site.clock.step(1)
    with trio.fail_after(60):
        await done.wait()


async def test_nobody_gets_in(site: Site) -> None:
    site.add("kind = 'drop'", "connect")
    with pytest.raises(ConnectionError, match="closed the connection"):
        await site.read()


async def test_the_greeting_can_be_broken(site: Site) -> None:
    site.add("kind = 'corrupt', byte = 0", "connect")
    assert await greeted(site.address) == struct.pack(">Q", 0x4E42444D41474943 ^ (0xFF << 56))


async def greeted(address: Path) -> bytes:
    """The first word that a server says."""
    async with await trio.open_unix_socket(str(address)) as stream:
        return bytes(await stream.receive_some(GREETING))[:8]


async def test_the_connection_ends_within_the_handshake(site: Site) -> None:
    site.add("kind = 'drop'", "handshake")
    with pytest.raises(ConnectionError, match="closed the connection"):
        await site.read()
    assert len(await greeted(site.address)) == 8


async def test_only_the_chosen_disk_is_hit(site: Site) -> None:
    site.add("kind = 'error'", more=", disk = 'vdb'")
    assert await site.read() == site.data


async def test_the_backup_is_told_of_each_read(site: Site) -> None:
    site.add("kind = 'error'", "flush")
    await site.ask(lambda c: c.read(0, CLUSTER) + c.read(0, CLUSTER))
    assert site.asked == ["vda", "vda"]


async def test_a_read_gets_nothing_when_the_backup_has_ended_of_it(site: Site) -> None:
    site.add("kind = 'error'", "flush")
    site.reading = False
    with pytest.raises(OSError):  # noqa: PT011 - the end of the connection
        await site.read()


async def test_rules_count_for_connections_that_are_open_already(site: Site) -> None:
    token = trio.lowlevel.current_trio_token()

    def work(client: NbdClient) -> bytes:
        client.read(0, CLUSTER)
        trio.from_thread.run_sync(site.add, "kind = 'error'", trio_token=token)
        return client.read(0, CLUSTER)

    with pytest.raises(ConnectionError, match="input/output"):
        await site.ask(work)
