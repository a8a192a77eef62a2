"""Runs this project's own client commands: tree, top, record."""

import subprocess
import sys
from pathlib import Path

DEADLINE = 180.0
EXECUTABLE = Path(sys.executable).with_name("virtbackupd")


def _run(arguments: tuple[object, ...]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(EXECUTABLE), *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )


def tool(*arguments: object) -> str:
    """Standard output of a command that must succeed."""
    done = _run(arguments)
    assert done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def refused_tool(*arguments: object) -> str:
    """The one line with which a command must fail."""
    done = _run(arguments)
    assert (done.returncode, done.stdout) == (1, ""), f"{arguments}: {done}"
    (line,) = done.stderr.splitlines()
    return line
