"""Where the NBD server of a backup listens, and which address is shown for it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from tools import free_port

from virtbackupd.drivers.definitions.backup import BackupServer
from virtbackupd.drivers.errors import InternalError
from virtbackupd.drivers.memory import pull_address
from virtbackupd.drivers.memory.nbd import TcpAddress, UnixAddress

NAME = "backup.example"
LOOPBACK = "127.0.0.1"


@asynccontextmanager
async def listening(server: BackupServer, advertised: str = "") -> AsyncIterator[BackupServer]:
    """While it listens, the server as it is shown."""
    listeners = await pull_address.listen(server, advertised)
    try:
        yield pull_address.announced(server, listeners, advertised)
    finally:
        for listener in listeners:
            await listener.aclose()


@pytest.mark.parametrize("asked", ["0.0.0.0", "", NAME])
async def test_every_address_is_shown_as_the_advertised_one(asked: str) -> None:
    async with listening(BackupServer(name=asked), NAME) as shown:
        assert shown.name == NAME


async def test_the_port_that_is_shown_is_the_one_that_is_served() -> None:
    async with listening(BackupServer(name="0.0.0.0"), NAME) as shown:
        await (await trio.open_tcp_stream(LOOPBACK, shown.port)).aclose()


async def test_the_advertised_name_is_not_looked_up() -> None:
    async with listening(
        BackupServer(name="no.such.host.invalid"), "no.such.host.invalid"
    ) as shown:
        await (await trio.open_tcp_stream(LOOPBACK, shown.port)).aclose()


async def test_an_address_of_the_callers_own_is_kept() -> None:
    async with listening(BackupServer(name=LOOPBACK), NAME) as shown:
        assert shown.name == LOOPBACK
        assert shown.port


async def test_without_an_advertised_name_nothing_is_changed() -> None:
    asked = BackupServer(name="0.0.0.0", port=free_port())
    async with listening(asked) as shown:
        assert shown == asked


async def test_a_path_is_a_path(tmp_path_factory: pytest.TempPathFactory) -> None:
    asked = BackupServer(transport="unix", socket=str(tmp_path_factory.mktemp("nbd") / "s"))
    async with listening(asked, NAME) as shown:
        assert shown == asked


async def test_an_address_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(InternalError, match=r"cannot listen on 192\.0\.2\.1:1: Cannot assign"):
        await pull_address.listen(BackupServer(name="192.0.2.1", port=1), NAME)
    with pytest.raises(InternalError, match=r"cannot listen on a\.\.b:1: "):
        await pull_address.listen(BackupServer(name="a..b", port=1), NAME)
    missing = str(tmp_path / "missing" / "s")
    with pytest.raises(InternalError, match="missing/s: No such file"):
        await pull_address.listen(BackupServer(transport="unix", socket=missing), "")


def test_addresses_by_the_document_alone() -> None:
    """As they are given up again."""
    assert pull_address.address_of(BackupServer(name="h", port=9), "") == TcpAddress("h", 9)
    unix = BackupServer(transport="unix", socket="/s")
    assert pull_address.address_of(unix, "h") == UnixAddress("/s")
