"""Block commit, active and not: the disk's contents, its chain, and the checkpoints' bitmaps."""

import subprocess
from collections.abc import Awaitable, Callable

import pytest
import trio
from waiting import until

from virtbackupd.drivers.enums import BlockJobStatus, BlockJobType
from virtbackupd.drivers.errors import InvalidArgument, OperationFailed, OperationUnsupported
from virtbackupd.drivers.events import DomainBlockJob, Event
from virtbackupd.drivers.qemu import commit
from virtbackupd.drivers.qemu.bitmaps import query_images
from virtbackupd.drivers.qemu.domain import QemuDomain
from virtbackupd.drivers.qemu.driver import QemuDriver

QemuIo = Callable[[str, str], Awaitable[None]]
SIZE = 4
ACTIVE, SHALLOW, PIVOT = 4, 1, 2
CHECKPOINT = "<domaincheckpoint><name>c1</name><disks><disk name='vda'/></disks></domaincheckpoint>"


def make_overlay(path: str, name: str) -> str:
    """An image on top of another, with the bitmap that a snapshot would give it."""
    overlay = f"{path}.{name}"
    create = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", path, overlay]
    subprocess.run(create, check=True)
    subprocess.run(["qemu-img", "bitmap", "--add", overlay, "c1"], check=True)
    return overlay


@pytest.fixture
async def layered(guest: QemuDomain, qemu_io: QemuIo, qemu: QemuDriver) -> QemuDomain:
    """Three images with 64 KiB written to each since the checkpoint c1, which began in the base."""
    base = guest.definition.disks[0].source or ""
    await guest.checkpoint_create_xml(CHECKPOINT, 0)
    await qemu_io("vda", "write -P 1 0 64k")
    await guest.destroy()
    middle = make_overlay(base, "mid")
    await use(qemu, guest, base, middle)
    await qemu_io("vda", "write -P 2 1M 64k")
    await guest.destroy()
    await use(qemu, guest, middle, make_overlay(middle, "top"))
    await qemu_io("vda", "write -P 3 2M 64k")
    return guest


async def use(qemu: QemuDriver, guest: QemuDomain, old: str, new: str) -> None:
    await qemu.domain_define_xml(guest.get_xml_desc(0).replace(f"'{old}'", f"'{new}'"))
    await guest.create()


async def ready(guest: QemuDomain) -> None:
    """Wait until an active commit has copied all."""
    found = guest.commits["vda"]
    await until(lambda: found.ready)


async def committed(guest: QemuDomain) -> None:
    with trio.fail_after(60):
        await guest.commits["vda"].over.wait()


async def size(guest: QemuDomain) -> str:
    return await guest.checkpoint_get_xml_desc("c1", SIZE)


async def test_the_chain_counts_as_one(layered: QemuDomain) -> None:
    assert "size='196608'" in await size(layered)


async def test_an_active_commit_pivots_with_its_bitmaps(
    layered: QemuDomain, qemu_io: QemuIo
) -> None:
    await layered.block_commit("vda", None, None, 0, ACTIVE)
    await ready(layered)
    await qemu_io("vda", "write -P 4 4M 64k")
    await layered.block_job_abort("vda", PIVOT)
    assert len(layered.nodes.disks["vda"].layers) == 1
    assert "size='262144'" in await size(layered)
    for pattern, place in ((1, "0"), (2, "1M"), (3, "2M"), (4, "4M")):
        await qemu_io("vda", f"read -P {pattern} {place} 64k")


async def test_nothing_remains_of_a_pivot(layered: QemuDomain) -> None:
    await layered.block_commit("vda", None, None, 0, ACTIVE)
    await ready(layered)
    await layered.block_job_abort("vda", PIVOT)
    images = await query_images(layered.monitor)
    disks = layered.nodes.disks
    assert [bitmap.name for bitmap in images.all(disks["vda"].node or "")] == ["c1"]
    expected = {name for disk in disks.values() for name in disk.node_names()}
    assert set(images.names()) == expected


async def test_definitions_name_the_image_below(layered: QemuDomain) -> None:
    base = layered.nodes.disks["vda"].layers[-1].image.path
    await layered.block_commit("vda", None, None, 0, ACTIVE)
    await ready(layered)
    await layered.block_job_abort("vda", PIVOT)
    found = [
        layered.definition.find_disk("vda"),
        (layered.persistent or layered.definition).disks[0],
    ]
    assert [disk.source if disk else None for disk in found] == [base, base]


async def test_a_shallow_commit_goes_one_down(layered: QemuDomain) -> None:
    await layered.block_commit("vda", None, None, 0, ACTIVE | SHALLOW)
    await ready(layered)
    await layered.block_job_abort("vda", PIVOT)
    assert len(layered.nodes.disks["vda"].layers) == 2
    assert "size='196608'" in await size(layered)


async def test_a_cancelled_commit_changes_nothing(layered: QemuDomain) -> None:
    events: list[Event] = []
    await layered.block_commit("vda", None, None, 0, ACTIVE)
    await ready(layered)
    with layered.events.subscribed(events.append):
        await layered.block_job_abort("vda", 0)
    assert len(layered.nodes.disks["vda"].layers) == 3
    ended = [event for event in events if isinstance(event, DomainBlockJob)]
    assert [(event.type, event.status) for event in ended] == [
        (BlockJobType.ACTIVE_COMMIT, BlockJobStatus.CANCELED)
    ]


async def test_the_job_is_there_until_its_end_is_told(layered: QemuDomain) -> None:
    seen: list[object] = []

    def look(event: Event) -> None:
        if isinstance(event, DomainBlockJob):
            seen.append((event.status, "vda" in layered.commits))

    await layered.block_commit("vda", None, None, 0, ACTIVE)
    await ready(layered)
    saved = layered.save_status

    async def save() -> None:
        seen.append("vda" in layered.commits)
        await saved()

    with layered.events.subscribed(look), pytest.MonkeyPatch.context() as patch:
        patch.setattr(layered, "save_status", save)
        await layered.block_job_abort("vda", 0)
    assert seen == [True, (BlockJobStatus.CANCELED, False)]


async def test_a_pivot_that_fails_is_no_success(
    layered: QemuDomain, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(*_: object) -> None:
        raise OperationFailed("no room")

    await layered.block_commit("vda", None, None, 0, ACTIVE)
    await ready(layered)
    monkeypatch.setattr(commit, "_merge_bitmaps", lost)
    with pytest.raises(OperationFailed, match="failed while pivoting: no room"):
        await layered.block_job_abort("vda", PIVOT)


async def test_a_commit_below_ends_by_itself(layered: QemuDomain, qemu_io: QemuIo) -> None:
    middle = layered.nodes.disks["vda"].layers[1]
    await layered.block_commit("vda", None, middle.image.path, 0, 0)
    if "vda" in layered.commits:
        await committed(layered)
    assert len(layered.nodes.disks["vda"].layers) == 2
    assert "size='196608'" in await size(layered)
    await qemu_io("vda", "read -P 2 1M 64k")


async def test_the_active_image_needs_its_flag(layered: QemuDomain) -> None:
    with pytest.raises(InvalidArgument, match="ACTIVE"):
        await layered.block_commit("vda", None, None, 0, 0)


async def test_an_image_that_is_not_below(layered: QemuDomain) -> None:
    with pytest.raises(InvalidArgument):
        await layered.block_commit("vda", "/elsewhere", None, 0, ACTIVE)


async def test_one_job_a_disk(layered: QemuDomain) -> None:
    await layered.block_commit("vda", None, None, 0, ACTIVE)
    with pytest.raises(OperationUnsupported, match="already"):
        await layered.block_commit("vda", None, None, 0, ACTIVE)


async def test_the_end_of_the_domain_ends_a_commit(layered: QemuDomain) -> None:
    await layered.block_commit("vda", None, None, 0, ACTIVE)
    found = layered.commits["vda"]
    await layered.destroy()
    with trio.fail_after(60):
        await found.over.wait()
    assert layered.commits == {}
