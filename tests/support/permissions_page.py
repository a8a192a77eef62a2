"""The page of all calls and what they need, made from the interface text.

`python tests/support/permissions_page.py` rewrites docs/permissions.md (`make docs`); a test
compares the page with what this module makes.
"""

from pathlib import Path

from virtbackupd.protocol import schema
from virtbackupd.protocol.procedures import Procedure
from virtbackupd.server.access.permissions import Demand, demands, seen_with

PAGE = Path(__file__).resolve().parents[2] / "docs" / "permissions.md"
HEAD = """\
# Permissions of all calls

Generated from the code by `make docs`; a test fails when it is out of date. A call needs all that
is listed; "if" names the flag or argument that makes a permission needed. What a list shows is
narrowed to what the client has the last permission on.

| number | procedure | needs | shows |
|--:|---|---|---|
"""


def _needed(demand: Demand) -> str:
    text = f"`{demand.permission}`"
    if not demand.condition:
        return text
    none = demand.condition.startswith("!")
    flags = [f"`{flag}`" for flag in demand.condition.removeprefix("!").split("|")]
    return f"{text} if neither {' nor '.join(flags)}" if none else f"{text} if {' or '.join(flags)}"


def _row(procedure: Procedure) -> str:
    needs = ", ".join(map(_needed, demands(procedure))) or "nothing"
    seen = seen_with(procedure)
    shows = f"`{seen}`" if seen else ""
    return f"| {procedure.number} | {procedure.name} | {needs} | {shows} |"


def page() -> str:
    """The whole page as it should be."""
    calls = [found for found in schema.load().by_number.values() if not found.is_event]
    ordered = sorted(calls, key=lambda found: (found.program, found.number))
    return HEAD + "\n".join(map(_row, ordered)) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
