"""The console: what it prints, who may hold it, and when it ends."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from virtbackupd.drivers.consoles import FORCE, SAFE
from virtbackupd.drivers.errors import (
    InternalError,
    OperationFailed,
    OperationInvalid,
    UnsupportedFlags,
)
from virtbackupd.drivers.memory.console import MAX_OUTPUT, open_console
from virtbackupd.drivers.memory.domain import MemoryDomain


async def test_the_banner_names_the_guest(guest: MemoryDomain) -> None:
    console = open_console(guest, None, 0)
    assert b"virtbackupd guest guest" in await console.receive()


async def test_what_is_typed_comes_back(guest: MemoryDomain) -> None:
    console = open_console(guest, None, 0)
    await console.receive()
    console.send_nowait(b"root\r")
    assert await console.receive() == b"root\r\nguest login: "


async def test_receiving_waits_for_output(guest: MemoryDomain, nursery: trio.Nursery) -> None:
    console = open_console(guest, None, 0)
    await console.receive()
    got: list[bytes] = []

    async def read() -> None:
        got.append(await console.receive())

    nursery.start_soon(read)
    await wait_all_tasks_blocked()
    assert not got
    console.send_nowait(b"x")
    await wait_all_tasks_blocked()
    assert got == [b"x"]


async def test_unread_output_is_bounded(guest: MemoryDomain) -> None:
    console = open_console(guest, None, 0)
    for _ in range(3):
        console.send_nowait(b"x" * MAX_OUTPUT)
    assert len(await console.receive()) == MAX_OUTPUT


async def test_closing_ends_a_waiting_reader(guest: MemoryDomain) -> None:
    console = open_console(guest, None, 0)
    await console.receive()
    console.close()
    console.close()
    assert await console.receive() == b""


async def test_a_closed_console_ignores_typing(guest: MemoryDomain) -> None:
    console = open_console(guest, None, 0)
    await console.receive()
    console.close()
    console.send_nowait(b"x")
    assert await console.receive() == b""


async def test_one_session_at_a_time(guest: MemoryDomain) -> None:
    open_console(guest, None, 0)
    with pytest.raises(OperationFailed, match="open already"):
        open_console(guest, "serial0", SAFE)


async def test_a_closed_session_makes_room(guest: MemoryDomain) -> None:
    open_console(guest, None, 0).close()
    open_console(guest, None, 0)


async def test_force_ends_the_other_session(guest: MemoryDomain) -> None:
    first = open_console(guest, None, 0)
    second = open_console(guest, None, FORCE)
    assert first.closed
    assert not second.closed


async def test_a_session_ends_with_the_guest(guest: MemoryDomain) -> None:
    console = open_console(guest, None, 0)
    guest.destroy()
    assert console.closed


async def test_an_inactive_domain_has_no_console(guest: MemoryDomain) -> None:
    guest.destroy()
    with pytest.raises(OperationInvalid):
        open_console(guest, None, 0)


@pytest.mark.parametrize("name", ["console0", "serial0"])
async def test_a_device_is_found_by_its_alias(guest: MemoryDomain, name: str) -> None:
    assert not open_console(guest, name, 0).closed


async def test_an_unknown_device_is_refused(guest: MemoryDomain) -> None:
    with pytest.raises(InternalError, match="no character device parallel0"):
        open_console(guest, "parallel0", 0)


async def test_only_a_pty_can_be_opened(guest: MemoryDomain) -> None:
    with pytest.raises(InternalError, match="of type tcp"):
        open_console(guest, "serial1", 0)


async def test_unknown_flags_are_refused(guest: MemoryDomain) -> None:
    with pytest.raises(UnsupportedFlags):
        open_console(guest, None, 4)
