"""Disks run full, files vanish, readers disappear: the job says why, and the domain goes on."""

from collections.abc import Iterator

import libvirt
import pytest
from binding import error_code
from crash_cases import CASES
from crash_look import DISKS
from crash_site import MIB, Site, checkpoint
from nbd_client import NbdClient
from tools import nbd_script, unix_uri

_READ_AND_VANISH = """
import nbd, os, sys
handle = nbd.NBD(); handle.connect_uri(sys.argv[1])
handle.aio_pread(nbd.Buffer(1 << 20), 0)
os._exit(0)
"""


@pytest.fixture
def roomless(site: Site) -> Iterator[Site]:
    """The daemon cannot write any file, until the test is over."""
    pid = site.daemon.process.pid
    site.limit_files(0, pid)
    yield site
    site.limit_files(None, pid)


def test_a_full_target(site: Site) -> None:
    for disk in DISKS:
        site.write(disk, "0 16M")
    site.limit_files(MIB)
    site.machine.backupBegin(site.push_xml(), checkpoint("c1"))
    site.await_end()
    site.limit_files(None)
    stats = site.machine.jobStats(libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED)
    assert stats["type"] == libvirt.VIR_DOMAIN_JOB_FAILED
    assert "File too large" in stats["errmsg"]
    assert not site.written()
    site.check()


def test_a_full_scratch(site: Site) -> None:
    for disk in DISKS:
        site.write(disk, "0 16M")
    CASES["abort-pull"].prepare(site)
    site.limit_files(MIB)
    site.write("vda", "0 4M")
    site.limit_files(None)
    CASES["abort-pull"].act(site)
    site.check()


def test_no_room_for_a_checkpoint(roomless: Site) -> None:
    code = error_code(lambda: roomless.machine.checkpointCreateXML(checkpoint("c1")))
    assert code == libvirt.VIR_ERR_SYSTEM_ERROR
    roomless.check()


def test_no_room_for_a_backup(roomless: Site) -> None:
    code = error_code(lambda: CASES["abort-pull"].prepare(roomless))
    assert code == libvirt.VIR_ERR_SYSTEM_ERROR
    assert not roomless.written()
    roomless.check()


def test_no_room_at_the_end_of_a_backup(site: Site) -> None:
    CASES["abort-pull"].prepare(site)
    site.limit_files(0, site.daemon.process.pid)
    CASES["abort-pull"].act(site)
    site.limit_files(None, site.daemon.process.pid)
    assert not site.busy


def test_a_target_that_vanishes(site: Site) -> None:
    CASES["abort-push"].prepare(site)
    (site.root / "backup-vda").unlink()
    CASES["abort-push"].act(site)
    assert CASES["abort-push"].promise(site)


def test_a_reader_that_vanishes(site: Site) -> None:
    CASES["abort-pull"].prepare(site)
    nbd_script(_READ_AND_VANISH, unix_uri(site.root / "nbd"))
    site.check()
    CASES["abort-pull"].act(site)
    assert CASES["abort-pull"].promise(site)


def test_a_reader_that_is_in_the_midst_does_not_delay_the_end(site: Site) -> None:
    site.write("vda", "0 16M")
    CASES["abort-pull"].prepare(site)
    reader = NbdClient(site.root / "nbd", "vda")
    reader.begin_reading(0, 16 * MIB)
    try:
        CASES["abort-pull"].act(site)
    finally:
        reader.hang_up()
    site.check()
    assert CASES["abort-pull"].promise(site)
