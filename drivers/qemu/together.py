"""Running what does not depend on each other side by side."""

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeAlias

import trio

from virtbackupd.drivers.checkpoint_rules import Failures

Step: TypeAlias = Callable[[], Awaitable[object]]


async def together(jobs: Iterable[Step]) -> None:
    """Start all of them, wait for all of them, then raise the first refusal if there was one.

    None is cancelled because another failed: commands that QEMU has got cannot be called back.
    """
    failures = Failures()

    async def run(job: Step) -> None:
        with failures.kept():
            await job()

    async with trio.open_nursery() as nursery:
        for job in jobs:
            nursery.start_soon(run, job)
    failures.raise_first()
