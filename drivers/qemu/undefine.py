"""What is only possible while a domain is not needed: undefining and renaming it.

Undefining a running domain makes it transient; nothing here stops anything. A rename that is cut
off at any moment is finished or taken back when the daemon starts again (`define.load`).
"""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import trio
from lxml import etree

from virtbackupd.drivers import store
from virtbackupd.drivers.checkpoint_tree import CheckpointTree
from virtbackupd.drivers.definitions.tree import child_text
from virtbackupd.drivers.enums import DefinedDetail, Lifecycle, Undefine, UndefinedDetail
from virtbackupd.drivers.errors import OperationInvalid
from virtbackupd.drivers.flags import UNDEFINE, check_none
from virtbackupd.drivers.qemu import save
from virtbackupd.drivers.qemu.define import autostart_path, definition_path
from virtbackupd.drivers.undefine_rules import require_renamable, require_undefinable

if TYPE_CHECKING:
    from virtbackupd.drivers.qemu.domain import QemuDomain


async def undefine(domain: "QemuDomain", flags: int) -> None:
    """Make an active domain transient; let an inactive one go, unless it has what must be named."""
    UNDEFINE.check(flags)
    async with domain.modify("virDomainUndefine"):
        require_undefinable(domain, flags)
        nvram = await _removable_nvram(domain, flags)
        await _remove_files(domain, nvram)
        domain.autostart = False
        domain.publish(Lifecycle.UNDEFINED, UndefinedDetail.REMOVED)
        domain.persistent = None
        if domain.active:
            await domain.save_status()
        else:
            await forget(domain)


async def _removable_nvram(domain: "QemuDomain", flags: int) -> Path | None:
    """The firmware's variables when they are to go; refuse when nobody said what is to become."""
    path = nvram_path(domain)
    if path is None or flags & Undefine.KEEP_NVRAM or domain.active:
        return None
    if not await trio.Path(path).exists():
        return None
    if not flags & Undefine.NVRAM:
        raise OperationInvalid(
            f"domain {domain.ref.name} has firmware variables in {path}: pass one of the flags "
            "VIR_DOMAIN_UNDEFINE_NVRAM and VIR_DOMAIN_UNDEFINE_KEEP_NVRAM"
        )
    return path


def nvram_path(domain: "QemuDomain") -> Path | None:
    """Where the firmware of a domain keeps its variables."""
    root = etree.fromstring(domain.definition.to_xml())
    text = child_text(root, "os/nvram")
    return Path(text) if text else None


async def _remove_files(domain: "QemuDomain", nvram: Path | None) -> None:
    """The definition goes last: without it the rest would belong to nobody."""
    host, name = domain.host, domain.ref.name
    if domain.saved is not None:
        await save.discard(domain)
    if not domain.active:
        await remove_checkpoint_files(domain)
    if nvram is not None:
        await store.remove(nvram)
    await store.remove(autostart_path(host, name))
    await store.remove(definition_path(host, name))


async def remove_checkpoint_files(domain: "QemuDomain") -> None:
    """The snapshots' files are of the same kind and go with them."""
    settings, name = domain.host.settings, domain.ref.name
    for folder in (settings.checkpoints(name), settings.snapshots(name)):
        await trio.to_thread.run_sync(shutil.rmtree, folder, True)  # noqa: FBT003


async def forget(domain: "QemuDomain") -> None:
    """Drop an undefined domain and its checkpoints' metadata; its images stay."""
    vanish(domain)
    await remove_checkpoint_files(domain)


def vanish(domain: "QemuDomain") -> None:
    """From now on nobody finds the domain; its files are another matter."""
    domain.host.domains.remove(domain)
    domain.checkpoints = CheckpointTree()
    domain.snapshots.forget()
    domain.jobs.completed = None


async def rename(domain: "QemuDomain", new_name: str | None, flags: int) -> int:
    """Give an inactive domain another name; its checkpoints move along."""
    check_none(flags, "virDomainRename")
    async with domain.modify("virDomainRename"), domain.host.defining:
        name, old = require_renamable(domain, new_name), domain.ref
        if domain.host.domains.has_name(name):
            raise OperationInvalid(f"a domain named {name!r} exists already")
        renamed = domain.definition.with_name(name)
        await _move_files(domain, old.name, name, renamed.to_xml())
        domain.host.domains.rename(domain, name)
        domain.persistent = renamed
        _tell(domain, old)
    return 0


async def _move_files(domain: "QemuDomain", old: str, new: str, xml: str) -> None:
    """The new definition appears first and the old one goes last: who finds both, finishes."""
    host = domain.host
    await store.write(definition_path(host, new), xml)
    for folder in (host.settings.checkpoints, host.settings.snapshots):
        await finish_rename(folder(old), folder(new))
    if domain.autostart:
        await store.write(autostart_path(host, new), "")
        await store.remove(autostart_path(host, old))
    await store.remove(definition_path(host, old))


async def finish_rename(old: Path, new: Path) -> None:
    """Move the folder of checkpoints, if there is one."""
    if await trio.Path(old).exists():
        await store.move(old, new)


def _tell(domain: "QemuDomain", old: tuple[str, bytes, int]) -> None:
    renamed = domain.ref
    domain.ref = renamed._replace(name=old[0])
    domain.publish(Lifecycle.UNDEFINED, UndefinedDetail.RENAMED)
    domain.ref = renamed
    domain.publish(Lifecycle.DEFINED, DefinedDetail.RENAMED)
