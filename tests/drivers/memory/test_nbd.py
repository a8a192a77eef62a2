"""The NBD server on real sockets, read by the stock tools of libnbd and QEMU."""

import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from struct import pack

import pytest
import trio

from virtbackupd.drivers.clock import Clock
from virtbackupd.drivers.memory.bitmap import DirtyMap
from virtbackupd.drivers.memory.clusters import CLUSTER
from virtbackupd.drivers.memory.image import Image
from virtbackupd.drivers.memory.nbd import (
    NbdServer,
    TcpAddress,
    UnixAddress,
    close_listeners,
    open_listeners,
    serve_nbd,
)
from virtbackupd.drivers.memory.nbd_export import NbdExport, NbdLimits

SYSTEM = {"PATH": "/usr/bin:/bin"}
"""Where the stock tools are, and the interpreter that has libnbd's module."""
CAPACITY = 5 * CLUSTER + 512


@pytest.fixture
def image() -> Image:
    image = Image(CAPACITY, path="/images/a")
    image.fill_pattern(1, CLUSTER, CLUSTER)
    image.fill_pattern(1, 3 * CLUSTER, CAPACITY - 3 * CLUSTER)
    return image


@pytest.fixture
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    # The address of a Unix socket holds some hundred bytes, fewer than a test's own folder needs.
    return str(tmp_path_factory.mktemp("nbd") / "s")


@asynccontextmanager
async def serving(
    path: str,
    *exports: NbdExport,
    limits: NbdLimits | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[NbdServer]:
    address = UnixAddress(path)
    listeners = await open_listeners(address)
    async with trio.open_nursery() as nursery:

        async def start(task_status: trio.TaskStatus[NbdServer]) -> None:
            await serve_nbd(listeners, exports, limits=limits, clock=clock, task_status=task_status)

        yield await nursery.start(start)
        nursery.cancel_scope.cancel()
        close_listeners(listeners, address)


async def run(*command: str) -> str:
    with trio.fail_after(60):
        done = await trio.run_process(command, capture_stdout=True, env=SYSTEM)
    return done.stdout.decode()


def uri(path: str, name: str = "vda") -> str:
    return f"nbd+unix:///{name}?socket={path}"


async def test_nbdinfo_maps_allocation(path: str, image: Image) -> None:
    async with serving(path, NbdExport("vda", image)):
        found = json.loads(await run("nbdinfo", "--json", "--map", uri(path)))
    assert [(extent["length"], extent["type"]) for extent in found] == [
        (CLUSTER, 3),
        (CLUSTER, 0),
        (CLUSTER, 3),
        (CAPACITY - 3 * CLUSTER, 0),
    ]


async def test_nbdinfo_maps_a_dirty_bitmap(path: str, image: Image) -> None:
    export = NbdExport("vda", image, {"backup-vda": DirtyMap([0, 5])})
    async with serving(path, export):
        command = ("nbdinfo", "--json", "--map=qemu:dirty-bitmap:backup-vda", uri(path))
        found = json.loads(await run(*command))
    assert [(extent["offset"], extent["type"]) for extent in found] == [
        (0, 1),
        (CLUSTER, 0),
        (5 * CLUSTER, 1),
    ]


async def test_nbdinfo_lists_exports(path: str, image: Image) -> None:
    exports = (NbdExport("vda", image, {"day": DirtyMap([])}, "first"), NbdExport("vdb", image))
    async with serving(path, *exports):
        found = json.loads(await run("nbdinfo", "--json", "--list", f"nbd+unix://?socket={path}"))
    first, second = found["exports"]
    assert (first["export-name"], first["description"]) == ("vda", "first")
    assert first["contexts"] == ["base:allocation", "qemu:dirty-bitmap:day"]
    assert (second["export-name"], second["export-size"]) == ("vdb", CAPACITY)


async def test_nbdcopy_copies_the_contents(path: str, image: Image, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    async with serving(path, NbdExport("vda", image)):
        await run("nbdcopy", uri(path), str(copy))
    assert copy.read_bytes() == image.read(0, CAPACITY)


async def test_qemu_img_converts_the_contents(path: str, image: Image, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    async with serving(path, NbdExport("vda", image)):
        await run("qemu-img", "convert", "-f", "raw", "-O", "raw", uri(path), str(copy))
    assert copy.read_bytes() == image.read(0, CAPACITY)


async def test_qemu_img_reads_a_bitmap_as_libvirt_clients_do(path: str, image: Image) -> None:
    options = f"driver=nbd,export=vda,server.type=unix,server.path={path}"
    context = ",x-dirty-bitmap=qemu:dirty-bitmap:day"
    async with serving(path, NbdExport("vda", image, {"day": DirtyMap([1])})):
        command = ("qemu-img", "map", "--output=json", "--image-opts", options + context)
        found = json.loads(await run(*command))
    assert [extent["start"] for extent in found if not extent["data"]] == [CLUSTER]


SIMPLE = """
h.set_request_structured_replies(False)
h.connect_uri("{uri}")
print(h.get_structured_replies_negotiated(), h.pread({length}, {offset}).hex())
"""


async def test_libnbd_reads_without_structured_replies(path: str, image: Image) -> None:
    script = SIMPLE.format(uri=uri(path), offset=CLUSTER - 3, length=6)
    async with serving(path, NbdExport("vda", image)):
        answer = await run("nbdsh", "-c", script)
    assert answer.split() == ["False", image.read(CLUSTER - 3, 6).hex()]


REFUSED = """
h.set_strict_mode(0)
h.connect_uri("{uri}")
for call in (lambda: h.pwrite(b"x" * 512, 0), lambda: h.trim(512, 0), lambda: h.zero(512, 0)):
    try:
        call()
    except nbd.Error as error:
        print(error.errno)
h.flush()
h.cache(512, 0)
"""


async def test_libnbd_may_not_write(path: str, image: Image) -> None:
    async with serving(path, NbdExport("vda", image)):
        answer = await run("nbdsh", "-c", REFUSED.format(uri=uri(path)))
    assert answer.split() == ["EPERM"] * 3


async def test_the_export_is_frozen_while_the_guest_writes(path: str, image: Image) -> None:
    wanted = image.read(0, CAPACITY)
    with image.freeze() as frozen:
        async with serving(path, NbdExport("vda", frozen)):
            image.fill(0, CAPACITY, 7)
            script = f'h.connect_uri("{uri(path)}"); print(h.pread({CAPACITY}, 0).hex())'
            answer = await run("nbdsh", "-c", script)
    assert bytes.fromhex(answer) == wanted


async def test_tcp_on_a_free_port(image: Image) -> None:
    listeners = await open_listeners(TcpAddress("127.0.0.1", 0))
    port = listeners[0].socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_nbd, listeners, [NbdExport("vda", image)])
        size = await run("nbdinfo", "--size", f"nbd://127.0.0.1:{port}/vda")
        nursery.cancel_scope.cancel()
    assert int(size) == CAPACITY


async def test_a_port_in_use_is_refused() -> None:
    (listener,) = await open_listeners(TcpAddress("127.0.0.1", 0))
    port = listener.socket.getsockname()[1]
    with pytest.raises(OSError, match="in use"):
        await open_listeners(TcpAddress("127.0.0.1", port))
    await listener.aclose()


async def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await open_listeners(UnixAddress(str(tmp_path / "none" / "nbd.sock")))


async def test_a_file_that_is_no_socket_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    with pytest.raises(OSError, match="in use"):
        await open_listeners(UnixAddress(str(tmp_path / "file")))


async def test_a_stale_socket_is_replaced(path: str, image: Image) -> None:
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(path)
    stale.close()
    async with serving(path, NbdExport("vda", image)):
        assert int(await run("nbdinfo", "--size", uri(path))) == CAPACITY


async def test_a_socket_that_answers_is_not_replaced(path: str) -> None:
    listeners = await open_listeners(UnixAddress(path))
    with pytest.raises(OSError, match="in use"):
        await open_listeners(UnixAddress(path))
    assert await trio.Path(path).is_socket()
    close_listeners(listeners, UnixAddress(path))


async def test_giving_up_an_address_removes_the_socket_file(path: str) -> None:
    listeners = await open_listeners(UnixAddress(path))
    assert await trio.Path(path).is_socket()
    close_listeners(listeners, UnixAddress(path))
    assert not await trio.Path(path).exists()


async def test_cancelling_closes_the_clients(path: str, image: Image) -> None:
    async with serving(path, NbdExport("vda", image)):
        stream = await trio.open_unix_socket(path)
        await stream.receive_some(18)
    with trio.fail_after(60):
        assert await stream.receive_some(1) == b""
    await stream.aclose()


async def talk(path: str, data: bytes) -> bytes:
    """Everything the server says to a client that sends `data` and waits."""
    async with await trio.open_unix_socket(path) as stream:
        await stream.send_all(data)
        with trio.fail_after(60):
            return b"".join([chunk async for chunk in stream])


async def test_a_client_that_talks_nonsense_loses_only_itself(path: str, image: Image) -> None:
    async with serving(path, NbdExport("vda", image)):
        assert await talk(path, b"\xff" * 100) == b"NBDMAGICIHAVEOPT\0\3"
        assert int(await run("nbdinfo", "--size", uri(path))) == CAPACITY


async def test_a_silent_client_is_dropped(path: str, image: Image) -> None:
    limits = NbdLimits(negotiation_seconds=0.05)
    async with serving(path, NbdExport("vda", image), limits=limits):
        assert len(await talk(path, b"")) == 18


async def test_a_silent_client_is_dropped_by_the_daemon_s_clock(path: str, image: Image) -> None:
    clock, limits = Clock(0), NbdLimits(negotiation_seconds=10)
    async with (
        serving(path, NbdExport("vda", image), limits=limits, clock=clock),
        await trio.open_unix_socket(path) as stream,
    ):
        assert len(await stream.receive_some()) == 18
        assert [waiter.what for waiter in clock.waiting()] == ["NBD negotiation"]
        await clock.step(10)
        with trio.fail_after(60):
            assert await stream.receive_some() == b""


async def test_one_client_too_many_is_turned_away(path: str, image: Image) -> None:
    limits = NbdLimits(connections=1)
    async with (
        serving(path, NbdExport("vda", image), limits=limits) as server,
        await trio.open_unix_socket(path) as first,
    ):
        await first.receive_some(18)
        assert (await talk(path, b""), server.connections) == (b"", 1)


async def test_a_client_that_does_not_read_stalls_only_itself(path: str) -> None:
    big = Image(256 << 20, path="big")
    big.fill(0, 256 << 20, 1)
    go = b"IHAVEOPT" + pack(">II", 1, 3) + b"vda"
    reads = b"".join(pack(">IHHQQI", 0x25609513, 0, 0, number, 0, 32 << 20) for number in range(8))
    async with (
        serving(path, NbdExport("vda", big)),
        await trio.open_unix_socket(path) as lazy,
    ):
        await lazy.send_all(pack(">I", 3) + go + reads)
        await lazy.receive_some(18)
        assert int(await run("nbdinfo", "--size", uri(path))) == 256 << 20


async def test_many_requests_at_once_are_answered_in_order(path: str, image: Image) -> None:
    go = b"IHAVEOPT" + pack(">II", 1, 3) + b"vda"
    reads = b"".join(pack(">IHHQQI", 0x25609513, 0, 0, n, CLUSTER, 16) for n in range(3000))
    bye = pack(">IHHQQI", 0x25609513, 0, 2, 0, 0, 0)
    async with serving(path, NbdExport("vda", image)):
        answer = await talk(path, pack(">I", 3) + go + reads + bye)
    content = image.read(CLUSTER, 16)
    wanted = b"".join(pack(">IIQ", 0x67446698, 0, n) + content for n in range(3000))
    assert answer[28:] == wanted
