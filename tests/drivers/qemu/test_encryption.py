"""Scratch images and targets under LUKS, with libvirt secrets; labels of what is created."""

import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from virtbackupd.drivers.errors import ConfigUnsupported, NoSecret
from virtbackupd.drivers.qemu.domain import QemuDomain
from virtbackupd.drivers.qemu.driver import QemuDriver

QemuIo = Callable[[str, str], Awaitable[None]]
UUID = "0a81f5b2-8403-7b23-c8d6-21ccc2f80d6f"
SECRET = f"<secret ephemeral='yes' private='yes'><uuid>{UUID}</uuid></secret>"
LUKS = f"<encryption format='luks'><secret type='passphrase' uuid='{UUID}'/></encryption>"


@pytest.fixture
async def keyed(guest: QemuDomain, qemu: QemuDriver) -> QemuDomain:
    """A guest beside which there is a passphrase."""
    ref = await qemu.secret_define_xml(SECRET, 0)
    await qemu.secret_set_value(ref.uuid, b"open sesame", 0)
    return guest


def push(target: Path, kind: str, inside: str = LUKS) -> str:
    return (
        f"<domainbackup><disks><disk name='vda' type='file'><target file='{target}'>{inside}"
        f"</target><driver type='{kind}'/></disk></disks></domainbackup>"
    )


def pull(folder: Path, inside: str) -> str:
    return (
        f"<domainbackup mode='pull'><server transport='unix' socket='{folder}/nbd.sock'/>"
        f"<disks><disk name='vda' type='file'><scratch file='{folder}/scratch'>{inside}</scratch>"
        "</disk></disks></domainbackup>"
    )


async def end(guest: QemuDomain) -> None:
    if guest.backup is not None:
        await guest.backup.over.wait()


@pytest.mark.parametrize(("kind", "key"), [("qcow2", "encrypt.key-secret"), ("raw", "key-secret")])
async def test_a_target_is_encrypted(
    keyed: QemuDomain, qemu_io: QemuIo, tmp_path: Path, kind: str, key: str
) -> None:
    await qemu_io("vda", "write -P 7 0 64k")
    await keyed.backup_begin(push(tmp_path / "copy", kind), None, 0)
    await end(keyed)
    objects = await keyed.monitor.execute("qom-list", {"path": "/objects"})
    assert not any("secret" in found["type"] for found in objects)
    driver = "qcow2" if kind == "qcow2" else "luks"
    options = f"driver={driver},{key}=s,file.filename={tmp_path}/copy"
    command = ["qemu-io", "--object", "secret,id=s,data=open sesame", "-c", "read -P 7 0 64k"]
    done = await trio.run_process([*command, "--image-opts", options], capture_stdout=True)
    assert b"failed" not in done.stdout
    assert b"\7" * 64 not in (tmp_path / "copy").read_bytes()


async def test_a_secret_is_found_by_its_usage(
    guest: QemuDomain, qemu: QemuDriver, tmp_path: Path
) -> None:
    usage = "<usage type='volume'><volume>/the/copy</volume></usage>"
    ref = await qemu.secret_define_xml(SECRET.replace("</secret>", f"{usage}</secret>"), 0)
    await qemu.secret_set_value(ref.uuid, b"open sesame", 0)
    luks = LUKS.replace(f"uuid='{UUID}'", "usage='/the/copy'")
    await guest.backup_begin(push(tmp_path / "copy", "raw", luks), None, 0)
    await end(guest)
    assert (tmp_path / "copy").read_bytes().startswith(b"LUKS")


async def test_a_secret_without_a_value(guest: QemuDomain, tmp_path: Path) -> None:
    with pytest.raises(NoSecret):
        await guest.backup_begin(push(tmp_path / "copy", "qcow2"), None, 0)
    assert not (tmp_path / "copy").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
async def test_a_label_names_the_owner(guest: QemuDomain, state_dir: Path) -> None:
    label = "<seclabel model='dac' relabel='yes'><label>+65534:+65533</label></seclabel>"
    await guest.backup_begin(pull(state_dir, label), None, 0)
    status = (state_dir / "scratch").stat()
    assert (status.st_uid, status.st_gid) == (65534, 65533)


async def test_a_label_of_another_form(guest: QemuDomain, state_dir: Path) -> None:
    label = "<seclabel model='dac' relabel='yes'><label>nobody</label></seclabel>"
    with pytest.raises(ConfigUnsupported, match="user:group"):
        await guest.backup_begin(pull(state_dir, label), None, 0)
