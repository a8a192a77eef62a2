"""The administration socket: who gets in, how many, and what becomes of broken frames."""

import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio

from virtbackupd.drivers.clock import Clock
from virtbackupd.protocol import schema
from virtbackupd.protocol.client import FrameReader, encode_call
from virtbackupd.server.admin.house import ClientLimits, House, Logging, Server
from virtbackupd.server.admin.listening import SERVER_NAME, AdminServer


def _ignore(_value: object) -> None:
    """Nothing here changes settings."""


@dataclass
class Peer:
    """A caller of the socket."""

    stream: trio.SocketStream
    serial: int = 0

    async def call(self, name: str, *args: object) -> tuple[Any, ...]:
        procedure = schema.load_admin().by_name[name]
        self.serial += 1
        await self.stream.send_all(encode_call(procedure, self.serial, args))
        frames = FrameReader().receive_data(bytes(await self.stream.receive_some()))
        return procedure.decode_ret(frames[0].payload)

    async def refusal(self, name: str, *args: object) -> str:
        procedure = schema.load_admin().by_name[name]
        await self.stream.send_all(encode_call(procedure, 1, args))
        (frame,) = FrameReader().receive_data(bytes(await self.stream.receive_some()))
        assert frame.status == 1
        return frame.payload.decode(errors="replace")

    async def closed(self) -> bool:
        return await self.stream.receive_some() == b""


@dataclass
class Site:
    path: Path
    admin: AdminServer
    peers: list[Peer] = field(default_factory=list)

    async def connect(self) -> Peer:
        self.peers.append(Peer(await trio.open_unix_socket(str(self.path))))
        return self.peers[-1]


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    house = House(1_002_003, Logging(str, str, _ignore, _ignore), _ignore)
    admin = AdminServer(house, Clock())
    admin.entry(Server(SERVER_NAME, tuple, ClientLimits(2, 0), _ignore))
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(tmp_path / "sock"))
    listening.listen()
    with listening, trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(admin.serve, listening)
            site = Site(tmp_path / "sock", admin)
            yield site
            for peer in site.peers:
                await peer.stream.aclose()
            nursery.cancel_scope.cancel()


async def test_a_call_is_answered(site: Site) -> None:
    peer = await site.connect()
    assert await peer.call("CONNECT_GET_LIB_VERSION") == (1_002_003,)


async def test_more_than_allowed_are_sent_away(site: Site) -> None:
    peers = [await site.connect() for _ in range(2)]
    for peer in peers:
        await peer.call("CONNECT_OPEN", 0)
    late = await site.connect()
    assert "admin_max_clients" in await late.refusal("CONNECT_OPEN", 0)
    assert await late.closed()
    assert len(site.admin.clients) == 2
    assert site.admin.reached == {"admin_max_clients": 1}


async def test_a_place_is_free_again(site: Site) -> None:
    for _ in range(3):
        peer = await site.connect()
        await peer.call("CONNECT_OPEN", 0)
        await peer.call("CONNECT_CLOSE")
        assert await peer.closed()


async def test_a_broken_frame_ends_the_connection(site: Site) -> None:
    peer = await site.connect()
    await peer.stream.send_all(b"\0\0\0\1garbage")
    assert await peer.closed()


async def test_a_client_sees_itself(site: Site) -> None:
    peer = await site.connect()
    clients, count = await peer.call("SERVER_LIST_CLIENTS", (SERVER_NAME,), 1, 0)
    assert (count, clients[0][1]) == (1, 1)
