"""Block commit: what an image holds goes into one below it, and the checkpoints' bitmaps with it.

A commit of the active image runs on until somebody pivots the disk to the image below, or cancels.
What is written between the end of copying and the pivot is recorded in a bitmap of its own. One
task follows each job to its end; a restarted daemon starts it anew from the status file.
"""

import logging
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

import trio
from lxml import etree

from virtbackupd.drivers.disks import require_disk
from virtbackupd.drivers.enums import BlockJobStatus, BlockJobType
from virtbackupd.drivers.errors import (
    BlockCopyActive,
    ConfigUnsupported,
    DriverError,
    InvalidArgument,
    OperationFailed,
    OperationInvalid,
    OperationUnsupported,
)
from virtbackupd.drivers.events import DomainBlockJob
from virtbackupd.drivers.flags import FlagRules
from virtbackupd.drivers.qemu import bitmaps, block_jobs, disk_images
from virtbackupd.drivers.qemu.bitmaps import query_images
from virtbackupd.drivers.qemu.block_jobs import ENDED
from virtbackupd.drivers.qemu.checkpoint import PATIENCE, reopen
from virtbackupd.drivers.qemu.qmp import QmpError
from virtbackupd.drivers.qemu.state_file import PARTS, Part

if TYPE_CHECKING:
    from virtbackupd.drivers.qemu.bitmaps import Images
    from virtbackupd.drivers.qemu.block_nodes import DiskNodes, Json
    from virtbackupd.drivers.qemu.domain import QemuDomain

log = logging.getLogger(__name__)

_SHALLOW: Final = 1
_ACTIVE: Final = 4
_BYTES: Final = 16
_COMMIT = FlagRules("virDomainBlockCommit", _SHALLOW | _ACTIVE | _BYTES)
_ACTIVE_WRITE: Final = "libvirt-tmp-activewrite"
_READY: Final = "ready"
_VANISHED: Final = "QEMU has no such job any more"


@dataclass(slots=True)
class Commit:
    """One running commit; `top` and `base` count the images from the active one."""

    target: str
    job: str
    top: int
    base: int
    pivoting: bool = False
    cancelled: bool = False
    ready: bool = False
    ended: bool = False
    """QEMU has forgotten it; a restarted daemon need not know of it."""
    error: str | None = None
    """Why it has failed."""
    over: trio.Event = field(default_factory=trio.Event)

    @property
    def type(self) -> BlockJobType:
        return BlockJobType.COMMIT if self.top else BlockJobType.ACTIVE_COMMIT


async def begin(
    domain: "QemuDomain", path: str, base: str | None, top: str | None, bandwidth: int, flags: int
) -> None:
    """`virDomainBlockCommit`: returns when the job runs."""
    _COMMIT.check(flags)
    domain.require_active()
    async with domain.modify("virDomainBlockCommit"):
        target = require_disk(domain.definition, path).target
        require_free(domain, target)
        require_plain(domain.nodes.disks[target])
        commit = _planned(domain.nodes.disks[target], base, top, flags)
        speed = bandwidth if flags & _BYTES else bandwidth << 20
        await _start(domain, commit, speed)


def require_free(domain: "QemuDomain", target: str) -> None:
    """Refuse a disk that another job works on."""
    if domain.backup is not None and domain.backup.uses(target):
        raise OperationUnsupported(f"disk {target} is in use by a backup, end that first")
    if domain.block_jobs.owner(target) is not None:
        raise OperationUnsupported(f"disk {target} has a block job already, end that first")


def require_plain(chain: "DiskNodes") -> None:
    """Refuse encrypted images: the definition of a disk would not say what opens the next one."""
    if chain.secrets():
        raise ConfigUnsupported(
            f"disk {chain.target} is encrypted: its chain of images cannot be changed while it runs"
        )


def _planned(chain: "DiskNodes", base: str | None, top: str | None, flags: int) -> Commit:
    upper = 0 if top is None else _place(chain, top)
    if bool(flags & _ACTIVE) != (upper == 0):
        word = "needs" if upper == 0 else "forbids"
        raise InvalidArgument(f"the top image of disk {chain.target} {word} the flag ACTIVE")
    lower = upper + 1 if flags & _SHALLOW else len(chain.layers) - 1
    lower = lower if base is None else _place(chain, base)
    if not upper < lower < len(chain.layers):
        raise InvalidArgument(f"disk {chain.target} has no such image below the one to commit")
    if flags & _SHALLOW and lower != upper + 1:
        raise InvalidArgument("a shallow commit goes to the image right below")
    job = f"commit-{chain.target}-{chain.layers[upper].node}"
    return Commit(chain.target, job, upper, lower)


def _place(chain: "DiskNodes", name: str) -> int:
    """Where an image given by its path, or as `vda[3]`, stands in the chain."""
    for place, layer in enumerate(chain.layers):
        if name in (layer.image.path, f"{chain.target}[{layer.number}]"):
            return place
    raise InvalidArgument(f"the chain of disk {chain.target} has no image {name!r}")


async def _start(domain: "QemuDomain", commit: Commit, speed: int) -> None:
    layers = domain.nodes.disks[commit.target].layers
    enter(domain, commit)
    arguments = {
        "device": layers[0].node,
        "job-id": commit.job,
        "top-node": layers[commit.top].node,
        "base-node": layers[commit.base].node,
        "speed": speed,
        "auto-finalize": True,
        "auto-dismiss": False,
    }
    try:
        await domain.save_status()
        await domain.monitor.execute("block-commit", arguments)
    except DriverError:
        _leave(domain, commit)
        raise
    domain.host.nursery.start_soon(follow, domain, commit)


def enter(domain: "QemuDomain", commit: Commit) -> None:
    domain.block_jobs.disks[commit.target] = commit.job
    domain.commits[commit.target] = commit


def _forget(domain: "QemuDomain", commit: Commit) -> None:
    domain.block_jobs.disks.pop(commit.target, None)
    domain.commits.pop(commit.target, None)


def _leave(domain: "QemuDomain", commit: Commit) -> None:
    _forget(domain, commit)
    commit.over.set()


def running(domain: "QemuDomain", target: str) -> Commit | None:
    return domain.commits.get(target)


async def follow(domain: "QemuDomain", commit: Commit) -> None:
    """Go with a job to its end; a task of the driver's."""
    try:
        with domain.block_jobs.statuses(commit.job) as statuses:
            report = (await block_jobs.query_jobs(domain)).get(commit.job)
            statuses.add(ENDED if report is None else report.status)
            await statuses.reach(_READY, ENDED)
            if not statuses.reached(ENDED):
                await _become_ready(domain, commit)
            await statuses.reach(ENDED)
        await _finish(domain, commit)
    except DriverError as error:
        log.error("commit on domain %s: %s", domain.ref.name, error.message)
        commit.error = error.message
    except Exception:
        log.exception("a commit on domain %s broke down", domain.ref.name)
        commit.error = "internal error, see the log of the daemon"
    finally:
        _leave(domain, commit)


async def _become_ready(domain: "QemuDomain", commit: Commit) -> None:
    commit.ready = True
    _publish(domain, commit, BlockJobStatus.READY)
    if commit.pivoting:
        # An earlier daemon was ended right before it said so.
        with suppress(QmpError):
            await domain.monitor.execute("job-complete", {"id": commit.job})


async def _finish(domain: "QemuDomain", commit: Commit) -> None:
    report = (await block_jobs.query_jobs(domain)).get(commit.job)
    commit.error = _VANISHED if report is None else report.error
    pivoted = commit.pivoting or commit.top > 0
    if commit.error is None and pivoted and _is_in_chain(domain, commit):
        await _merge_bitmaps(domain, commit)
        await _shorten(domain, commit)
    await block_jobs.dismiss(domain, commit.job)
    commit.ended = True
    await domain.save_status_if_possible()
    # Nobody finds the job gone whom the event tells later.
    _forget(domain, commit)
    status = BlockJobStatus.COMPLETED if commit.error is None else BlockJobStatus.FAILED
    _publish(domain, commit, BlockJobStatus.CANCELED if commit.cancelled else status)


def _is_in_chain(domain: "QemuDomain", commit: Commit) -> bool:
    """False when an earlier daemon came as far as to take the image out."""
    layers = domain.nodes.disks[commit.target].layers
    return commit.base < len(layers) and commit.job.endswith(f"-{layers[commit.top].node}")


def _publish(domain: "QemuDomain", commit: Commit, status: BlockJobStatus) -> None:
    disk = domain.definition.find_disk(commit.target)
    path = (disk.local_path if disk is not None else None) or ""
    domain.events.publish(DomainBlockJob(domain.ref, path, commit.target, commit.type, status))


async def _shorten(domain: "QemuDomain", commit: Commit) -> None:
    """The images that have gone into the one below are no part of the chain any more."""
    chain = domain.nodes.disks[commit.target]
    gone = chain.layers[commit.top : commit.base]
    kept = chain.layers[: commit.top] + chain.layers[commit.base :]
    await disk_images.use_chains(domain, [chain.from_layers(kept)])
    await disk_images.drop_layers(domain, gone)


async def _merge_bitmaps(domain: "QemuDomain", commit: Commit) -> None:
    """What the upper images have recorded is dirty in the base, too."""
    chain = domain.nodes.disks[commit.target]
    actions = merge_actions(await query_images(domain.monitor), chain, commit)
    if not actions:
        return
    if commit.top:
        await reopen(domain, chain, commit.base, read_only=False)
    await bitmaps.transaction(domain.monitor, actions)
    if commit.top:
        await reopen(domain, chain, commit.base, read_only=True)


def merge_actions(images: "Images", chain: "DiskNodes", commit: Commit) -> "list[Json]":
    """For each bitmap that is valid from the top on, its union on the base."""
    base = chain.layers[commit.base].node
    upper = chain.from_layers(chain.layers[commit.top : commit.base + 1])
    extra = [(base, _ACTIVE_WRITE)] if images.find(base, _ACTIVE_WRITE) is not None else []
    actions: list[Json] = []
    for bitmap in images.all(upper.layers[0].node):
        found = bitmaps.valid_chain(images, upper, bitmap.name)
        if found is None or chain.layers[commit.base].image.format != "qcow2":
            continue
        if images.find(base, bitmap.name) is None:
            size = bitmap.granularity
            actions.append(bitmaps.add(base, bitmap.name, persistent=True, granularity=size))
        sources = [(each.node, each.name) for each in found if each.node != base]
        actions.append(bitmaps.merge(base, bitmap.name, sources + extra))
    return actions + [bitmaps.remove(*each) for each in extra]


async def end(domain: "QemuDomain", target: str, *, pivot: bool, wait: bool = True) -> None:
    """Pivot the disk to the image below, or cancel the commit."""
    commit = running(domain, target)
    if commit is None or commit.pivoting or commit.cancelled:
        raise OperationInvalid(f"the block job of disk {target} is ending already")
    if pivot:
        await _pivot(domain, commit)
    else:
        commit.cancelled = True
        arguments = {"device": commit.job, "force": True}
        await domain.monitor.execute("block-job-cancel", arguments)
    with trio.move_on_after(PATIENCE if wait else 0):
        await commit.over.wait()
    if pivot and commit.error is not None:
        raise OperationFailed(f"the commit of disk {target} failed while pivoting: {commit.error}")


async def _pivot(domain: "QemuDomain", commit: Commit) -> None:
    if commit.type is not BlockJobType.ACTIVE_COMMIT:
        raise OperationInvalid(f"the commit of disk {commit.target} ends without a pivot")
    if not commit.ready:
        raise BlockCopyActive(f"the commit of disk {commit.target} is not ready for a pivot yet")
    chain = domain.nodes.disks[commit.target]
    images = await query_images(domain.monitor)
    if merge_actions(images, chain, commit):
        base = chain.layers[commit.base].node
        size = min(bitmap.granularity for bitmap in images.all(chain.layers[0].node))
        recording = bitmaps.add(base, _ACTIVE_WRITE, persistent=False, granularity=size)
        await bitmaps.transaction(domain.monitor, [recording])
    commit.pivoting = True
    await domain.save_status()
    await domain.monitor.execute("job-complete", {"id": commit.job})


# What the status file keeps of them.
def _write_part(domain: "QemuDomain") -> etree._Element | None:
    under_way = [commit for commit in domain.commits.values() if not commit.ended]
    if not under_way:
        return None
    root = etree.Element("commits")
    for commit in under_way:
        etree.SubElement(
            root,
            "commit",
            disk=commit.target,
            job=commit.job,
            top=str(commit.top),
            base=str(commit.base),
            pivoting="yes" if commit.pivoting else "no",
        )
    return root


def _read_part(domain: "QemuDomain", root: etree._Element) -> None:
    for element in root.iterchildren("commit"):
        top, base = int(element.get("top", "0")), int(element.get("base", "1"))
        commit = Commit(element.get("disk", ""), element.get("job", ""), top, base)
        commit.pivoting = element.get("pivoting") == "yes"
        enter(domain, commit)


def resume(domain: "QemuDomain") -> None:
    """Follow the commits of a domain whose QEMU has been found again."""
    for commit in domain.commits.values():
        domain.host.nursery.start_soon(partial(follow, domain, commit))


PARTS.append(Part("commits", _write_part, _read_part))
