"""The instructions of the Containerfile, for tests that have no engine to run them."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

CONTAINERFILE = Path(__file__).resolve().parents[2] / "Containerfile"


def all_instructions() -> list[tuple[str, str]]:
    """Name and rest of each."""
    lines = CONTAINERFILE.read_text().replace("\\\n", " ").splitlines()
    words = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    return [(name, rest) for name, rest in words]


def instructions(name: str) -> list[str]:
    """What follows an instruction, in the order of the file."""
    return [rest for found, rest in all_instructions() if found == name]


def argument_list(instruction: str) -> list[str]:
    """The words of an instruction in its JSON form, which needs no shell."""
    found: list[str] = json.loads(instruction[instruction.index("[") :])
    return found


def in_place(words: Sequence[str], programs: Path, root: Path) -> list[str]:
    """A command of the image, with its program in `programs` and the folders below `root`."""
    moved = [re.sub(r"/(?=run/|var/)", f"{root}/", word) for word in words]
    return [str(programs / moved[0]), *moved[1:]]
