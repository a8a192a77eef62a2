"""Interleaving, medians and the table: how a number of ours is put beside the peer's."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass

ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `ratio` is ours / peer; `met` says if the goal holds, if it can."""

    what: str
    ours: str
    peer: str
    ratio: str
    goal: str
    met: str


def interleaved(
    ours: Callable[[], float], peer: Callable[[], float], rounds: int = ROUNDS
) -> tuple[float, float]:
    """The medians of both, measured in turns so that a noisy moment hits both."""
    mine, theirs = [], []
    for _ in range(rounds):
        mine.append(ours())
        theirs.append(peer())
    return statistics.median(mine), statistics.median(theirs)


def repeated(ours: Callable[[], float], rounds: int = ROUNDS) -> float:
    """The median of a measurement that has no peer."""
    return statistics.median(ours() for _ in range(rounds))


def compared(
    what: str,
    figures: tuple[float, float],
    form: Callable[[float], str],
    goal: str,
    met: Callable[[float], bool],
) -> Row:
    """A row with a ratio."""
    ours, peer = figures
    ratio = ours / peer
    return Row(what, form(ours), form(peer), f"{ratio:.2f} x", goal, "yes" if met(ratio) else "no")


def absolute(what: str, ours: str, goal: str, *, met: bool, peer: str = "-") -> Row:
    """A row whose goal is a figure and not a ratio."""
    return Row(what, ours, peer, "-", goal, "yes" if met else "no")


def microseconds(seconds: float) -> str:
    return f"{seconds * 1e6:.1f} µs"


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.2f} ms"


def per_second(rate: float) -> str:
    return f"{rate:,.0f} /s"


def gibibytes(rate: float) -> str:
    return f"{rate:.2f} GiB/s"


def table(rows: list[Row]) -> str:
    """A Markdown table."""
    head = (
        "| what | virtbackupd | libvirtd or other peer | ratio | goal | met |\n"
        "|---|--:|--:|--:|---|---|"
    )
    lines = [
        f"| {row.what} | {row.ours} | {row.peer} | {row.ratio} | {row.goal} | {row.met} |"
        for row in rows
    ]
    return "\n".join([head, *lines])
