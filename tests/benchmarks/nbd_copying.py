"""nbdcopy of a 1 GiB disk: our export beside qemu-nbd serving the same bytes from memory."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

GIB = 1 << 30
DEADLINE = 120.0


def copy_rate(uri: str, size: int = GIB) -> float:
    """GiB per second of one nbdcopy that throws the data away."""
    start = time.perf_counter()
    subprocess.run(["nbdcopy", uri, "null:"], check=True, timeout=DEADLINE)
    return size / GIB / (time.perf_counter() - start)


def copy_to_file(uri: str, path: Path) -> None:
    """The export's contents as a raw file, data everywhere."""
    command = ["nbdcopy", "--allocated", uri, str(path)]
    subprocess.run(command, check=True, timeout=DEADLINE)


@contextmanager
def qemu_nbd(image: Path, address: Path) -> Iterator[str]:
    """Serve a raw file read-only as qemu-nbd does; yields the NBD URI."""
    command = ["qemu-nbd", "-r", "-t", "-f", "raw", "-e", "8", "-k", str(address), str(image)]
    with subprocess.Popen(command) as process:
        try:
            deadline = time.monotonic() + 10
            while not address.exists() and time.monotonic() < deadline:
                time.sleep(0.02)
            yield f"nbd+unix:///?socket={address}"
        finally:
            process.terminate()
