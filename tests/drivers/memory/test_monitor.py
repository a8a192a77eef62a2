"""The monitor's lines for humans, and what is refused before any command is read."""

import pytest
from controlling import at_once

from virtbackupd.drivers.enums import DomainState
from virtbackupd.drivers.errors import (
    InvalidArgument,
    OperationInvalid,
    UnsupportedFlags,
)
from virtbackupd.drivers.memory import monitor
from virtbackupd.drivers.memory.domain import MemoryDomain
from virtbackupd.drivers.memory.image import Image

NODE = "libvirt-1-format"


def hmp(guest: MemoryDomain, line: str) -> str:
    return at_once(monitor.run(guest, line, monitor.HMP))


def qmp(guest: MemoryDomain, command: str) -> str:
    return at_once(monitor.run(guest, f'{{"execute": "{command}"}}', 0))


def image_of(guest: MemoryDomain) -> Image:
    image = guest.disk_image("vda")
    assert image is not None
    return image


async def test_an_inactive_domain_has_no_monitor(guest: MemoryDomain) -> None:
    guest.destroy()
    with pytest.raises(OperationInvalid, match="guest is not running"):
        hmp(guest, "info status")


async def test_unknown_flags_are_refused(guest: MemoryDomain) -> None:
    with pytest.raises(UnsupportedFlags, match="0x2"):
        monitor.run(guest, "info status", 3)


async def test_a_nul_byte_is_refused(guest: MemoryDomain) -> None:
    with pytest.raises(InvalidArgument, match="NUL"):
        hmp(guest, "info\0status")


@pytest.mark.parametrize(
    "name",
    [
        "vda",
        "/images/vda.qcow2",
        NODE,
        "virtio-disk0",
        "drive-virtio-disk0",
        "-d /machine/peripheral/virtio-disk0/virtio-backend",
    ],
)
async def test_qemu_io_finds_the_disk_by_each_of_its_names(guest: MemoryDomain, name: str) -> None:
    assert hmp(guest, f'qemu-io {name} "write -P 1 0 1k"').startswith("wrote 1024/1024 bytes")
    assert image_of(guest).read(0, 1024) == b"\1" * 1024


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("", ""),
        ("foo", "unknown command: 'foo'\r\n"),
        ("info foo", "unknown command: 'info foo'\r\n"),
        ("info status", "VM status: running\r\n"),
        ("info block-jobs", "No active jobs\r\n"),
        ("info name", "guest\r\n"),
        ("info uuid", "6695eb01-f6a4-8304-79aa-97f2502e193f\r\n"),
        ('qemu-io vdz "read 0 1k"', "Error: Cannot find device='' nor node-name='vdz'\r\n"),
        ("info block vdz", "Device 'vdz' not found\r\n"),
        ('qemu-io vda "read', 'unterminated string in: qemu-io vda "read\r\n'),
    ],
)
async def test_lines_and_their_answers(guest: MemoryDomain, line: str, answer: str) -> None:
    assert hmp(guest, line) == answer


@pytest.mark.parametrize("line", ["qemu-io vda", "qemu-io", "qemu-io vda read 0"])
async def test_qemu_io_wants_a_disk_and_one_command(guest: MemoryDomain, line: str) -> None:
    assert hmp(guest, line).startswith("qemu-io: ")


async def test_info_block_shows_disks_and_drives(guest: MemoryDomain) -> None:
    lines = hmp(guest, "info block").split("\r\n")
    assert lines[0] == f"{NODE}: /images/vda.qcow2 (qcow2)"
    assert "libvirt-2-format: /images/vdb.raw (raw, read-only)" in lines
    assert "sda: [not inserted]" in lines


async def test_info_block_of_one_disk(guest: MemoryDomain) -> None:
    answer = hmp(guest, "info block -v vda")
    assert "Virtual size:     4 MiB" in answer
    assert "vdb" not in answer


async def test_info_blockstats_shows_requests(guest: MemoryDomain) -> None:
    hmp(guest, 'qemu-io vda "write 0 1k"')
    assert f"{NODE}: rd_bytes=0 wr_bytes=1024 " in hmp(guest, "info blockstats")


@pytest.mark.parametrize("line", ["help", "info"])
async def test_help_names_every_command(guest: MemoryDomain, line: str) -> None:
    assert "info status -- " in hmp(guest, line)


async def test_stop_and_cont(guest: MemoryDomain) -> None:
    assert hmp(guest, "stop") == ""
    assert guest.state == DomainState.PAUSED
    assert hmp(guest, "info status") == "VM status: paused\r\n"
    hmp(guest, "cont")
    assert guest.state == DomainState.RUNNING


async def test_stopping_twice_is_no_error(guest: MemoryDomain) -> None:
    qmp(guest, "stop")
    assert qmp(guest, "stop") == '{"return": {}}'


@pytest.mark.parametrize("command", ["quit", "system_powerdown"])
async def test_commands_that_end_the_guest(guest: MemoryDomain, command: str) -> None:
    assert qmp(guest, command) == '{"return": {}}'
    assert not guest.active


async def test_a_reset_keeps_the_guest_running(guest: MemoryDomain) -> None:
    assert qmp(guest, "system_reset") == '{"return": {}}'
    assert guest.state == DomainState.RUNNING
