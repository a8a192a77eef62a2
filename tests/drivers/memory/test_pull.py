"""Which NBD servers a pull backup may ask for, and what its address costs when it ends."""

import socket
from pathlib import Path

import pytest

from virtbackupd.drivers.errors import (
    InternalError,
)
from virtbackupd.drivers.memory.domain import MemoryDomain


def request(folder: Path, server: str) -> str:
    disk = f"<disk name='vda'><scratch file='{folder / 'scratch'}'/></disk>"
    return f"<domainbackup mode='pull'>{server}<disks>{disk}</disks></domainbackup>"


def unix(folder: Path) -> str:
    return f"<server transport='unix' socket='{folder / 'nbd'}'/>"


async def test_port_in_use(guest: MemoryDomain, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = f"<server name='127.0.0.1' port='{port}'/>"
        with pytest.raises(InternalError, match=str(port)):
            await guest.backup_begin(request(tmp_path, server), None, 0)


async def test_address_of_another_machine(guest: MemoryDomain, tmp_path: Path) -> None:
    server = "<server name='192.0.2.1' port='10809'/>"
    with pytest.raises(InternalError, match=r"192\.0\.2\.1:10809"):
        await guest.backup_begin(request(tmp_path, server), None, 0)


async def test_stale_socket_is_replaced(guest: MemoryDomain, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(tmp_path / "nbd"))
    await guest.backup_begin(request(tmp_path, unix(tmp_path)), None, 0)
    assert guest.get_job_stats(0).type == 2


async def test_file_in_the_place_of_the_socket_is_kept(guest: MemoryDomain, tmp_path: Path) -> None:
    (tmp_path / "nbd").write_text("precious")
    with pytest.raises(InternalError):
        await guest.backup_begin(request(tmp_path, unix(tmp_path)), None, 0)
    assert (tmp_path / "nbd").read_text() == "precious"


async def test_address_is_free_right_after_the_end(guest: MemoryDomain, tmp_path: Path) -> None:
    await guest.backup_begin(request(tmp_path, unix(tmp_path)), None, 0)
    guest.destroy()
    assert not (tmp_path / "nbd").exists()
