"""The checkpoints of a domain as a tree: each with its age, what changed since, and its bitmaps.

Lines for people and plain data for scripts, from the same report.
"""

import time
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import click

from virtbackupd.drivers.enums import DomainState
from virtbackupd.server.remote import Remote
from virtbackupd.server.remote_host import (
    ACTIVE_STATES,
    CheckpointReport,
    DomainKey,
    list_checkpoints,
    list_states,
)
from virtbackupd.server.watch.bitmaps import (
    BitmapState,
    Consistency,
    ask_monitor,
    bitmap_state,
)
from virtbackupd.server.watch.words import duration, moment, printable, size

_COLOURS: Final = {
    BitmapState.VALID: "green",
    BitmapState.MISSING: "red",
    BitmapState.INCONSISTENT: "red",
    BitmapState.UNUSABLE: "red",
}


class DomainTree(NamedTuple):
    """A domain with its checkpoints."""

    name: str
    state: DomainState
    checkpoints: Sequence[CheckpointReport]
    """Parents before their children."""
    consistent: Consistency | None
    now: float

    @property
    def current(self) -> str | None:
        """The parent of the next checkpoint: the newest without children.

        libvirt tells no client. On a chain without branches there is only one.
        """
        parents = {each.parent for each in self.checkpoints}
        leaves = [each for each in self.checkpoints if each.name not in parents]
        return max(leaves, key=lambda leaf: leaf.created).name if leaves else None


async def read_trees(
    remote: Remote, domains: Sequence[DomainKey], *, monitor: bool
) -> list[DomainTree]:
    states = await list_states(remote, domains)
    return [await _read(remote, each, state, monitor=monitor) for each, state in states.items()]


async def _read(
    remote: Remote, domain: DomainKey, state: DomainState, *, monitor: bool
) -> DomainTree:
    active = state in ACTIVE_STATES
    checkpoints = await list_checkpoints(remote, domain, sizes=active)
    consistent = None
    if monitor and active and checkpoints:
        consistent = await ask_monitor(remote, domain)
    return DomainTree(domain.name, state, checkpoints, consistent, time.time())


def as_data(tree: DomainTree) -> dict[str, object]:
    """For JSON; sizes in bytes, times in seconds since 1970."""
    return {
        "domain": tree.name,
        "state": tree.state.name.lower(),
        "checkpoints": [_checkpoint_data(tree, each) for each in tree.checkpoints],
    }


def _checkpoint_data(tree: DomainTree, checkpoint: CheckpointReport) -> dict[str, object]:
    return {
        "name": checkpoint.name,
        "parent": checkpoint.parent,
        "current": checkpoint.name == tree.current,
        "description": checkpoint.description,
        "created": checkpoint.created,
        "age": max(0, int(tree.now) - checkpoint.created),
        "disks": [
            {
                "target": disk.target,
                "bitmap": disk.bitmap or None,
                "size": disk.size,
                "state": bitmap_state(checkpoint, disk, tree.consistent).value,
            }
            for disk in checkpoint.disks
        ],
    }


def as_lines(tree: DomainTree) -> Iterator[str]:
    """An only child stands right below its parent, so that a long chain stays narrow."""
    title = click.style(printable(tree.name), bold=True)
    yield f"{title} ({tree.state.name.lower()})"
    if not tree.checkpoints:
        yield "  no checkpoints"
    width = max((len(each.name) for each in tree.checkpoints), default=0)
    current = tree.current
    for guide, checkpoint in _walk(tree.checkpoints):
        yield f"  {guide}{_line(tree, checkpoint, width, current=checkpoint.name == current)}"


def _walk(checkpoints: Sequence[CheckpointReport]) -> Iterator[tuple[str, CheckpointReport]]:
    """Each with the guide in front of it; a stack, as a chain can be thousands long."""
    children: dict[str | None, list[CheckpointReport]] = {}
    names = {each.name for each in checkpoints}
    for each in checkpoints:
        parent = each.parent if each.parent in names else None
        children.setdefault(parent, []).append(each)
    stack = _branches("", children.get(None, []))
    while stack:
        guide, below, checkpoint = stack.pop()
        yield guide, checkpoint
        stack += _branches(below, children.get(checkpoint.name, []))


def _branches(
    below: str, siblings: Sequence[CheckpointReport]
) -> list[tuple[str, str, CheckpointReport]]:
    """Guides for the siblings and for what comes below each, the first sibling last."""
    if len(siblings) <= 1:
        return [(below, below, each) for each in siblings]
    *others, last = siblings
    found = [(below + "├─ ", below + "│  ", each) for each in others]
    found.append((below + "└─ ", below + "   ", last))
    return found[::-1]


def _line(tree: DomainTree, checkpoint: CheckpointReport, width: int, *, current: bool) -> str:
    name = printable(checkpoint.name)
    shown = click.style(name, bold=True, fg="cyan") if current else name
    age = duration(tree.now - checkpoint.created)
    disks = "  ".join(_disk_words(tree, checkpoint))
    mark = "  current" if current else ""
    filling = " " * (width - len(name))
    return f"{shown}{filling}  {moment(checkpoint.created)}  {age} ago  {disks}{mark}".rstrip()


def _disk_words(tree: DomainTree, checkpoint: CheckpointReport) -> Iterator[str]:
    for disk in checkpoint.disks:
        state = bitmap_state(checkpoint, disk, tree.consistent)
        if state is BitmapState.NONE:
            continue
        changed = "" if disk.size is None else f" {size(disk.size)}"
        word = click.style(state.value, fg=_COLOURS.get(state))
        yield f"{printable(disk.target)}{changed} {word}"
