"""The whole daemon in this process: ready, serving on real sockets, ending in order."""

import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from raw_client import RawClient
from scripted_driver import open_scripted_driver

from virtbackupd.server.daemon import DaemonConfig, DriverChoice, serve
from virtbackupd.server.limits import Limits
from virtbackupd.server.listeners import listen_unix
from virtbackupd.server.services import Services


class Running:
    """A daemon that ends when `end` is set."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self._folder = folder
        self.end = trio.Event()
        self.ended = trio.Event()
        self.ready: list[str] = []
        self.services: Services
        choices = [DriverChoice(scheme, "one", open_scripted_driver) for scheme in ("test", "qemu")]
        self.config = DaemonConfig(listen_unix(folder), choices, folder, limits=limits)

    async def run(self, *, task_status: trio.TaskStatus[Services]) -> None:
        await serve(
            self.config, lambda: self.ready.append("now"), self.end.wait, task_status=task_status
        )
        self.ended.set()

    def connect(self, name: str = "libvirt-sock") -> RawClient:
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(self._folder / name))
        return RawClient(sock)


@asynccontextmanager
async def running(limits: Limits | None = None) -> AsyncIterator[Running]:
    with tempfile.TemporaryDirectory(prefix="vb-") as name:
        daemon = Running(Path(name), limits or Limits())
        async with trio.open_nursery() as nursery:
            daemon.services = await nursery.start(daemon.run)
            yield daemon
            daemon.end.set()
            with trio.fail_after(60):
                await daemon.ended.wait()


@pytest.fixture
async def daemon() -> AsyncIterator[Running]:
    async with running() as found:
        yield found


async def test_ready_is_announced_once(daemon: Running) -> None:
    assert daemon.ready == ["now"]


async def test_unix_socket_serves(daemon: Running) -> None:
    client = daemon.connect()
    await client.open()
    client.close()


async def test_unix_socket_is_secure(daemon: Running) -> None:
    client = daemon.connect()
    await client.open()
    assert await client.call("CONNECT_IS_SECURE") == (1,)
    client.close()


async def test_read_only_socket_is_read_only(daemon: Running) -> None:
    client = daemon.connect("libvirt-sock-ro")
    await client.open()
    domain = ("test", bytes(range(16)), 1)
    assert (await client.refused("DOMAIN_SUSPEND", domain)).code == 29
    client.close()


async def test_schemes_of_one_name_share_a_driver(daemon: Running) -> None:
    drivers = daemon.services.drivers
    assert drivers.open("test:///default").driver is drivers.open("qemu:///system").driver


async def test_ending_closes_idle_clients(daemon: Running) -> None:
    client = daemon.connect()
    await client.open()
    daemon.end.set()
    assert await client.receive() is None
    client.close()


async def test_ending_removes_the_socket_files(daemon: Running) -> None:
    daemon.end.set()
    await daemon.ended.wait()
    assert not any(listener.path.exists() for listener in daemon.config.listeners if listener.path)


async def test_ending_does_not_wait_for_a_stuck_call(
    daemon: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("virtbackupd.server.reception.STOP_GRACE", 0.1)
    client = daemon.connect()
    await client.open()
    await client.start("DOMAIN_SUSPEND", ("test", bytes(range(16)), 1))
    assert await client.is_silent()
    daemon.end.set()
    assert await client.receive() is None
    client.close()


async def test_clients_over_the_limit_wait_for_their_turn() -> None:
    async with running(Limits(max_clients=1)) as daemon:
        first, second = daemon.connect(), daemon.connect()
        await first.open()
        await second.start("AUTH_LIST")
        first.close()
        assert (await second.frame()).error() is None
        second.close()
