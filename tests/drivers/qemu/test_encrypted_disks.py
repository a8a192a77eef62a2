"""Domains whose own disks are encrypted: the passphrase comes from a secret, and stays one."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import trio

from virtbackupd.drivers.enums import JobType
from virtbackupd.drivers.errors import ConfigUnsupported, NoSecret
from virtbackupd.drivers.interface import DriverOptions
from virtbackupd.drivers.qemu import hotplug, open_driver
from virtbackupd.drivers.qemu.domain import QemuDomain
from virtbackupd.drivers.qemu.driver import QemuDriver
from virtbackupd.drivers.qemu.qmp import QmpError

PHRASE = "open sesame"
UUID = "0a81f5b2-8403-7b23-c8d6-21ccc2f80d6f"
SECRET = f"<secret ephemeral='yes' private='yes'><uuid>{UUID}</uuid></secret>"
LUKS = f"<encryption format='luks'><secret type='passphrase' uuid='{UUID}'/></encryption>"
DISK = """<disk type='file'><driver name='qemu' type='{format}'/>
<source file='{path}'>{luks}</source><target dev='{target}' bus='virtio'/></disk>"""
XML = """<domain type='qemu'><name>locked</name><memory unit='MiB'>32</memory>
<os><type machine='q35'>hvm</type></os><devices>{disks}</devices></domain>"""
CREATE = {
    "qcow2": ("-f", "qcow2", "-o", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10"),
    "raw": ("-f", "luks", "-o", "key-secret=s,iter-time=10"),
}
_MEASURING_TRIES = 10
PASSPHRASE = ("--object", f"secret,id=s,data={PHRASE}")


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once, and easily guessed: QEMU takes seconds to measure how fast it can guess."""
    folder = tmp_path_factory.mktemp("locked")
    for kind, options in CREATE.items():
        _create(["qemu-img", "create", "-q", *PASSPHRASE, *options, str(folder / kind), "16M"])
    return folder


def _create(command: list[str]) -> None:
    """On a busy host QEMU may fail to measure the processor, as it says; the product tries again.

    Anything else that goes wrong is raised.
    """
    for _ in range(_MEASURING_TRIES):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if "accurate CPU usage" not in done.stderr:
            break
    assert not done.returncode, done.stderr


@pytest.fixture
def images(templates: Path, state_dir: Path) -> dict[str, Path]:
    found = {kind: state_dir / f"disk.{kind}" for kind in CREATE}
    for kind, path in found.items():
        shutil.copyfile(templates / kind, path)
    return found


def disk(kind: str, path: Path, target: str, luks: str = LUKS) -> str:
    return DISK.format(format=kind, path=path, target=target, luks=luks)


async def enter_secret(driver: QemuDriver, phrase: str = PHRASE) -> None:
    ref = await driver.secret_define_xml(SECRET, 0)
    await driver.secret_set_value(ref.uuid, phrase.encode(), 0)


async def define(driver: QemuDriver, *disks: str) -> QemuDomain:
    ref = await driver.domain_define_xml(XML.format(disks="".join(disks)))
    return driver.domain_by_uuid(ref.uuid)


@pytest.fixture
async def locked(qemu: QemuDriver, images: dict[str, Path]) -> QemuDomain:
    """Runs, with both kinds of encrypted disks."""
    await enter_secret(qemu)
    domain = await define(
        qemu, disk("qcow2", images["qcow2"], "vda"), disk("raw", images["raw"], "vdb")
    )
    await domain.create()
    return domain


def run_as_nobody(state_dir: Path, image: Path) -> None:
    state_dir.chmod(0o711)
    (state_dir / "qemu").mkdir()
    (state_dir / "qemu" / "qemu.toml").write_text("user = 'nobody'\ngroup = 'nogroup'\n")
    shutil.chown(image, "nobody", "nogroup")


async def io(domain: QemuDomain, target: str, command: str) -> None:
    answer = await domain.monitor_command(f'qemu-io {target} "{command}"', 1)
    assert "failed" not in answer
    assert "error" not in answer.lower()


async def secret_objects(domain: QemuDomain) -> set[str]:
    found = await domain.monitor.execute("qom-list", {"path": "/objects"})
    return {each["name"] for each in found if each["type"] == "child<secret>"}


@pytest.mark.parametrize(("target", "kind"), [("vda", "qcow2"), ("vdb", "raw")])
async def test_what_a_guest_writes_is_encrypted(
    locked: QemuDomain, images: dict[str, Path], target: str, kind: str
) -> None:
    await io(locked, target, "write -P 171 0 1M")
    await io(locked, target, "read -P 171 0 1M")
    await locked.destroy()
    assert b"\xab" * 64 not in images[kind].read_bytes()


@pytest.mark.parametrize("target", ["vda", "vdb"])
async def test_a_disk_has_the_size_that_its_guest_sees(locked: QemuDomain, target: str) -> None:
    running = (await locked.get_block_info(target, 0)).capacity
    await locked.destroy()
    stopped = (await locked.get_block_info(target, 0)).capacity
    assert (running, stopped) == (16 << 20, 16 << 20)


async def test_the_passphrase_is_neither_logged_nor_an_argument(
    locked: QemuDomain, state_dir: Path
) -> None:
    assert locked.run is not None
    arguments = await trio.Path(f"/proc/{locked.run.process.pid}/cmdline").read_bytes()
    log = await trio.Path(state_dir / "qemu" / "log" / "locked.log").read_bytes()
    assert b"encryption-secret0" in arguments
    assert b"encryption-secret0" in log
    assert PHRASE.encode() not in arguments + log


async def test_checkpoints_and_increments_work_as_on_any_disk(
    locked: QemuDomain, state_dir: Path
) -> None:
    only = "<disk name='vdb' {word}='no'/>"
    disks = f"<disks><disk name='vda'/>{only.format(word='checkpoint')}</disks>"
    await locked.checkpoint_create_xml(
        f"<domaincheckpoint><name>a</name>{disks}</domaincheckpoint>", 0
    )
    await io(locked, "vda", "write -P 7 1M 64k")
    target = f"<disk name='vda' type='file'><target file='{state_dir}/copy'/></disk>"
    await locked.backup_begin(
        f"<domainbackup><incremental>a</incremental><disks>{target}{only.format(word='backup')}"
        "</disks></domainbackup>", None, 0,
    )  # fmt: skip
    if locked.backup is not None:
        await locked.backup.over.wait()
    stats = await locked.get_job_stats(1)
    assert stats.type == JobType.COMPLETED
    assert ("disk_total", 65536) in [(each.field, each.value) for each in stats.params]


async def test_an_encrypted_disk_comes_and_goes(
    qemu: QemuDriver, images: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hotplug, "PATIENCE", 60)
    await enter_secret(qemu)
    domain = await define(qemu, "<controller type='scsi' model='virtio-scsi'/>")
    await domain.create()
    device = disk("qcow2", images["qcow2"], "sda").replace("virtio", "scsi")
    await domain.attach_device(device)
    await io(domain, "sda", "write -P 1 0 64k")
    assert await secret_objects(domain) == {"libvirt-1-format-encryption-secret0"}
    await domain.detach_device(device)
    assert await secret_objects(domain) == set()


async def test_a_wrong_passphrase_leaves_nothing_behind(
    qemu: QemuDriver, images: dict[str, Path]
) -> None:
    await enter_secret(qemu, "open barley")
    domain = await define(qemu)
    await domain.create()
    with pytest.raises(QmpError, match="Invalid password"):
        await domain.attach_device(disk("qcow2", images["qcow2"], "vda"))
    assert await secret_objects(domain) == set()
    assert await domain.monitor.execute("query-named-block-nodes", {"flat": True}) == []


async def test_a_domain_whose_secret_is_missing_does_not_start(
    qemu: QemuDriver, images: dict[str, Path]
) -> None:
    domain = await define(qemu, disk("qcow2", images["qcow2"], "vda"))
    with pytest.raises(NoSecret, match=UUID):
        await domain.create()
    assert not domain.active


@pytest.mark.parametrize("inside", ["", "<secret type='passphrase'/>"])
async def test_an_encryption_without_a_secret_is_refused(
    qemu: QemuDriver, images: dict[str, Path], inside: str
) -> None:
    luks = f"<encryption format='luks'>{inside}</encryption>"
    with pytest.raises(ConfigUnsupported, match=r"'vda' names no secret"):
        await define(qemu, disk("raw", images["raw"], "vda", luks))


async def test_another_kind_of_encryption_is_refused_by_name(
    qemu: QemuDriver, images: dict[str, Path]
) -> None:
    luks = LUKS.replace("luks", "qcow")
    with pytest.raises(ConfigUnsupported, match=r"format 'qcow' of <encryption>"):
        await define(qemu, disk("qcow2", images["qcow2"], "vda", luks))


async def test_a_snapshot_of_an_encrypted_disk_is_refused(locked: QemuDomain) -> None:
    with pytest.raises(ConfigUnsupported, match="vda is encrypted"):
        await locked.snapshot_create_xml("<domainsnapshot/>", 16)


async def test_a_restarted_daemon_knows_what_is_encrypted(
    state_dir: Path, images: dict[str, Path]
) -> None:
    async with open_driver(DriverOptions(state_dir)) as driver:
        assert isinstance(driver, QemuDriver)
        await enter_secret(driver)
        domain = await define(driver, disk("qcow2", images["qcow2"], "vda"))
        await domain.create()
        before = domain.nodes.disks["vda"]
    async with open_driver(DriverOptions(state_dir)) as driver:
        assert isinstance(driver, QemuDriver)
        domain = driver.domain_by_uuid(domain.ref.uuid)
        assert domain.nodes.disks["vda"] == before
        await domain.destroy()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
async def test_a_qemu_without_privileges_gets_the_passphrase(
    state_dir: Path, images: dict[str, Path]
) -> None:
    run_as_nobody(state_dir, images["qcow2"])
    async with open_driver(DriverOptions(state_dir)) as driver:
        assert isinstance(driver, QemuDriver)
        await enter_secret(driver)
        domain = await define(driver, disk("qcow2", images["qcow2"], "vda"))
        await domain.create()
        await io(domain, "vda", "write -P 1 0 64k")
        await domain.destroy()
