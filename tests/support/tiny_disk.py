"""A file system that is full at once; mounting it needs root, as the whole test run does."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def mounted_tiny_disk(folder: Path) -> Iterator[Path]:
    """One mebibyte, at `tiny` in the folder; whoever still uses it at the end may go on to."""
    path = folder / "tiny"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)
