"""The page about faults names all there is, and its example works."""

import re
from pathlib import Path

from virtbackupd.drivers.faults import effects
from virtbackupd.drivers.faults.rule_file import FaultFile
from virtbackupd.drivers.faults.scenarios import all_scenarios

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "faults.md").read_text(encoding="utf-8")


def test_every_scenario_is_told_in_its_own_words() -> None:
    rows = [f"| `{found.name}` | {found.about} |" for found in all_scenarios()]
    assert re.findall(r"^\| `[a-z-]+` \| [A-Z].*\.\ \|$", PAGE, re.MULTILINE) == rows


def test_every_phase_is_told_in_order() -> None:
    rows = "\n".join(f"| `{name}` | {about} |" for name, about in effects.PHASES.items())
    assert rows in PAGE


def test_every_word_is_named() -> None:
    words = [*effects.KINDS, *effects.NBD_COMMANDS, *effects.EVENTS, *effects.NBD_ERRORS]
    assert [word for word in words if not re.search(rf"\b{word}\b", PAGE)] == []


def test_every_argument_is_named() -> None:
    kinds = {kind for points in effects.KINDS.values() for kind in points.values()}
    names = {name for kind in kinds for name in kind.__struct_fields__}
    assert [name for name in sorted(names) if f"`{name}`" not in PAGE] == []


def test_the_example_is_a_good_file() -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert len(FaultFile("faults.toml", text).rules()) == 2
