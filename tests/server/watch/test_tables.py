"""A report as text: what is in the tables, and that a name cannot break them."""

import re

from virtbackupd.drivers.enums import DomainState
from virtbackupd.server.watch.jobs import DomainRow, EndRow, JobRow, Report
from virtbackupd.server.watch.tables import as_data, as_lines

PUSH = JobRow("vm", "backup", pull=False, total=4 << 20, done=1 << 20, elapsed=3.0,
              rate=1 << 20, remaining=3.0)  # fmt: skip
PULL = JobRow("vm", "backup", pull=True, total=4 << 20, done=0, elapsed=61.0, rate=0.0,
              remaining=None)  # fmt: skip
END = EndRow("vm", "backup", "failed", "no\nspace", 4 << 20, 2.0, None)


def lines(**parts: object) -> list[str]:
    return list(as_lines(Report("test:///default", 0.0, **parts)))  # type: ignore[arg-type]


def test_a_push_shows_share_rate_and_remaining_time() -> None:
    row = lines(jobs=[PUSH])[-1]
    cells = ["vm", "backup", "25%, 1.0 MiB of 4.0 MiB", "1.0 MiB/s", "3 s", "3 s"]
    assert re.split(r" {2,}", row) == cells


def test_a_pull_shows_scratch_space_and_no_end() -> None:
    row = lines(jobs=[PULL])[-1]
    assert "pull backup" in row
    assert "scratch 0 B of 4.0 MiB" in row
    assert row.endswith("-")


def test_an_end_shows_its_reason_on_one_line() -> None:
    assert lines(ends=[END])[-1].endswith("before  no?space")


def test_a_server_that_is_away_is_said_to_be() -> None:
    assert lines(problem="gone")[1] == "server away: gone"


def test_the_first_line_counts() -> None:
    rows = [DomainRow("a", DomainState.RUNNING), DomainRow("b", DomainState.SHUTOFF)]
    assert lines(domains=rows, jobs=[PUSH])[0].endswith("2 domains, 1 running, 1 job")


def test_data_is_made_of_plain_values() -> None:
    data = as_data(Report("u", 1.0, [DomainRow("a", DomainState.PAUSED)], [PUSH], [END]))
    assert data["domains"] == [{"name": "a", "state": "paused"}]
    assert data["ends"] == [
        {"domain": "vm", "operation": "backup", "outcome": "failed", "reason": "no\nspace",
         "total": 4 << 20, "elapsed": 2.0, "at": None}
    ]  # fmt: skip
