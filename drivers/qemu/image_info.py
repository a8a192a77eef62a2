"""What `qemu-img` says about an image that no QEMU of ours has open."""

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import trio

from virtbackupd.drivers.errors import InternalError, OperationFailed

if TYPE_CHECKING:
    import subprocess

    from virtbackupd.drivers.definitions.disk import DiskDefinition
    from virtbackupd.drivers.qemu.config import Settings

DEADLINE: Final = 30.0


async def virtual_size(disk: "DiskDefinition", settings: "Settings") -> int:
    """The size that a guest would see, in bytes."""
    if disk.format == "raw" and disk.secret is None and disk.local_path is not None:
        return await trio.to_thread.run_sync(_length, disk.local_path)
    kind = "luks" if disk.format == "raw" and disk.secret is not None else disk.format
    return int((await image_info(disk.source or "", kind, settings))["virtual-size"])


async def image_info(source: str, image_format: str, settings: "Settings") -> dict[str, Any]:
    """The top layer's description, read without a lock because a guest may be using it."""
    program = _program(settings)
    command = [program, "info", "--output=json", "-U", "-f", image_format, "--", source]
    with trio.move_on_after(DEADLINE):
        done = await trio.run_process(
            command, capture_stdout=True, capture_stderr=True, check=False
        )
        return _parsed(done, source)
    raise OperationFailed(f"qemu-img did not say anything about {source} within {DEADLINE:g} s")


def _parsed(done: "subprocess.CompletedProcess[bytes]", source: str) -> dict[str, Any]:
    if done.returncode:
        cause = done.stderr.decode(errors="replace").strip().removeprefix("qemu-img: ")
        raise OperationFailed(f"cannot read the image {source}: {cause}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _program(settings: "Settings") -> str:
    """The one that came with the emulator, else any."""
    beside = Path(settings.emulator).with_name("qemu-img")
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which("qemu-img")
    if found is None:
        raise InternalError("qemu-img is not installed")
    return found


def _length(path: str) -> int:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        raise OperationFailed(f"cannot read the image {path}: {error.strerror}") from None
    try:
        return os.lseek(descriptor, 0, os.SEEK_END)
    finally:
        os.close(descriptor)
