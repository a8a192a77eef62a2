"""The live screen of `virtbackupd top`: a report drawn over and over, until q or Ctrl-C.

Imports rich, which takes a while, and is itself imported only where there is a terminal.
"""

import os
import signal
import sys
import termios
import tty
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import trio
from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from virtbackupd.drivers.enums import DomainState
from virtbackupd.server.remote_dial import RemoteProblem
from virtbackupd.server.watch.follow import follow
from virtbackupd.server.watch.jobs import DomainRow, EndRow, JobRow, Report
from virtbackupd.server.watch.tables import done_words, end_cells, job_cells, summary
from virtbackupd.server.watch.words import moment, printable

_QUIT: Final = frozenset(b"qQ\x03")
_BAR_WIDTH: Final = 20
_MAX_JOBS: Final = 12
_MAX_ENDS: Final = 8
_FRAME_LINES: Final = 12
"""Lines that titles and headings take at most."""
_OUTCOMES: Final = {"completed": "green", "failed": "red", "cancelled": "yellow"}
_SHRINKING: Final = frozenset({"domain", "name", "reason"})
"""Columns that give way where a terminal is narrow."""
_STATES: Final = {"running": "green", "paused": "yellow", "crashed": "red"}


class _Screen:
    """What is on the terminal now."""

    def __init__(self, live: Live, console: Console) -> None:
        self._live = live
        self._console = console
        self._report: Report | None = None

    def show(self, report: Report) -> None:
        self._report = report
        self.draw()

    def draw(self) -> None:
        """Again, also when the terminal has another size."""
        if self._report is not None:
            picture = drawn(self._report, self._console.size.height)
            self._live.update(picture, refresh=True)


async def run_screen(uri: str, interval: float, *, read_only: bool) -> None:
    """Until somebody quits; raises RemoteProblem when there is no server at first."""
    console = Console()
    fileno = sys.stdin.fileno()
    with _keys_at_once(fileno), Live(console=console, screen=True, auto_refresh=False) as live:
        screen = _Screen(live, console)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_obey_keys, fileno, nursery.cancel_scope)
                nursery.start_soon(_obey_signals, screen, nursery.cancel_scope)
                await follow(uri, interval, screen.show, read_only=read_only)
        except* RemoteProblem as problems:
            problem = problems.exceptions[0]
        else:
            return
    raise problem


@contextmanager
def _keys_at_once(fileno: int) -> Iterator[None]:
    """Keys come without Enter and are not shown; as before at the end."""
    before = termios.tcgetattr(fileno)
    try:
        tty.setcbreak(fileno)
        yield
    finally:
        termios.tcsetattr(fileno, termios.TCSADRAIN, before)


async def _obey_keys(fileno: int, scope: trio.CancelScope) -> None:
    while True:
        await trio.lowlevel.wait_readable(fileno)
        keys = os.read(fileno, 64)
        if not keys or set(keys) & _QUIT:
            scope.cancel()


async def _obey_signals(screen: _Screen, scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGWINCH, signal.SIGINT, signal.SIGTERM) as signals:
        async for number in signals:
            if number == signal.SIGWINCH:
                screen.draw()
            else:
                scope.cancel()


def drawn(report: Report, height: int) -> RenderableType:
    """Jobs first, then how others ended, then as many domains as there is room for."""
    jobs, ends = report.jobs[:_MAX_JOBS], report.ends[:_MAX_ENDS]
    room = max(3, height - _FRAME_LINES - len(jobs) - len(ends))
    parts: list[RenderableType] = [_heading(report)]
    if jobs:
        parts.append(_jobs(jobs, len(report.jobs)))
    if ends:
        parts.append(_ends(ends))
    parts.append(_domains(report, room))
    return Group(*parts)


def _heading(report: Report) -> Text:
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append("virtbackupd top ", style="bold")
    text.append(f"(q quits)  {moment(report.at)}  {summary(report)}  {printable(report.uri)}\n")
    if report.problem is not None:
        text.append(f"server away, trying again: {printable(report.problem)}\n", style="bold red")
    return text


def _jobs(jobs: Sequence[JobRow], total: int) -> Table:
    title = f"jobs ({len(jobs)} of {total})" if len(jobs) < total else "jobs"
    table = _table(title, "domain", "what", "", "done", "rate", "elapsed", "remaining")
    for row in jobs:
        domain, what, _, *rest = job_cells(row)
        bar = ProgressBar(total=1.0, completed=row.share or 0.0, width=_BAR_WIDTH)
        table.add_row(_cell(domain), what, bar, done_words(row), *rest)
    return table


def _ends(ends: Sequence[EndRow]) -> Table:
    table = _table("recent ends", "domain", "what", "how", "size", "took", "when", "reason")
    for row in ends:
        domain, what, how, *rest, reason = end_cells(row)
        outcome = Text(how, style=_OUTCOMES.get(row.outcome, ""))
        table.add_row(_cell(domain), what, outcome, *rest, _cell(reason))
    return table


def _domains(report: Report, room: int) -> Table:
    """Those with a job first, then the others that run."""
    busy = {row.domain for row in report.jobs}
    rows = sorted(report.domains, key=lambda row: _rank(row, busy))
    table = _table("domains", "name", "state")
    for row in rows[:room]:
        state = row.state.name.lower()
        table.add_row(_cell(printable(row.name)), Text(state, style=_STATES.get(state, "")))
    if len(rows) > room:
        table.add_row(Text(f"and {len(rows) - room} more", style="dim"), "")
    return table


def _rank(row: DomainRow, busy: set[str]) -> tuple[bool, bool, str]:
    return row.name not in busy, row.state is not DomainState.RUNNING, row.name


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, title_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=column not in _SHRINKING, overflow="ellipsis")
    return table


def _cell(text: str) -> Text:
    """One line that may be cut; what is in brackets is no markup."""
    return Text(text, no_wrap=True, overflow="ellipsis")
