"""A backup program in Go, on DigitalOcean's go-libvirt as Debian packages it."""

import os
from pathlib import Path

import pytest
from daemon_process import Daemon
from tools import run

SOURCE = Path(__file__).with_name("clients") / "backup.go"


@pytest.fixture
def told(daemon: Daemon, short_dir: Path) -> str:
    """What the program says; it fails the test unless it ends well."""
    program = short_dir / "backup"
    go = {**os.environ, "GO111MODULE": "off", "GOPATH": "/usr/share/gocode", "GOFLAGS": ""}
    run("go", "build", "-o", program, SOURCE, environment=go)
    return run(program, daemon.socket, short_dir)


def test_full_fault_and_incremental_from_go(told: str) -> None:
    assert told.splitlines() == [
        "full.raw is identical",
        "refused: operation failed: no room for the scratch file",
        "changes.qcow2 is identical",
    ]
