"""The page on threats speaks of tests that there are."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "threat-model.md"
DEFINED = re.compile(r"^(?:async )?def (test_\w+)\(", re.MULTILINE)


def defined() -> set[str]:
    files = (ROOT / "tests").rglob("test_*.py")
    return {name for path in files for name in DEFINED.findall(path.read_text())}


def test_each_test_that_the_page_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE.read_text()))
    assert len(named) > 50
    assert named - defined() == set()


def test_each_threat_names_a_test() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    heads = ("| what an attacker", "| file |")
    assert [row for row in rows if "`test_" not in row and not row.startswith(heads)] == []
