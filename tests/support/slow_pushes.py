"""Pushes of QEMU's that are slow from their first byte: no call can limit one as early as that.

`limited` is for the driver in a test's own process. Run as a program, this is the daemon, after two
arguments of its own: bytes per second, and a file; pushes that begin while that is there are slow.
"""

import sys
from collections.abc import Callable
from pathlib import Path

from virtbackupd.drivers.qemu.block_nodes import Json
from virtbackupd.drivers.qemu.work import DiskWork
from virtbackupd.server.cli import main


def _always() -> bool:
    return True


def limited(speed: int, applies: Callable[[], bool] = _always) -> Callable[..., Json]:
    """In place of `DiskWork.job_action`; pulls copy nothing and have no limit."""
    original = DiskWork.job_action

    def job_action(work: DiskWork, *, sync: str, bitmap: str | None = None) -> Json:
        action = original(work, sync=sync, bitmap=bitmap)
        if sync != "none" and applies():
            action["data"]["speed"] = speed
        return action

    return job_action


if __name__ == "__main__":
    slow = limited(int(sys.argv.pop(1)), Path(sys.argv.pop(1)).exists)
    setattr(DiskWork, "job_action", slow)  # noqa: B010 - the daemon has no such switch
    main()
