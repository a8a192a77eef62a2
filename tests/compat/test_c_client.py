"""A backup program in C, on libvirt's own library and libnbd."""

from pathlib import Path

import pytest
from daemon_process import Daemon
from tools import run

SOURCE = Path(__file__).with_name("clients") / "backup.c"
STRICT = ("-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror")
LIBRARIES = ("libvirt", "libvirt-qemu", "libnbd")
VDA = 64 << 20
CHANGED = 128 << 10


@pytest.fixture
def told(daemon: Daemon, short_dir: Path) -> str:
    """What the program says; it fails the test unless it ends well."""
    program = short_dir / "backup"
    flags = run("pkg-config", "--cflags", "--libs", *LIBRARIES).split()
    run("gcc", *STRICT, "-o", program, SOURCE, *flags)
    return run(program, daemon.uri, short_dir)


def test_full_fault_and_incremental_from_c(told: str) -> None:
    assert told.splitlines() == [
        f"full: {VDA} bytes",
        "refused: operation failed: the pool is full",
        f"incremental: {CHANGED} bytes",
        "identical",
    ]
