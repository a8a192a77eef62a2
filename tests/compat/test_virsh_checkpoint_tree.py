"""virsh checkpoint-list, -info and -parent over one fixed tree, with every option combination.

The tree, made by redefinition, is a ─┬─ b ── d
                                      └─ c        and a second root, r.
"""

import pytest
from daemon_process import Daemon
from virsh_guest import Guest

PARENTS = {"a": None, "b": "a", "c": "a", "d": "b", "r": None}


@pytest.fixture(scope="module")
def tree(module_daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Guest:
    """The default domain with the tree of this module."""
    guest = Guest(module_daemon.uri, "test", tmp_path_factory.mktemp("tree"))
    for name, parent in PARENTS.items():
        guest.redefine(name, parent)
    return guest


NAMES = [
    ("", "a b c d r"),
    ("--roots", "a r"),
    ("--leaves", "c d r"),
    ("--no-leaves", "a b"),
    ("--leaves --no-leaves", ""),
    ("--roots --leaves", "r"),
    ("--roots --no-leaves", "a"),
    ("--from a", "b c"),
    ("--from a --descendants", "b c d"),
    ("--from a --leaves", "c"),
    ("--from a --no-leaves", "b"),
    ("--from a --descendants --leaves", "c d"),
    ("--from a --descendants --no-leaves", "b"),
    ("--from b", "d"),
    ("--from d", ""),
    ("--from d --descendants", ""),
    ("--from r --descendants --topological", ""),
    ("--from a --topological --leaves", "c"),
]


@pytest.mark.parametrize(("options", "expected"), NAMES)
def test_names(tree: Guest, options: str, expected: str) -> None:
    assert tree.checkpoints(*options.split()) == expected.split()


@pytest.mark.parametrize("options", ["", "--from a --descendants", "--no-leaves", "--leaves"])
def test_topological_puts_parents_first(tree: Guest, options: str) -> None:
    found = tree.checkpoints("--topological", *options.split())
    assert sorted(found) == tree.checkpoints(*options.split())
    for name in found:
        parent = PARENTS[name]
        assert parent not in found or found.index(parent) < found.index(name)


def test_topological_keeps_branches_together(tree: Guest) -> None:
    found = tree.checkpoints("--topological")
    assert found[found.index("b") + 1] == "d"


def _cells(table: str) -> list[list[str]]:
    return [line.split() for line in table.splitlines()[2:]]


def test_table_shows_the_creation_time(tree: Guest) -> None:
    rows = _cells(tree.virsh("checkpoint-list", "--roots"))
    assert [row[0] for row in rows] == ["a", "r"]
    assert rows[0][1].startswith("2023-11-1")


@pytest.mark.parametrize(
    ("options", "parents"),
    [
        ("", ["", "a", "a", "b", ""]),
        ("--leaves", ["a", "b", ""]),
        ("--from a --descendants", ["a", "a", "b"]),
        ("--from a --topological --leaves", ["a"]),
    ],
)
def test_parent_column(tree: Guest, options: str, parents: list[str]) -> None:
    rows = _cells(tree.virsh("checkpoint-list", "--parent", *options.split()))
    assert [row[4] if len(row) > 4 else "" for row in rows] == parents


def _shape(text: str) -> list[str]:
    """Depth and name of each node of a drawn tree."""
    lines = [line for line in text.splitlines() if line.strip(" |")]
    return [f"{len(line) - len(line.lstrip(' |+-'))}{line.strip(' |+-')}" for line in lines]


def test_tree(tree: Guest) -> None:
    drawn = _shape(tree.virsh("checkpoint-list", "--tree"))
    assert drawn == ["0a", "5b", "9d", "5c", "0r"]


def test_tree_from_shows_the_start_and_its_children(tree: Guest) -> None:
    assert _shape(tree.virsh("checkpoint-list", "--tree", "--from", "a")) == ["0a", "5b", "5c"]


def test_tree_from_with_descendants(tree: Guest) -> None:
    options = ["--tree", "--from", "a", "--descendants", "--topological"]
    drawn = _shape(tree.virsh("checkpoint-list", *options))
    assert sorted(drawn) == ["0a", "5b", "5c", "9d"]


EXCLUSIVE = [
    "--tree --name",
    "--parent --roots",
    "--parent --tree",
    "--roots --tree",
    "--roots --from a",
    "--tree --leaves",
    "--tree --no-leaves",
]


@pytest.mark.parametrize("options", EXCLUSIVE)
def test_virsh_refuses_together(tree: Guest, options: str) -> None:
    answer = tree.virsh("checkpoint-list", *options.split(), status=1)
    assert "mutually exclusive" in answer


def test_descendants_need_from(tree: Guest) -> None:
    answer = tree.virsh("checkpoint-list", "--descendants", status=1)
    assert "requires --from" in answer


def _info(tree: Guest, name: str) -> list[str]:
    lines = tree.virsh("checkpoint-info", name).splitlines()
    return [line.split(":")[1].strip() for line in lines]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a", "- 2 3"), ("b", "a 1 1"), ("d", "b 0 0"), ("r", "- 0 0")],
)
def test_info(tree: Guest, name: str, expected: str) -> None:
    assert _info(tree, name) == [name, "test", *expected.split()]


@pytest.mark.parametrize(("name", "parent"), [("b", "a"), ("c", "a"), ("d", "b")])
def test_parent(tree: Guest, name: str, parent: str) -> None:
    assert tree.virsh("checkpoint-parent", name) == parent


@pytest.mark.parametrize("name", ["a", "r"])
def test_root_has_no_parent(tree: Guest, name: str) -> None:
    answer = tree.virsh("checkpoint-parent", name, status=1)
    assert answer == f"error: checkpoint '{name}' has no parent"


UNKNOWN = ["checkpoint-info", "checkpoint-parent", "checkpoint-dumpxml", "checkpoint-delete"]


@pytest.mark.parametrize("command", [*UNKNOWN, "checkpoint-edit", "checkpoint-list --from"])
def test_unknown_name_is_told(tree: Guest, command: str) -> None:
    words = [*command.split(), "zz"]
    answer = tree.virsh(words[0], *words[1:], status=1)
    assert answer.startswith("error: Domain checkpoint not found: ")
    assert "'zz'" in answer


def test_domain_without_checkpoints_lists_none(spare: Guest) -> None:
    assert spare.checkpoints() == []
    assert spare.virsh("checkpoint-list", "--tree") == ""


def test_read_only_socket_lists(tree: Guest) -> None:
    assert tree.read_only.checkpoints() == list(PARENTS)


def test_list_is_the_same_for_a_stopped_domain(guest: Guest) -> None:
    guest.checkpoint("c1", "c2")
    guest.virsh("destroy")
    assert guest.checkpoints("--topological") == ["c1", "c2"]
