"""A guest of forty bytes for real machines: it boots from a disk and obeys the power button.

The program is a boot sector for the `q35` machine, whose power management SeaBIOS places at I/O
port 0x600. Only the first disk needs it, and only until it is loaded: tests may overwrite it.
"""

import random
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Final

from tools import run

MIB: Final = 1 << 20
POWER_BUTTON_ASKED: Final = "i/h 0x602"
"""A line for the human monitor that reads the register of enabled power events."""
_SECTOR: Final = 512
# Intel 64 machine code. The registers are ACPI's PM1: status 0x600, enable 0x602, control 0x604.
_PROGRAM: Final = bytes.fromhex(
    "fa 31c0 8ed8 8ed0 bc007c"  # no interrupts; segments at 0, stack below the program
    "ba0206 ed 0d0001 ef fb"  # enable bit 8, the power button; interrupts
    "f4 ba0006 ed a90001 74f6"  # halt until the next tick, look at bit 8 of status, repeat
    "ba0406 b80020 ef ebfe"  # sleep state 5 is "off"
)


def boot_sector() -> bytes:
    return _PROGRAM.ljust(_SECTOR - 2, b"\0") + b"\x55\xaa"


def obeys(answer: str) -> bool:
    """Whether the answer to POWER_BUTTON_ASKED says that the guest's program runs."""
    value = int(answer.split("=")[1], 16)
    return value != 0xFFFF and bool(value & 0x100)


def make_disks(folder: Path) -> tuple[Path, Path]:
    """Images for vda, 64 MiB full of data, which boots, and vdb, 16 MiB that hold little."""
    pair = folder / "test-vda.qcow2", folder / "test-vdb.qcow2"
    for path in pair:
        shutil.copyfile(_templates() / path.name, path)
    return pair


def make_image(path: Path) -> Path:
    """A bootable image of 1 GiB that holds nothing else; its format follows from its name."""
    shutil.copyfile(_templates() / f"empty{path.suffix}", path)
    return path


@cache
def _templates() -> Path:
    """Made once for all tests of a run."""
    folder = tempfile.TemporaryDirectory(prefix="vb-disks-")
    _KEPT.append(folder)
    path = Path(folder.name)
    data = random.Random(1).randbytes(64 * MIB - _SECTOR)
    _convert(boot_sector() + data, path / "test-vda.qcow2")
    _convert((bytes(MIB) + data[: 2 * MIB]).ljust(16 * MIB, b"\0"), path / "test-vdb.qcow2")
    for kind in ("qcow2", "raw"):
        _convert(boot_sector(), path / f"empty.{kind}", kind)
        run("qemu-img", "resize", "-q", "-f", kind, path / f"empty.{kind}", "1G")
    return path


_KEPT: Final[list[tempfile.TemporaryDirectory[str]]] = []


def _convert(content: bytes, target: Path, kind: str = "qcow2") -> None:
    raw = target.with_suffix(".bytes")
    raw.write_bytes(content)
    run("qemu-img", "convert", "-f", "raw", "-O", kind, raw, target)
    raw.unlink()
