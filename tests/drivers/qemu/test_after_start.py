"""What a running QEMU is told, and what of it the live definition shows."""

import re
from collections.abc import Awaitable, Callable

import pytest
from machines import domain

from virtbackupd.drivers.definitions.domain import DomainDefinition
from virtbackupd.drivers.definitions.hardware import read_hardware
from virtbackupd.drivers.errors import XmlError
from virtbackupd.drivers.qemu.after_start import start_commands
from virtbackupd.drivers.qemu.domain import QemuDomain
from virtbackupd.drivers.qemu.driver import QemuDriver

Started = Callable[[str], Awaitable[QemuDomain]]


@pytest.fixture
def started(qemu: QemuDriver) -> Started:
    async def start(xml: str) -> QemuDomain:
        ref = await qemu.domain_define_xml(xml)
        found = qemu.domain_by_uuid(ref.uuid)
        await found.create_with_flags(1)
        return found

    return start


def commands(devices: str) -> list[str]:
    definition = DomainDefinition.parse(domain(devices))
    return [name for name, _ in start_commands(definition, definition.view(read_hardware))]


async def test_the_port_that_was_free_is_shown(started: Started) -> None:
    found = await started(domain("<graphics type='vnc'/>"))
    assert re.search(r"<graphics type='vnc' port='59\d\d'", found.get_xml_desc(0))
    assert "port='-1'" in found.get_xml_desc(2)


async def test_a_password_is_set(started: Started) -> None:
    graphics = "<graphics type='vnc' passwd='x' passwdValidTo='2090-01-01T00:00:00'/>"
    found = await started(domain(graphics))
    assert (await found.monitor.execute("query-vnc"))["auth"] == "vnc"


def test_a_cable_can_be_pulled_from_the_start() -> None:
    assert commands("<interface type='user'><link state='down'/></interface>") == ["set_link"]


async def test_qemu_takes_the_command(started: Started) -> None:
    found = await started(domain("<interface type='user'><link state='down'/></interface>"))
    assert found.active


async def test_the_balloon_is_asked_for_its_figures(started: Started) -> None:
    found = await started(domain("<memballoon model='virtio'><stats period='7'/></memballoon>"))
    path = {"path": "/machine/peripheral/balloon0", "property": "guest-stats-polling-interval"}
    assert await found.monitor.execute("qom-get", path) == 7


async def test_the_images_are_shown_with_their_numbers(
    started: Started, make_image: Callable[..., str]
) -> None:
    base = make_image("base.qcow2")
    top = make_image("top.qcow2", "-b", base, "-F", "qcow2")
    driver = "<driver type='qcow2'/>"
    found = await started(domain(f"<disk>{driver}<source file='{top}'/><target dev='vda'/></disk>"))
    text = found.get_xml_desc(0)
    assert f"<source file='{top}' index='1'/>" in text
    assert "<backingStore type='file' index='2'>" in text
    assert "<backingStore/>" in text
    assert "<backingStore" not in found.get_xml_desc(2)


async def test_the_agents_socket_is_shown(started: Started) -> None:
    channel = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
    text = (await started(domain(channel))).get_xml_desc(0)
    assert re.search(r"<source mode='bind' path='/.*qga.sock'/>", text)


def test_nothing_is_asked_without_need() -> None:
    assert commands("<interface type='user'/><graphics type='vnc'/>") == []


def test_a_password_without_an_end_is_one_command() -> None:
    assert commands("<graphics type='vnc' passwd='x'/>") == ["set_password"]


def test_a_time_that_is_none_is_refused() -> None:
    with pytest.raises(XmlError, match="soon"):
        commands("<graphics type='vnc' passwd='x' passwdValidTo='soon'/>")
