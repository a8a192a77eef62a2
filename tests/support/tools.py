"""Running the stock command line tools: qemu-img, nbdinfo, nbdcopy, libnbd's Python shell.

Each call has a deadline and fails the test with the tool's own words.
"""

import json
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

TOOL_DEADLINE = 180.0
SYSTEM_PYTHON = "/usr/bin/python3"


def run(*command: object, status: int = 0, environment: Mapping[str, str] | None = None) -> str:
    """Standard output of a tool that must end with `status`."""
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        timeout=TOOL_DEADLINE,
        check=False,
        env=environment,
    )
    told = f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert done.returncode == status, told
    return done.stdout


class Range(NamedTuple):
    """One line of `nbdinfo --map`."""

    offset: int
    length: int
    type: int


def unix_uri(nbd_socket: Path, export: str = "vda") -> str:
    return f"nbd+unix:///{export}?socket={nbd_socket}"


def nbd_map(uri: str, context: str = "base:allocation") -> list[Range]:
    """Block status of the whole export in one metadata context."""
    entries = json.loads(run("nbdinfo", "--json", f"--map={context}", uri))
    return [Range(entry["offset"], entry["length"], entry["type"]) for entry in entries]


def dirty_ranges(uri: str, bitmap: str = "backup-vda") -> list[tuple[int, int]]:
    """Offset and length of what the bitmap marks as changed."""
    found = nbd_map(uri, f"qemu:dirty-bitmap:{bitmap}")
    return [(entry.offset, entry.length) for entry in found if entry.type & 1]


def nbd_read(uri: str, offset: int, length: int) -> bytes:
    """Bytes of an export, read through libnbd."""
    script = (
        "import nbd, sys\n"
        "handle = nbd.NBD(); handle.connect_uri(sys.argv[1])\n"
        "sys.stdout.write(handle.pread(int(sys.argv[2]), int(sys.argv[3])).hex())\n"
    )
    return bytes.fromhex(run(SYSTEM_PYTHON, "-c", script, uri, length, offset))


def nbd_script(script: str, *arguments: object) -> str:
    """Run a script with libnbd's `nbd` module under the system's Python."""
    return run(SYSTEM_PYTHON, "-c", script, *arguments).strip()


def copy_export(uri: str, target: Path) -> Path:
    """The export's contents as a raw image file."""
    run("nbdcopy", uri, target)
    return target


def images_equal(first: Path, second: Path, first_format: str, second_format: str) -> None:
    """Fail unless two images show a guest the same contents, of the same length."""
    run("qemu-img", "compare", "-f", first_format, "-F", second_format, first, second)
    assert image_info(first)["virtual-size"] == image_info(second)["virtual-size"]


def image_info(path: Path) -> dict[str, object]:
    """What `qemu-img info` says of one image."""
    found: dict[str, object] = json.loads(run("qemu-img", "info", "--output=json", "-U", path))
    return found


def free_port() -> int:
    """A TCP port on which nobody listens and which the kernel gives to nobody else.

    It stays bound for the life of this process. Servers reuse addresses and may listen on it all
    the same, because nobody does so on ours; whoever connects before is refused.
    """
    keeper = socket.socket()
    keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    keeper.bind(("127.0.0.1", 0))
    port: int = keeper.getsockname()[1]
    keeper.detach()
    return port
