"""What of a running backup is on disk, for the next daemon."""

from collections.abc import Callable
from pathlib import Path

from virtbackupd.drivers.qemu.backup_state import read_backup, write_backup
from virtbackupd.drivers.qemu.driver import QemuDriver

DOMAIN = """<domain type='qemu'><name>m</name><memory unit='MiB'>32</memory>
<os><type machine='q35'>hvm</type></os><devices><disk type='file'>
<driver name='qemu' type='qcow2'/><source file='{path}'/><target dev='vda' bus='virtio'/>
</disk></devices></domain>"""
PULL = (
    """<domainbackup mode='pull'><server transport='unix' socket='{folder}/nbd'/></domainbackup>"""
)


async def test_what_a_disk_ended_with_is_kept(
    qemu: QemuDriver, make_image: Callable[..., str], state_dir: Path
) -> None:
    ref = await qemu.domain_create_xml(DOMAIN.format(path=make_image("a.qcow2")), 0)
    domain = qemu.domain_by_uuid(ref.uuid)
    await domain.backup_begin(PULL.format(folder=state_dir), None, 0)
    job = domain.jobs.job
    assert job is not None
    job.end_disk(job.disks["vda"], "no room")
    element = write_backup(domain)
    domain.jobs.finish(None)
    assert element is not None
    read_backup(domain, element)
    again = domain.jobs.job
    assert again is not None
    assert (again.disks["vda"].error, again.failure) == ("no room", "no room")
