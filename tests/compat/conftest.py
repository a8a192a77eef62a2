"""Fixtures for clients that nobody here wrote: a fresh daemon for each test, and virsh."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import libvirt
import pytest
from binding import connected, monitor_line, wait_until
from daemon_process import Daemon, running_daemon, running_qemu_daemon
from documents import EMPTY_CDROM, disk_element, domain_xml
from small_guest import POWER_BUTTON_ASKED, make_disks, make_image, obeys
from virsh_guest import Guest, run_virsh


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A folder with a path short enough for Unix sockets (108 bytes)."""
    path = Path(tempfile.mkdtemp(prefix="vb-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


MEMORY = ("memory",)
"""The drivers behind the daemons of a module that does not name its own in DRIVERS."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Repeat what needs a daemon for each driver of its module."""
    if "driver_name" in metafunc.fixturenames:
        drivers = getattr(metafunc.module, "DRIVERS", MEMORY)
        only = metafunc.definition.get_closest_marker("only")
        names = [name for name in drivers if only is None or name in only.args]
        metafunc.parametrize("driver_name", names, scope="module")


@pytest.fixture
def daemon(short_dir: Path, driver_name: str) -> Iterator[Daemon]:
    """A daemon with one running domain, `test`: the default world, or its like of QEMU's."""
    with RUNNING[driver_name](short_dir) as running:
        if driver_name == "qemu":
            start_test_machine(running)
        yield running


RUNNING = {"memory": running_daemon, "qemu": running_qemu_daemon}


def start_test_machine(daemon: Daemon) -> None:
    """Start a machine with the disks of the default world."""
    vda, vdb = make_disks(daemon.root)
    devices = disk_element("vda", vda) + disk_element("vdb", vdb) + EMPTY_CDROM
    with connected(daemon.uri) as connection:
        machine = connection.defineXML(domain_xml("test", devices, machine="q35"))
        machine.create()
        wait_until_booted(machine)


def wait_until_booted(machine: libvirt.virDomain) -> None:
    """The guest listens to its power button from now on."""
    wait_until(lambda: obeys(monitor_line(machine, POWER_BUTTON_ASKED)), "the guest boots")


class Virsh(Protocol):
    """Runs one virsh command; fails the test when the exit status is not the expected one."""

    def __call__(self, *arguments: str, status: int = 0) -> str: ...


@pytest.fixture
def virsh(daemon: Daemon) -> Virsh:
    """Stock virsh on the read-write socket."""

    def call(*arguments: str, status: int = 0) -> str:
        return run_virsh(daemon.uri, *arguments, status=status)

    return call


@pytest.fixture
def connection(daemon: Daemon) -> Iterator[libvirt.virConnect]:
    """libvirt-python on the test's own daemon, opened as qemu:///system."""
    with connected(daemon.qemu_uri) as opened:
        yield opened


@pytest.fixture
def domain(connection: libvirt.virConnect) -> libvirt.virDomain:
    """The default world's running domain."""
    return connection.lookupByName("test")


@pytest.fixture(scope="module")
def module_daemon(driver_name: str) -> Iterator[Daemon]:
    """One daemon for all tests of a module that keep to machines of their own."""
    root = Path(tempfile.mkdtemp(prefix="vb-"))
    try:
        with RUNNING[driver_name](root) as running:
            if driver_name == "qemu":
                start_test_machine(running)
            yield running
    finally:
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="module")
def module_connection(module_daemon: Daemon) -> Iterator[libvirt.virConnect]:
    """libvirt-python on the module's daemon, opened as qemu:///system."""
    with connected(module_daemon.qemu_uri) as opened:
        yield opened


@pytest.fixture
def defined(
    module_connection: libvirt.virConnect, short_dir: Path, driver_name: str
) -> Iterator[libvirt.virDomain]:
    """An inactive machine of the test's own: two qcow2 disks, a raw one, an empty CD-ROM."""
    images = {"vda": "a.qcow2", "vdb": "b.qcow2", "vdc": "c.raw"}
    if driver_name == "qemu":
        for name in images.values():
            make_image(short_dir / name)
    disks = [
        disk_element(target, short_dir / name, Path(name).suffix[1:])
        for target, name in images.items()
    ]
    disks.append(EMPTY_CDROM)
    machine = module_connection.defineXML(domain_xml(short_dir.name, "".join(disks)))
    yield machine
    # The test may have ended its machine by itself, or made it transient.
    with suppress(libvirt.libvirtError):
        machine.destroy()
    with suppress(libvirt.libvirtError):
        machine.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA)


@pytest.fixture
def machine(defined: libvirt.virDomain, driver_name: str) -> libvirt.virDomain:
    """The test's own machine, running."""
    defined.create()
    if driver_name == "qemu":
        wait_until_booted(defined)
    return defined


@pytest.fixture(scope="module")
def module_virsh(module_daemon: Daemon) -> Virsh:
    """Stock virsh on the module's daemon."""

    def call(*arguments: str, status: int = 0) -> str:
        return run_virsh(module_daemon.uri, *arguments, status=status)

    return call


@pytest.fixture(scope="module")
def read_only_virsh(module_daemon: Daemon) -> Virsh:
    """Stock virsh on the read-only socket of the module's daemon."""

    def call(*arguments: str, status: int = 0) -> str:
        return run_virsh(module_daemon.read_only_uri, *arguments, status=status)

    return call


@pytest.fixture
def spare(
    module_daemon: Daemon, module_connection: libvirt.virConnect, short_dir: Path
) -> Iterator[Guest]:
    """An inactive domain of the test's own on the module's daemon."""
    guest = Guest(module_daemon.uri, short_dir.name, short_dir)
    if module_daemon.driver == "qemu":
        for name in ("vda.qcow2", "vdb.qcow2"):
            make_image(short_dir / name)
    guest.file(guest.domain_xml, "domain.xml")
    module_connection.defineXML(guest.domain_xml)
    yield guest
    # The test may have ended it, or renamed it.
    with suppress(libvirt.libvirtError):
        module_connection.lookupByName(guest.name).destroy()


@pytest.fixture
def guest(spare: Guest, module_connection: libvirt.virConnect, driver_name: str) -> Guest:
    """A running domain of the test's own on the module's daemon."""
    machine = module_connection.lookupByName(spare.name)
    machine.create()
    if driver_name == "qemu":
        wait_until_booted(machine)
    return spare
