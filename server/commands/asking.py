"""How a command asks a server: in one run, every problem one line, Ctrl-C an ordinary end."""

import sys
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar, TypeVarTuple

import trio

from virtbackupd.server.commands.failing import fail
from virtbackupd.server.remote_dial import RemoteProblem

INTERRUPTED: Final = 130
"""The exit code of a program that SIGINT ended."""
Args = TypeVarTuple("Args")
T = TypeVar("T")


def ask(question: Callable[[*Args], Awaitable[T]], *args: *Args) -> T:
    """The result; ends the program when there is none."""
    try:
        return trio.run(question, *args, restrict_keyboard_interrupt_to_checkpoints=True)
    except RemoteProblem as problem:
        fail(str(problem))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
