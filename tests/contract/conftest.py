"""The drivers that are held to the contract, each opened anew for every test.

The memory driver brings its machine; QEMU is given one of the same shape, which runs a program of
forty bytes instead of an operating system.
"""

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trio
from contract import Subject, ask
from documents import EMPTY_CDROM, disk_element, domain_xml
from small_guest import POWER_BUTTON_ASKED, make_disks, obeys

from virtbackupd.drivers import DriverOptions, load_driver
from virtbackupd.drivers.interface import Driver

DRIVERS = ("memory", "qemu")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a path short enough for Unix sockets (108 bytes)."""
    with tempfile.TemporaryDirectory(prefix="vb-") as path:
        yield Path(path)


@pytest.fixture(params=DRIVERS)
async def subject(request: pytest.FixtureRequest, folder: Path) -> AsyncIterator[Subject]:
    """The domain `test` of a fresh driver."""
    name: str = request.param
    async with load_driver(name)(DriverOptions(folder)) as driver:
        if name == "qemu":
            await _start_machine(driver, folder)
        ref = await ask(driver.domain_lookup_by_name("test"))
        subject = Subject(driver, driver.domain_by_uuid(ref.uuid), folder)
        if name == "qemu":
            subject.until_booted = lambda: _booted(subject)
        try:
            with driver.events.subscribed(subject.hear):
                yield subject
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 60):
                await _stop_all(driver)


async def _start_machine(driver: Driver, folder: Path) -> None:
    vda, vdb = await trio.to_thread.run_sync(make_disks, folder)
    devices = disk_element("vda", vda) + disk_element("vdb", vdb) + EMPTY_CDROM
    ref = await ask(driver.domain_define_xml(domain_xml("test", devices, machine="q35")))
    await ask(driver.domain_by_uuid(ref.uuid).create())


async def _booted(subject: Subject) -> None:
    while not obeys(await subject.monitor(POWER_BUTTON_ASKED)):  # noqa: ASYNC110 - QEMU tells nobody
        await trio.sleep(0.01)


async def _stop_all(driver: Driver) -> None:
    """QEMU's machines outlive their driver."""
    for ref in await ask(driver.list_all_domains(0)):
        domain = driver.domain_by_uuid(ref.uuid)
        if await ask(domain.is_active()):
            await ask(domain.destroy())
