"""Which NBD servers a pull backup may ask for, and what its address costs when it ends."""

import socket
from pathlib import Path

import pytest

from virtbackupd.drivers.errors import DriverError, InternalError
from virtbackupd.drivers.memory import fault_effects
from virtbackupd.drivers.memory.domain import MemoryDomain
from virtbackupd.drivers.memory.driver import MemoryDriver


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
    backup = guest.backup
    assert backup is not None
    guest.abort_job()
    await backup.over.wait()
    assert not (tmp_path / "nbd").exists()


async def test_a_process_that_ends_leaves_its_socket_file_behind(
    guest: MemoryDomain, tmp_path: Path
) -> None:
    """And nobody listens there; only stopping the NBD server removes it."""
    await guest.backup_begin(request(tmp_path, unix(tmp_path)), None, 0)
    guest.destroy()
    with socket.socket(socket.AF_UNIX) as client, pytest.raises(ConnectionRefusedError):
        client.connect(str(tmp_path / "nbd"))
    assert not (tmp_path / "scratch").exists()


async def test_a_process_that_is_killed_while_a_backup_begins_leaves_it_too(
    guest: MemoryDomain, tmp_path: Path
) -> None:
    guest.host.faults.load_text(
        "[[faults]]\nmatch = { phase = 'prepared' }\neffect = { kind = 'kill' }\n"
    )
    fault_effects.attach(guest.host)
    with pytest.raises(DriverError):
        await guest.backup_begin(request(tmp_path, unix(tmp_path)), None, 0)
    assert not guest.active
    assert (tmp_path / "nbd").is_socket()


async def test_a_socket_file_that_was_left_is_replaced_by_the_next_backup(
    guest: MemoryDomain, tmp_path: Path
) -> None:
    await guest.backup_begin(request(tmp_path, unix(tmp_path)), None, 0)
    guest.destroy()
    await guest.create()
    await guest.backup_begin(request(tmp_path, unix(tmp_path)), None, 0)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "nbd"))


async def test_a_driver_that_closes_leaves_no_socket_file(
    guest: MemoryDomain, tmp_path: Path
) -> None:
    await guest.backup_begin(request(tmp_path, unix(tmp_path)), None, 0)
    MemoryDriver(guest.host).close()
    assert not (tmp_path / "nbd").exists()
