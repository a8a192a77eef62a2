"""Where a complaint about a world file points, and that nothing but complaints comes out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtbackupd.drivers.memory.world_file import KeyPath, WorldError, WorldFile, find_line

TEXT = """\
# a comment
[backup]
rate = 5

[[domains]]
name = "a"
[[domains.disks]]
target = "vda"
written = [
    { offset = 0 },
]
backing.size = 1
[[domains.disks]]   # the second
target = "vdb"

[[domains]]
name = "b"
[[domains.disks]]
target = "vda"
"size" = 3
"""


@pytest.mark.parametrize(
    ("where", "line"),
    [
        ((), 1),
        (("unknown",), 1),
        (("backup",), 2),
        (("backup", "rate"), 3),
        (("domains", 0), 5),
        (("domains", 0, "name"), 6),
        (("domains", 0, "memory"), 5),
        (("domains", 0, "disks", 0, "target"), 8),
        (("domains", 0, "disks", 0, "written", 0, "offset"), 9),
        (("domains", 0, "disks", 0, "backing", "size"), 12),
        (("domains", 0, "disks", 1), 13),
        (("domains", 0, "disks", 1, "target"), 14),
        (("domains", 1, "disks", 0), 18),
        (("domains", 1, "disks", 0, "size"), 20),
    ],
)
def test_an_entry_is_found_on_its_line(where: KeyPath, line: int) -> None:
    assert find_line(TEXT, where) == line


def test_a_complaint_has_file_line_and_key() -> None:
    world = WorldFile("w.toml", '[[domains]]\nname = "a"\n')
    with pytest.raises(WorldError) as refusal:
        world.fail(("domains", 0, "name"), "is too short")
    assert refusal.value.message == "w.toml:2: domains[0].name: is too short"


HEADERS = ["[[domains]]", "[domains]", "[backup]", "[[domains.disks]]"]
WORDS = ["name", "rate", "size", "true", "1", '"a"', "\u00e9", "'''"]
PIECES = st.sampled_from([*HEADERS, *WORDS, *"=[]{}#.,\\\n "])


@given(st.lists(PIECES, max_size=30).map("".join) | st.text(max_size=40))
def test_any_text_is_a_world_or_a_complaint(text: str) -> None:
    try:
        WorldFile("w.toml", text)
    except WorldError as error:
        assert error.message.startswith("w.toml:")  # noqa: PT017 - any other exception fails
