"""A report as text for pipes and files, and as plain data for scripts. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict

from virtbackupd.server.watch.jobs import EndRow, JobRow, Report
from virtbackupd.server.watch.words import counted, duration, moment, printable, size


def as_data(report: Report) -> dict[str, object]:
    """For JSON; sizes in bytes, times in seconds."""
    return {
        "uri": report.uri,
        "at": report.at,
        "problem": report.problem,
        "domains": [{"name": row.name, "state": row.state.name.lower()} for row in report.domains],
        "jobs": [asdict(row) for row in report.jobs],
        "ends": [asdict(row) for row in report.ends],
    }


def as_lines(report: Report) -> Iterator[str]:
    """A line about the server, then a table for each kind of thing there is any of."""
    yield f"{moment(report.at)}  {report.uri}  {summary(report)}"
    if report.problem is not None:
        yield f"server away: {printable(report.problem)}"
    yield from _table(("DOMAIN", "STATE"), [
        (printable(row.name), row.state.name.lower()) for row in report.domains
    ])  # fmt: skip
    yield from _table(
        ("JOB ON", "WHAT", "DONE", "RATE", "ELAPSED", "REMAINING"),
        [job_cells(row) for row in report.jobs],
    )
    yield from _table(
        ("ENDED ON", "WHAT", "HOW", "SIZE", "TOOK", "WHEN", "REASON"),
        [end_cells(row) for row in report.ends],
    )


def summary(report: Report) -> str:
    """How many of what."""
    running = sum(row.state.name == "RUNNING" for row in report.domains)
    domains, jobs = counted(len(report.domains), "domain"), counted(len(report.jobs), "job")
    return f"{domains}, {running} running, {jobs}"


def job_cells(row: JobRow) -> tuple[str, ...]:
    """Domain, what, how far, rate, elapsed, remaining."""
    return (
        printable(row.domain),
        f"pull {row.operation}" if row.pull else row.operation,
        done_words(row),
        f"{size(row.rate)}/s" if row.rate is not None else "-",
        duration(row.elapsed),
        duration(row.remaining) if row.remaining is not None else "-",
    )


def done_words(row: JobRow) -> str:
    if row.share is None:
        return "-"
    amount = f"{size(row.done)} of {size(row.total)}"
    return f"scratch {amount}" if row.pull else f"{row.share:.0%}, {amount}"


def end_cells(row: EndRow) -> tuple[str, ...]:
    """Domain, what, how, size, time taken, when, why."""
    return (
        printable(row.domain),
        row.operation,
        row.outcome,
        size(row.total) if row.total else "-",
        duration(row.elapsed),
        moment(row.at) if row.at is not None else "before",
        printable(row.reason or ""),
    )


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Columns as wide as what is in them; nothing at all without rows."""
    if not rows:
        return
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    yield ""
    for row in (titles, *rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()
