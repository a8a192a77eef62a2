"""Which keys and words a complaint about a user's file names."""

from enum import Enum
from typing import Literal

import msgspec
import pytest

from virtbackupd.drivers.errors import InvalidArgument
from virtbackupd.drivers.toml_expected import expected_at
from virtbackupd.drivers.toml_file import KeyPath, TomlFile


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Leaf(msgspec.Struct, forbid_unknown_fields=True):
    colour: Colour = Colour.RED
    words: dict[str, Literal["on", "off"]] = {}
    below: "Leaf | None" = None


class Root(msgspec.Struct, forbid_unknown_fields=True):
    leaves: tuple[Leaf, ...] = ()
    many: list[Leaf] = []
    free: str = ""


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ((), ["leaves", "many", "free"]),
        (("leaves", 3), ["colour", "words", "below"]),
        (("many", 0, "below"), ["colour", "words", "below"]),
        (("leaves", 0, "below", "below", "colour"), ["red", "blue"]),
        (("leaves", 0, "words"), ["off", "on"]),
        (("free",), []),
        (("free", "more"), []),
    ],
    ids=str,
)
def test_what_could_stand_there(where: KeyPath, expected: list[str]) -> None:
    assert expected_at(Root, where) == expected


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("leafs = 1", "f:1: leafs: unknown key; known are: leaves, many, free"),
        (
            "[[leaves]]\ncolour = 'green'",
            "f:2: leaves[0].colour: invalid enum value 'green'; known are: red, blue",
        ),
        ("free = 1", "f:1: free: expected `str`, got `int`"),
    ],
)
def test_a_complaint_says_what_was_expected(text: str, complaint: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        TomlFile("f", text, Root, InvalidArgument)
    assert refused.value.message == complaint
