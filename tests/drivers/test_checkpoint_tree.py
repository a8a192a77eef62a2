"""The tree of checkpoints: rule by rule, then against a model that is slow and plain."""

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from virtbackupd.drivers.checkpoint_tree import CheckpointTree, Entry
from virtbackupd.drivers.enums import CheckpointList
from virtbackupd.drivers.errors import (
    DriverError,
    InvalidArgument,
    NoDomainCheckpoint,
    OperationFailed,
    Origin,
)

ROOTS, TOPOLOGICAL = CheckpointList.ROOTS, CheckpointList.TOPOLOGICAL
LEAVES, NO_LEAVES = CheckpointList.LEAVES, CheckpointList.NO_LEAVES
NAMES = st.sampled_from("abcdefgh")


def chain(*names: str) -> CheckpointTree[str]:
    tree: CheckpointTree[str] = CheckpointTree()
    for name in names:
        tree.add(name, f"value of {name}")
    return tree


def forest() -> CheckpointTree[str]:
    """a with b and c below it, d below c; e alone."""
    tree: CheckpointTree[str] = CheckpointTree()
    for name, parent in (("a", None), ("b", "a"), ("c", "a"), ("d", "c"), ("e", None)):
        tree.redefine(name, name, parent)
    return tree


def loaded(*entries: tuple[str, str | None]) -> CheckpointTree[str]:
    tree: CheckpointTree[str] = CheckpointTree()
    tree.load(Entry(name, parent, name) for name, parent in entries)
    return tree


def test_an_empty_tree() -> None:
    tree = chain()
    assert (len(tree), list(tree), tree.current, tree.list_all()) == (0, [], None, [])


def test_a_new_one_hangs_on_the_current_one() -> None:
    tree = chain("a")
    assert tree.add("b", "") == "a"
    assert (tree.parent("b"), tree.current) == ("a", "b")


def test_the_first_has_no_parent() -> None:
    assert chain("a").parent("a") is None


def test_a_name_is_used_once() -> None:
    tree = chain("a")
    with pytest.raises(OperationFailed, match="'a' exists") as caught:
        tree.add("a", "")
    assert caught.value.origin is Origin.DOMAIN
    assert tree.get("a") == "value of a"


def test_values_can_be_replaced() -> None:
    tree = chain("a", "b")
    tree.set("a", "new")
    assert list(tree.values()) == ["new", "value of b"]


@pytest.mark.parametrize(
    "call", ["get", "parent", "children", "descendants", "remove", "list_children"]
)
def test_an_unknown_name_is_103(call: str) -> None:
    with pytest.raises(NoDomainCheckpoint, match="'z'"):
        getattr(chain("a"), call)("z")


def test_setting_an_unknown_value_is_103() -> None:
    with pytest.raises(NoDomainCheckpoint):
        chain("a").set("z", "")


def test_contains() -> None:
    tree = chain("a")
    assert "a" in tree
    assert "z" not in tree


@pytest.mark.parametrize(
    ("name", "parent", "text"),
    [
        ("a", "a", "its own parent"),
        ("z", "y", "'y' is unknown"),
        ("a", "b", "'b' descends from it"),
        ("a", "c", "'c' descends from it"),
    ],
)
def test_redefine_refusals(name: str, parent: str, text: str) -> None:
    tree = chain("a", "b", "c")
    with pytest.raises(InvalidArgument, match=text) as caught:
        tree.redefine(name, "", parent)
    assert caught.value.origin is Origin.DOMAIN
    assert tree.list_all(TOPOLOGICAL) == ["a", "b", "c"]


def test_redefine_adds() -> None:
    tree = chain("a")
    assert tree.redefine("b", "v", "a") is False
    assert (tree.parent("b"), tree.get("b")) == ("a", "v")


def test_redefine_replaces_and_keeps_the_children() -> None:
    tree = chain("a", "b", "c")
    assert tree.redefine("b", "v", None) is True
    assert (tree.get("b"), tree.parent("b"), tree.children("b")) == ("v", None, ["c"])


def test_redefine_can_turn_a_root_into_a_child() -> None:
    tree = forest()
    tree.redefine("e", "v", "d")
    assert tree.list_all(ROOTS) == ["a"]


@pytest.mark.parametrize(
    ("parent", "current"),
    [("b", "z"), ("a", "b"), (None, "b")],
)
def test_redefine_below_the_current_becomes_current(parent: str | None, current: str) -> None:
    tree = chain("a", "b")
    tree.redefine("z", "", parent)
    assert tree.current == current


def test_redefine_becomes_current_when_there_is_none() -> None:
    tree = loaded(("a", None), ("b", "a"), ("c", "a"))
    assert tree.current is None
    tree.redefine("z", "", "b")
    assert tree.current == "z"


def test_remove_moves_the_children_up() -> None:
    tree = forest()
    assert tree.remove("a") == ["b", "c"]
    assert (tree.parent("b"), tree.parent("c")) == (None, None)
    assert sorted(tree.list_all(ROOTS)) == ["b", "c", "e"]


def test_remove_in_the_middle_of_a_chain() -> None:
    tree = chain("a", "b", "c")
    assert tree.remove("b") == ["c"]
    assert (tree.parent("c"), tree.current) == ("a", "c")


@pytest.mark.parametrize(("names", "current"), [("ab", "a"), ("a", None)])
def test_removing_the_current_makes_its_parent_current(names: str, current: str | None) -> None:
    tree = chain(*names)
    tree.remove(names[-1])
    assert tree.current == current


def test_removing_all_descendants_leaves_the_target_current() -> None:
    tree = chain("a", "b", "c", "d")
    for name in tree.descendants("b"):
        tree.remove(name)
    assert (tree.current, tree.children("b")) == ("b", [])


def test_children_come_newest_link_first() -> None:
    assert forest().children("a") == ["c", "b"]


def test_a_relinked_child_is_the_newest() -> None:
    tree = forest()
    tree.redefine("b", "", "a")
    assert tree.children("a") == ["b", "c"]


def test_descendants_are_in_pre_order() -> None:
    assert forest().descendants("a") == ["c", "d", "b"]


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        (CheckpointList(0), ["a", "b", "c", "d", "e"]),
        (TOPOLOGICAL, ["e", "a", "c", "d", "b"]),
        (ROOTS, ["a", "e"]),
        (ROOTS | TOPOLOGICAL, ["e", "a"]),
        (LEAVES, ["b", "d", "e"]),
        (NO_LEAVES, ["a", "c"]),
        (LEAVES | NO_LEAVES, []),
        (ROOTS | LEAVES, ["e"]),
        (TOPOLOGICAL | NO_LEAVES, ["a", "c"]),
    ],
)
def test_list_all(flags: CheckpointList, names: list[str]) -> None:
    assert forest().list_all(flags) == names


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        (CheckpointList(0), ["c", "b"]),
        (ROOTS, ["c", "d", "b"]),
        (ROOTS | LEAVES, ["d", "b"]),
        (LEAVES, ["b"]),
        (NO_LEAVES, ["c"]),
        (LEAVES | NO_LEAVES, []),
        (ROOTS | TOPOLOGICAL, ["c", "d", "b"]),
    ],
)
def test_list_children(flags: CheckpointList, names: list[str]) -> None:
    assert forest().list_children("a", flags) == names


@pytest.mark.parametrize(
    ("entries", "current"),
    [
        ((), None),
        ((("a", None),), "a"),
        ((("b", "a"), ("a", None), ("c", "b")), "c"),
        ((("a", None), ("b", "a"), ("c", "a")), None),
        ((("a", None), ("b", None)), None),
        ((("b", "lost"),), None),
    ],
)
def test_the_current_one_after_loading(
    entries: tuple[tuple[str, str | None], ...], current: str | None
) -> None:
    assert loaded(*entries).current == current


def test_orphans_become_roots() -> None:
    tree: CheckpointTree[str] = CheckpointTree()
    assert tree.load([Entry("b", "lost", ""), Entry("c", "b", "")]) == ["b"]
    assert (tree.parent("b"), tree.parent("c")) == (None, "b")


@pytest.mark.parametrize(
    "entries",
    [[("a", "a")], [("a", "b"), ("b", "a")], [("a", "b"), ("b", "c"), ("c", "b"), ("r", None)]],
)
def test_stored_rings_are_cut_once(entries: list[tuple[str, str]]) -> None:
    tree: CheckpointTree[str] = CheckpointTree()
    orphans = tree.load([Entry(name, parent, "") for name, parent in entries])
    assert len(orphans) == 1
    assert sorted(tree.list_all(TOPOLOGICAL)) == sorted(name for name, _ in entries)


def test_a_chain_of_thousands_is_walked() -> None:
    names = [str(number) for number in range(5000)]
    assert chain(*names).list_all(TOPOLOGICAL) == names


@given(st.lists(st.tuples(NAMES, st.none() | NAMES), unique_by=lambda entry: entry[0]))
def test_whatever_is_loaded_is_a_forest(entries: list[tuple[str, str | None]]) -> None:
    tree = loaded(*entries)
    assert sorted(tree.list_all(TOPOLOGICAL)) == sorted(name for name, _ in entries)
    assert len(tree.list_all(ROOTS)) == sum(tree.parent(name) is None for name in tree)


class Model(RuleBasedStateMachine):
    """The same operations on a dictionary of parents."""

    known = Bundle("known")

    def __init__(self) -> None:
        super().__init__()
        self.tree: CheckpointTree[str] = CheckpointTree()
        self.parents: dict[str, str | None] = {}
        self.current: str | None = None

    def ancestors(self, name: str | None) -> Iterable[str]:
        while name is not None:
            yield name
            name = self.parents[name]

    @rule(target=known, name=NAMES)
    def add(self, name: str) -> str:
        try:
            self.tree.add(name, name)
        except OperationFailed:
            assert name in self.parents
        else:
            self.parents[name] = self.current
            self.current = name
        return name

    @rule(target=known, name=NAMES, parent=st.none() | NAMES)
    def redefine(self, name: str, parent: str | None) -> str:
        unknown = parent is not None and parent not in self.parents
        refused = unknown or parent == name or name in self.ancestors(parent)
        try:
            self.tree.redefine(name, name, parent)
        except InvalidArgument:
            assert refused
        else:
            assert not refused
            self.parents[name] = parent
            self.current = name if self.current in (None, parent) else self.current
        return name

    @rule(name=consumes(known))
    def remove(self, name: str) -> None:
        try:
            self.tree.remove(name)
        except DriverError:
            assert name not in self.parents
            return
        parent = self.parents.pop(name)
        for child, above in self.parents.items():
            self.parents[child] = parent if above == name else above
        self.current = parent if self.current == name else self.current

    @invariant()
    def same_parents_and_current(self) -> None:
        assert {name: self.tree.parent(name) for name in self.tree} == self.parents
        assert self.tree.current == self.current

    @invariant()
    def topological_order_has_ancestors_first(self) -> None:
        order = {name: place for place, name in enumerate(self.tree.list_all(TOPOLOGICAL))}
        assert order.keys() == self.parents.keys()
        for name in order:
            assert all(order[low] > order[high] for low, high in pairwise(self.ancestors(name)))

    @invariant()
    def leaves_and_inner_nodes_are_everything(self) -> None:
        inner = {parent for parent in self.parents.values() if parent is not None}
        assert set(self.tree.list_all(NO_LEAVES)) == inner
        assert set(self.tree.list_all(LEAVES)) == self.parents.keys() - inner

    @invariant()
    def descendants_are_those_with_the_ancestor(self) -> None:
        for name in self.parents:
            below = {other for other in self.parents if name in self.ancestors(other)} - {name}
            assert set(self.tree.descendants(name)) == below


Model.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestModel = Model.TestCase
