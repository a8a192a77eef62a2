"""A running domain of the real in-memory hypervisor, for tests of its guest-side parts."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from virtbackupd.drivers.definitions.domain import DomainDefinition
from virtbackupd.drivers.enums import DomainState
from virtbackupd.drivers.events import Event
from virtbackupd.drivers.memory.define import adopt
from virtbackupd.drivers.memory.domain import MemoryDomain
from virtbackupd.drivers.memory.host import Host
from virtbackupd.drivers.memory.image import Image

MIB = 1024 * 1024
AGENT = """
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"""
GUEST_XML = """
<domain type='test'>
  <name>guest</name>
  <uuid>6695eb01-f6a4-8304-79aa-97f2502e193f</uuid>
  <memory unit='MiB'>512</memory>
  <vcpu>2</vcpu>
  <os><type arch='x86_64'>hvm</type></os>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/>
      <source file='/images/vda.qcow2'/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/>
      <source file='/images/vdb.raw'/>
      <target dev='vdb' bus='virtio'/>
      <readonly/>
    </disk>
    <disk type='file' device='cdrom'><target dev='sda' bus='sata'/></disk>
    <interface type='network'>
      <mac address='52:54:00:00:00:01'/><source network='default'/><target dev='vnet0'/>
    </interface>
    <serial type='pty'/><serial type='tcp'/><console type='pty'/>AGENT
  </devices>
</domain>"""


@pytest.fixture
async def host(nursery: trio.Nursery, tmp_path: Path) -> Host:
    host = Host(nursery, image_dir=tmp_path / "image-folder")
    host.images.add(Image(4 * MIB, path="/images/vda.qcow2"))
    host.images.add(Image(MIB, path="/images/vdb.raw", format="raw"))
    return host


@pytest.fixture
async def guest(host: Host) -> MemoryDomain:
    """Two disks, vdb read-only, an empty drive, an agent, a console."""
    definition = DomainDefinition.parse(GUEST_XML.replace("AGENT", AGENT))
    return adopt(host, definition, DomainState.RUNNING)


@pytest.fixture
def image(guest: MemoryDomain) -> Image:
    """The medium of vda."""
    image = guest.disk_image("vda")
    assert image is not None
    return image


@pytest.fixture
async def mute_guest(host: Host) -> MemoryDomain:
    """The same without an agent."""
    definition = DomainDefinition.parse(GUEST_XML.replace("AGENT", ""))
    return adopt(host, definition, DomainState.RUNNING)


@pytest.fixture
async def events(host: Host) -> AsyncIterator[list[Event]]:
    """What the host publishes during the test."""
    seen: list[Event] = []
    with host.events.subscribed(seen.append):
        yield seen
