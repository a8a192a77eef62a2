"""The steps between which a daemon may be killed: each write to the disk, each word with QEMU.

Whatever changes something that outlives the daemon says so just before and just after. Nobody
listens but the tests, which end a process there; without them a step costs one comparison.
"""

from collections.abc import Callable

hook: Callable[[str], None] | None = None
"""Called with the name of each step, in whichever thread takes it."""


def step(name: str) -> None:
    """Say that something is about to be done, or has just been done."""
    if hook is not None:
        hook(name)
