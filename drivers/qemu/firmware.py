"""The guest's firmware: the BIOS that QEMU brings, a ROM, or UEFI in two flash memories.

The second flash holds the guest's own variables, in a file of its own that begins as a copy of a
template. The functions that look at files block.
"""

import contextlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lxml import etree

from virtbackupd.drivers.definitions.machine import BootDefinition, read_machine
from virtbackupd.drivers.definitions.tree import child_text
from virtbackupd.drivers.errors import ConfigUnsupported, SystemFailure
from virtbackupd.drivers.qemu.labels import NOBODY_ELSE, Owner

if TYPE_CHECKING:
    from virtbackupd.drivers.definitions.domain import DomainDefinition
    from virtbackupd.drivers.qemu.arguments import Arguments, Json
    from virtbackupd.drivers.qemu.config import Settings

_FOLDERS: Final = ("/usr/share/OVMF", "/usr/share/edk2/x64", "/usr/share/edk2/ovmf")
_PAIRS: Final = (
    ("OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"),
    ("OVMF_CODE.4m.fd", "OVMF_VARS.4m.fd"),
    ("OVMF_CODE.fd", "OVMF_VARS.fd"),
)
"""Code and the template of its variables; the first pair that is installed is taken."""


def complete_firmware(
    definition: "DomainDefinition", settings: "Settings", folders: tuple[str, ...] = _FOLDERS
) -> "DomainDefinition":
    """Name the files of UEFI where the document only asks for it. Blocks."""
    boot = definition.view(read_machine).boot
    if boot.firmware == "efi" and boot.loader is None:
        definition = definition.edited(lambda root: _choose(root, folders))
        boot = definition.view(read_machine).boot
    if boot.loader_type == "pflash" and boot.loader and boot.nvram is None:
        path = settings.nvram / f"{definition.name}_VARS.fd"
        template = boot.nvram_template or _template_of(boot.loader)
        return definition.edited(lambda root: _set_nvram(root, path, template))
    return definition


def make_nvram(
    definition: "DomainDefinition", owner: Owner = NOBODY_ELSE, *, reset: bool = False
) -> None:
    """Create the guest's variables from their template, unless it has them already. Blocks."""
    boot = definition.view(read_machine).boot
    if boot.nvram is None or (Path(boot.nvram).exists() and not reset):
        return
    template = boot.nvram_template or _template_of(boot.loader or "")
    if template is None:
        raise ConfigUnsupported(
            f"domain {definition.name} has no template for {boot.nvram}: name one in"
            " <nvram template='...'>"
        )
    fresh = f"{boot.nvram}.new"
    try:
        shutil.copyfile(template, fresh)
        Path(fresh).chmod(0o600)
        owner.apply(fresh)
        os.replace(fresh, boot.nvram)  # noqa: PTH105 - two plain names
    except OSError as error:
        with contextlib.suppress(OSError):
            Path(fresh).unlink()
        raise SystemFailure(
            f"cannot make the variables {boot.nvram} of domain {definition.name}: {error.strerror}"
        ) from None


def add_firmware(arguments: "Arguments", boot: BootDefinition) -> "Json":
    """Add the flash memories; returns what `-machine` must say of them."""
    if boot.loader is None:
        return {}
    if boot.loader_type == "rom":
        arguments.add("-bios", boot.loader)
        return {}
    settings: Json = {"pflash0": _add_flash(arguments, 0, boot.loader, read_only=True)}
    if boot.nvram is not None:
        settings["pflash1"] = _add_flash(arguments, 1, boot.nvram, read_only=False)
    return settings


def _add_flash(arguments: "Arguments", unit: int, path: str, *, read_only: bool) -> str:
    name = f"libvirt-pflash{unit}"
    storage = {"driver": "file", "filename": path, "node-name": f"{name}-storage"}
    arguments.json("blockdev", {**storage, "auto-read-only": True, "discard": "unmap"})
    node = {"node-name": f"{name}-format", "read-only": read_only, "driver": "raw"}
    arguments.json("blockdev", {**node, "file": f"{name}-storage"})
    return f"{name}-format"


def _choose(root: etree._Element, folders: tuple[str, ...]) -> None:
    for folder in folders:
        for code, variables in _PAIRS:
            if (Path(folder) / code).is_file() and (Path(folder) / variables).is_file():
                _set_loader(root, str(Path(folder) / code), str(Path(folder) / variables))
                return
    raise ConfigUnsupported(
        "the domain asks for UEFI firmware, and none is installed: install the package ovmf, or"
        " name the files in <loader> and <nvram>"
    )


def _set_loader(root: etree._Element, code: str, template: str) -> None:
    system = root.find("os")
    after = root.find("os/type")
    if system is None or after is None:
        return
    loader = etree.Element("loader", readonly="yes", type="pflash")
    loader.text = code
    after.addnext(loader)
    nvram = system.find("nvram")
    if nvram is None:
        nvram = etree.Element("nvram")
        loader.addnext(nvram)
    nvram.set("template", nvram.get("template") or template)


def _set_nvram(root: etree._Element, path: Path, template: str | None) -> None:
    nvram = root.find("os/nvram")
    if nvram is None:
        loader = root.find("os/loader")
        nvram = etree.Element("nvram")
        if loader is not None:
            loader.addnext(nvram)
    if template is not None:
        nvram.set("template", template)
    nvram.text = child_text(root, "os/nvram") or str(path)


def _template_of(loader: str) -> str | None:
    """The template that is installed beside a well-known loader."""
    code = Path(loader)
    for name, variables in _PAIRS:
        if code.name == name and code.with_name(variables).is_file():
            return str(code.with_name(variables))
    return None
