"""What a binary is asked, and the two documents that are made of its answers."""

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from lxml import etree
from machines import EMULATOR, capabilities
from waiting import until

from virtbackupd.drivers.errors import ConfigUnsupported, InvalidArgument
from virtbackupd.drivers.qemu.capabilities import CapabilitiesCache, usable_kvm
from virtbackupd.drivers.qemu.capabilities_documents import (
    capabilities_document,
    domain_capabilities_document,
)
from virtbackupd.drivers.qemu.driver import QemuDriver


def program(folder: Path, text: str) -> str:
    path = folder / "qemu-system-fake"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def domain_document(machine: str | None = None, kind: str | None = None) -> etree._Element:
    text = domain_capabilities_document(capabilities(), None, machine, kind, 0)
    return etree.fromstring(text)


def test_a_binary_tells_its_version_machines_and_devices() -> None:
    found = capabilities()
    assert found.version >= (7, 2, 0)
    assert found.canonical("q35").startswith("pc-q35-")
    assert {"virtio-blk-pci", "scsi-hd"} <= found.devices
    assert found.machine("q35").max_cpus > 1


def test_a_missing_device_is_named() -> None:
    with pytest.raises(ConfigUnsupported, match="no device 'no-such'"):
        capabilities().require_devices("virtio-blk-pci", "no-such")


async def test_a_binary_is_asked_once() -> None:
    cache = CapabilitiesCache()
    assert await cache.get(EMULATOR) is await cache.get(EMULATOR)


async def test_a_changed_binary_is_asked_again(tmp_path: Path) -> None:
    path = program(tmp_path, f'exec {EMULATOR} "$@"')
    cache = CapabilitiesCache()
    first = await cache.get(path)
    os.utime(path, (0, 0))
    assert await cache.get(path) is not first


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("exit 1", "cannot be used"),
        ("echo hello", "does not answer as QEMU"),
        ("echo '{}'", "does not answer qmp_capabilities"),
        ("echo broken >&2; exit 3", "broken"),
    ],
)
async def test_what_is_no_qemu_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(ConfigUnsupported, match=reason):
        await CapabilitiesCache().get(program(tmp_path, text))


async def test_a_binary_that_is_not_waited_for_has_ended(tmp_path: Path) -> None:
    path = program(tmp_path, f"echo $$ > {tmp_path}/pid; exec sleep 60")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(CapabilitiesCache().get, path)
        await until(lambda: (tmp_path / "pid").is_file() and (tmp_path / "pid").read_text())
        nursery.cancel_scope.cancel()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


async def test_a_binary_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigUnsupported, match="/no/such/qemu"):
        await CapabilitiesCache().get("/no/such/qemu")


def test_another_architecture_has_no_kvm() -> None:
    assert not usable_kvm("/usr/bin/qemu-system-sparc")


def test_the_capabilities_name_machines_and_their_aliases() -> None:
    root = etree.fromstring(capabilities_document(capabilities()))
    alias = root.find("guest/arch/machine[@canonical]")
    assert alias is not None
    assert alias.text in ("pc", "q35")
    assert root.findtext("guest/arch/emulator") == EMULATOR


def test_kvm_is_offered_where_it_works() -> None:
    for works, expected in ((False, ["qemu"]), (True, ["qemu", "kvm"])):
        text = capabilities_document(replace(capabilities(), kvm=works))
        kinds = etree.fromstring(text).findall("guest/arch/domain")
        assert [kind.get("type") for kind in kinds] == expected


def test_backups_are_supported() -> None:
    assert domain_document().find("features/backup[@supported='yes']") is not None


def test_the_disk_buses_are_listed() -> None:
    values = domain_document().findall("devices/disk/enum[@name='bus']/value")
    assert {"virtio", "scsi", "sata", "ide", "usb", "fdc"} == {value.text for value in values}


def test_what_is_refused_is_not_offered() -> None:
    root = domain_document()
    graphics = root.findall("devices/graphics/enum[@name='type']/value")
    assert [value.text for value in graphics] == ["vnc"]
    assert root.find("devices/tpm[@supported='no']") is not None


def test_a_machine_can_be_chosen() -> None:
    assert domain_document("q35").findtext("machine") == capabilities().canonical("q35")


@pytest.mark.parametrize(("machine", "kind"), [("none", None), ("virt", None), (None, "xen")])
def test_a_choice_that_cannot_be_is_refused(machine: str | None, kind: str | None) -> None:
    with pytest.raises(InvalidArgument):
        domain_document(machine, kind)


async def test_the_driver_answers_for_the_node(qemu: QemuDriver) -> None:
    assert await qemu.get_version() == capabilities().version_number
    assert "<capabilities>" in await qemu.get_capabilities()
    text = await qemu.get_domain_capabilities(None, None, "q35", "qemu", 0)
    assert "<domain>qemu</domain>" in text
    assert qemu.node_get_info().cpus > 0
    assert await qemu.get_max_vcpus("QEMU") > 1
