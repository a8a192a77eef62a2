"""The control commands for time, for the pretended release and for how far a job comes."""

from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest
import trio

from virtbackupd.drivers.clock import Clock, settled
from virtbackupd.drivers.definitions.domain import DomainDefinition
from virtbackupd.drivers.enums import DomainState, JobType
from virtbackupd.drivers.errors import DriverError, InvalidArgument, OperationInvalid
from virtbackupd.drivers.memory.control import Target, call
from virtbackupd.drivers.memory.control_clock import COMMANDS
from virtbackupd.drivers.memory.define import adopt
from virtbackupd.drivers.memory.domain import MemoryDomain
from virtbackupd.drivers.memory.host import Host
from virtbackupd.drivers.memory.image import Image
from virtbackupd.drivers.profiles import PROFILES

MIB = 1 << 20
COMPLETED = 1
NOON = 1_769_860_800.0
DISK = """<disk type='file'><driver type='qcow2'/><source file='/i/{0}'/><target dev='{0}'/>
</disk>"""
XML = f"""<domain type='test'><name>d</name><memory>1024</memory><os><type>hvm</type></os>
<devices>{DISK.format("vda")}{DISK.format("vdb")}</devices></domain>"""


@pytest.fixture
async def host(nursery: trio.Nursery) -> Host:
    host = Host(nursery, clock=Clock(NOON), profile=PROFILES["9.0"])
    for name in ("vda", "vdb"):
        image = Image(4 * MIB, path=f"/i/{name}")
        image.fill_pattern(1, 0, 4 * MIB)
        host.images.add(image)
    return host


@pytest.fixture
async def domain(host: Host) -> MemoryDomain:
    return adopt(host, DomainDefinition.parse(XML), DomainState.RUNNING)


async def run(host: Host, name: str, domain: MemoryDomain | None = None, **given: Any) -> Any:  # noqa: ANN401 - as JSON says it
    answer = call(COMMANDS, Target(host, domain), name, given)
    return await answer if isinstance(answer, Awaitable) else answer


async def push(domain: MemoryDomain, folder: Path, *disks: str) -> None:
    chosen = "".join(
        f"<disk name='{disk}' type='file'><target file='{folder / disk}'/></disk>" for disk in disks
    )
    await domain.backup_begin(f"<domainbackup><disks>{chosen}</disks></domainbackup>", None, 0)
    await settled(domain.clock)


async def test_the_clock_is_shown(host: Host) -> None:
    host.nursery.start_soon(host.clock.sleep, 5, "tea")
    await settled(host.clock)
    assert await run(host, "clock") == {
        "mode": "stopped",
        "time": NOON,
        "utc": "2026-01-31T12:00:00.000+00:00",
        "waiting": [{"what": "tea", "seconds": 5}],
    }


async def test_step(host: Host) -> None:
    host.nursery.start_soon(host.clock.sleep, 5, "tea")
    answer = await run(host, "clock-step", seconds=5.5)
    assert (answer["woken"], answer["time"], answer["waiting"]) == (1, NOON + 5.5, [])


async def test_next(host: Host) -> None:
    host.nursery.start_soon(host.clock.sleep, 5, "tea")
    answer = await run(host, "clock-next")
    assert (answer["seconds"], answer["time"]) == (5, NOON + 5)


async def test_start_and_stop(host: Host) -> None:
    assert (await run(host, "clock-start"))["mode"] == "running"
    assert (await run(host, "clock-stop"))["mode"] == "stopped"


@pytest.mark.parametrize("time", [NOON + 60, str(NOON + 60), "2026-01-31T12:01:00Z"])
async def test_set(host: Host, time: object) -> None:
    assert (await run(host, "clock-set", time=time))["time"] == NOON + 60


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("clock-step", {}),
        ("clock-step", {"seconds": -1}),
        ("clock-step", {"seconds": "1"}),
        ("clock-set", {"time": "noon"}),
        ("clock-set", {"time": -1}),
        ("clock-stop", {"now": True}),
    ],
)
async def test_wrong_arguments(host: Host, name: str, given: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        await run(host, name, **given)


async def test_the_profile_is_shown(host: Host) -> None:
    assert await run(host, "profile") == {"name": "9.0", "libvirt": "9.0.0", "qemu": "7.2.0"}


async def test_progress_of_the_next_push(host: Host, domain: MemoryDomain, tmp_path: Path) -> None:
    await run(host, "job-progress", domain, percent=25)
    await push(domain, tmp_path, "vda", "vdb")
    assert domain.get_job_info().file_processed == 2 * MIB


async def test_progress_of_one_disk_of_the_next_push(
    host: Host, domain: MemoryDomain, tmp_path: Path
) -> None:
    await run(host, "job-progress", domain, disk="vdb", processed=MIB)
    await push(domain, tmp_path, "vda", "vdb")
    assert domain.get_block_job_info("vda", 0).type == 0
    assert domain.get_block_job_info("vdb", 0).cur == MIB


async def test_progress_holds_for_one_push_only(
    host: Host, domain: MemoryDomain, tmp_path: Path
) -> None:
    await run(host, "job-progress", domain, percent=25)
    await push(domain, tmp_path, "vda")
    await run(host, "job-complete", domain)
    await push(domain, tmp_path, "vdb")
    assert domain.get_job_stats(COMPLETED).type == JobType.COMPLETED


async def test_progress_goes_on_step_by_step(
    host: Host, domain: MemoryDomain, tmp_path: Path
) -> None:
    await run(host, "job-progress", domain, percent=0)
    await push(domain, tmp_path, "vda")
    for percent in (10, 50, 50, 100):
        answer = await run(host, "job-progress", domain, percent=percent)
        expected = {"state": "running", "processed": 4 * MIB * percent // 100, "total": 4 * MIB}
        assert answer == {"running": True, "disks": {"vda": expected}}


async def test_progress_does_not_go_back(host: Host, domain: MemoryDomain, tmp_path: Path) -> None:
    await run(host, "job-progress", domain, percent=50)
    await push(domain, tmp_path, "vda")
    with pytest.raises(InvalidArgument, match="already"):
        await run(host, "job-progress", domain, percent=49)


async def test_complete(host: Host, domain: MemoryDomain, tmp_path: Path) -> None:
    await run(host, "job-progress", domain, percent=50)
    await push(domain, tmp_path, "vda")
    assert await run(host, "job-complete", domain) == {"running": False, "disks": {}}
    assert domain.get_job_stats(COMPLETED).type == JobType.COMPLETED


async def test_fail(host: Host, domain: MemoryDomain, tmp_path: Path) -> None:
    await run(host, "job-progress", domain, percent=50)
    await push(domain, tmp_path, "vda", "vdb")
    await run(host, "job-fail", domain, disk="vdb", error="No space left on device")
    stats = domain.get_job_stats(COMPLETED)
    assert stats.type == JobType.FAILED
    assert "No space left on device" in [param.value for param in stats.params]


async def test_a_pull_fails_too(host: Host, domain: MemoryDomain, tmp_path: Path) -> None:
    scratch = f"<disk name='vda' type='file'><scratch file='{tmp_path}/s'/></disk>"
    server = f"<server transport='unix' socket='{tmp_path}/n'/>"
    xml = f"<domainbackup mode='pull'>{server}<disks>{scratch}</disks></domainbackup>"
    await domain.backup_begin(xml, None, 0)
    await run(host, "job-fail", domain, disk="vda")
    assert domain.get_job_stats(COMPLETED).type == JobType.FAILED


async def test_a_pull_has_no_progress_to_arrange(
    host: Host, domain: MemoryDomain, tmp_path: Path
) -> None:
    scratch = f"<disk name='vda' type='file'><scratch file='{tmp_path}/s'/></disk>"
    server = f"<server transport='unix' socket='{tmp_path}/n'/>"
    xml = f"<domainbackup mode='pull'>{server}<disks>{scratch}</disks></domainbackup>"
    await domain.backup_begin(xml, None, 0)
    with pytest.raises(OperationInvalid, match="pull"):
        await run(host, "job-complete", domain)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("job-progress", {}),
        ("job-progress", {"percent": 1, "processed": 1}),
        ("job-progress", {"percent": 101}),
        ("job-progress", {"percent": 1, "disk": "vdz"}),
        ("job-complete", {}),
        ("job-fail", {"disk": "vda"}),
        ("job-fail", {"disk": "vda", "error": ""}),
    ],
)
async def test_wrong_orders(
    host: Host, domain: MemoryDomain, name: str, given: dict[str, Any]
) -> None:
    with pytest.raises(DriverError):
        await run(host, name, domain, **given)


async def test_a_disk_that_is_not_backed_up_does_not_fail(
    host: Host, domain: MemoryDomain, tmp_path: Path
) -> None:
    await run(host, "job-progress", domain, percent=50)
    await push(domain, tmp_path, "vda")
    with pytest.raises(InvalidArgument, match="running are: vda"):
        await run(host, "job-fail", domain, disk="vdb")
