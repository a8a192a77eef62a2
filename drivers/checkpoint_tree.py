"""The checkpoints of one domain: names, parents, children and the current one.

Pure bookkeeping over any value: no XML, no bitmaps, no domain state. Every refusal comes before any
change, so a caller never sees half an operation.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, Self, TypeVar

from virtbackupd.drivers.enums import CheckpointList
from virtbackupd.drivers.errors import (
    InvalidArgument,
    NoDomainCheckpoint,
    OperationFailed,
    Origin,
)

T = TypeVar("T")

_NO_FLAGS = CheckpointList(0)


class Entry(NamedTuple, Generic[T]):
    """One checkpoint as it is stored, for `CheckpointTree.load`."""

    name: str
    parent: str | None
    value: T


class TreeState(NamedTuple, Generic[T]):
    """A whole tree as it was at an instant."""

    values: tuple[tuple[str, T], ...]
    """In order of arrival."""
    links: tuple[tuple[str, str | None], ...]
    """Each name with its parent; those of one parent with the oldest link first."""
    current: str | None


@dataclass(slots=True, eq=False)
class _Node(Generic[T]):
    name: str
    value: T
    parent: "_Node[T] | None" = None
    children: "dict[str, _Node[T]]" = field(default_factory=dict)
    """Oldest link first; walks go the other way round."""

    def link(self, parent: "_Node[T] | None") -> None:
        self.unlink()
        self.parent = parent
        if parent is not None:
            parent.children[self.name] = self

    def unlink(self) -> None:
        if self.parent is not None:
            del self.parent.children[self.name]
            self.parent = None


class CheckpointTree(Generic[T]):
    """Adding is O(1) however many there are; listing is O(n)."""

    def __init__(self) -> None:
        self._nodes: dict[str, _Node[T]] = {}
        self._roots: dict[str, _Node[T]] = {}
        self._current: str | None = None

    def __len__(self) -> int:
        return len(self._nodes)

    def __contains__(self, name: object) -> bool:
        return name in self._nodes

    def __iter__(self) -> Iterator[str]:
        return iter(self._nodes)

    @property
    def current(self) -> str | None:
        """The parent of the next checkpoint; None makes that a root."""
        return self._current

    def get(self, name: str) -> T:
        return self._node(name).value

    def set(self, name: str, value: T) -> None:
        """Replace the value of a checkpoint without moving it."""
        self._node(name).value = value

    def values(self) -> Iterator[T]:
        return (node.value for node in self._nodes.values())

    def parent(self, name: str) -> str | None:
        node = self._node(name).parent
        return None if node is None else node.name

    def check_new(self, name: str) -> None:
        if name in self._nodes:
            raise OperationFailed(
                f"checkpoint {name!r} exists already, choose another name", origin=Origin.DOMAIN
            )

    def add(self, name: str, value: T) -> str | None:
        """Append to the current checkpoint and become current; returns the parent."""
        self.check_new(name)
        parent = self._current
        self._link(_Node(name, value), parent)
        self._current = name
        return parent

    def check_redefine(self, name: str, parent: str | None) -> None:
        """Parents must be redefined before their children, and nothing may descend from itself."""
        if parent is None:
            return
        if parent == name:
            raise _redefine_refusal(name, "it cannot be its own parent")
        node = self._nodes.get(parent)
        if node is None:
            raise _redefine_refusal(name, f"its parent {parent!r} is unknown: redefine that first")
        while node is not None:
            if node.name == name:
                raise _redefine_refusal(name, f"its parent {parent!r} descends from it")
            node = node.parent

    def redefine(self, name: str, value: T, parent: str | None) -> bool:
        """Add or replace under `parent`; children stay. True if it was there before."""
        self.check_redefine(name, parent)
        node = self._nodes.get(name)
        self._link(_Node(name, value) if node is None else node, parent)
        self._nodes[name].value = value
        if self._current is None or self._current == parent:
            self._current = name
        return node is not None

    def remove(self, name: str) -> list[str]:
        """Take one out; its children, which are returned, move to its parent."""
        node = self._node(name)
        parent = None if node.parent is None else node.parent.name
        moved = list(node.children.values())
        node.unlink()
        self._roots.pop(name, None)
        del self._nodes[name]
        for child in moved:
            self._link(child, parent)
        if self._current == name:
            self._current = parent
        return [child.name for child in moved]

    def children(self, name: str) -> list[str]:
        """Newest link first."""
        return list(reversed(self._node(name).children))

    def descendants(self, name: str) -> list[str]:
        """Pre-order without `name` itself, the newest link of each level first."""
        return [node.name for node in _walk(self._node(name).children)]

    def list_all(self, flags: CheckpointList = _NO_FLAGS) -> list[str]:
        """In tree order with TOPOLOGICAL, else in order of arrival."""
        if CheckpointList.TOPOLOGICAL in flags:
            nodes = _walk(self._roots)
        else:
            nodes = iter(self._nodes.values())
        if CheckpointList.ROOTS in flags:
            nodes = (node for node in nodes if node.parent is None)
        return _filtered(nodes, flags)

    def list_children(self, name: str, flags: CheckpointList = _NO_FLAGS) -> list[str]:
        """Direct children, or all descendants with DESCENDANTS (the same bit as ROOTS)."""
        children = self._node(name).children
        deep = CheckpointList.ROOTS in flags
        return _filtered(_walk(children) if deep else reversed(children.values()), flags)

    def load(self, entries: Iterable[Entry[T]]) -> list[str]:
        """Fill an empty tree from storage; returns the orphans, which have become roots.

        The current checkpoint is not stored: it is the one leaf of a single unbranched chain,
        and unknown when the stored tree has any other shape or an orphan.
        """
        parents: dict[str, str | None] = {}
        for entry in entries:
            self._nodes[entry.name] = _Node(entry.name, entry.value)
            parents[entry.name] = entry.parent
        orphans = [name for name, parent in parents.items() if not self._can_link(name, parent)]
        parents |= dict.fromkeys(orphans)
        for name, parent in parents.items():
            self._link(self._nodes[name], parent)
        orphans += self._break_cycles()
        self._current = None if orphans else self._single_leaf()
        return orphans

    def state(self) -> TreeState[T]:
        """Everything as of now."""
        nodes = self._nodes.values()
        inner = ((child, node.name) for node in nodes for child in node.children)
        return TreeState(
            tuple((node.name, node.value) for node in nodes),
            (*((name, None) for name in self._roots), *inner),
            self._current,
        )

    @classmethod
    def restored(cls, state: TreeState[T]) -> Self:
        """A tree as it was; OperationFailed when no tree can have been like that."""
        tree = cls()
        tree._nodes = {name: _Node(name, value) for name, value in state.values}
        linked = {name for name, _ in state.links}
        parents = {parent for _, parent in state.links if parent is not None}
        known = tree._nodes.keys()
        if not (linked == known and len(state.links) == len(known) == len(state.values)):
            raise _no_tree()
        if not parents <= known or (state.current is not None and state.current not in known):
            raise _no_tree()
        for name, parent in state.links:
            tree._link(tree._nodes[name], parent)
        if sum(1 for _ in _walk(tree._roots)) != len(known):
            raise _no_tree()
        tree._current = state.current
        return tree

    def dissolve(self) -> None:
        """Empty it, so that its memory is free at once: parents and children hold each other."""
        for node in self._nodes.values():
            node.parent = None
            node.children.clear()
        self._nodes, self._roots, self._current = {}, {}, None

    def _can_link(self, name: str, parent: str | None) -> bool:
        return parent is None or (parent in self._nodes and parent != name)

    def _break_cycles(self) -> list[str]:
        """Stored files that point at each other are reachable from no root: cut each ring once."""
        cut = []
        reached = {node.name for node in _walk(self._roots)}
        for name, node in self._nodes.items():
            if name not in reached:
                root = _on_ring(node)
                self._link(root, None)
                cut.append(root.name)
                reached.update(inner.name for inner in _walk({root.name: root}))
        return cut

    def _single_leaf(self) -> str | None:
        leaves = [node for node in self._nodes.values() if not node.children]
        return leaves[0].name if len(leaves) == 1 and len(self._roots) == 1 else None

    def _node(self, name: str) -> _Node[T]:
        node = self._nodes.get(name)
        if node is None:
            raise NoDomainCheckpoint(f"no checkpoint {name!r} in this domain")
        return node

    def _link(self, node: _Node[T], parent: str | None) -> None:
        self._nodes[node.name] = node
        self._roots.pop(node.name, None)
        node.link(None if parent is None else self._nodes[parent])
        if parent is None:
            self._roots[node.name] = node


def _no_tree() -> OperationFailed:
    return OperationFailed("the checkpoints do not form a tree", origin=Origin.DOMAIN)


def _redefine_refusal(name: str, cause: str) -> InvalidArgument:
    return InvalidArgument(
        f"checkpoint {name!r} cannot be redefined: {cause}", origin=Origin.DOMAIN
    )


def _on_ring(node: _Node[T]) -> _Node[T]:
    """Where the way up from an unreachable node meets itself."""
    seen: set[str] = set()
    while node.parent is not None and node.name not in seen:
        seen.add(node.name)
        node = node.parent
    return node


def _walk(level: dict[str, _Node[T]]) -> Iterator[_Node[T]]:
    # A stack, not recursion: a chain of checkpoints can be thousands deep.
    stack = list(level.values())
    while stack:
        node = stack.pop()
        yield node
        stack.extend(node.children.values())


def _filtered(nodes: Iterable[_Node[T]], flags: CheckpointList) -> list[str]:
    # LEAVES and NO_LEAVES together leave nothing: each filter is applied in turn.
    if CheckpointList.LEAVES in flags:
        nodes = (node for node in nodes if not node.children)
    if CheckpointList.NO_LEAVES in flags:
        nodes = (node for node in nodes if node.children)
    return [node.name for node in nodes]
