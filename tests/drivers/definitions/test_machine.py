"""The views on firmware, boot, features, processor and clock."""

import pytest
from lxml import etree

from virtbackupd.drivers.definitions.machine import (
    CpuFeature,
    CpuTopology,
    MachineDefinition,
    TimerDefinition,
    read_machine,
)
from virtbackupd.drivers.errors import XmlError


def machine(text: str) -> MachineDefinition:
    return read_machine(
        etree.fromstring(
            f"<domain xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>{text}</domain>"
        )
    )


def test_an_empty_document_has_defaults() -> None:
    found = machine("")
    assert (found.cpu, found.clock.offset, found.iothreads) == (None, "utc", 0)
    assert found.boot.devices == ()
    assert not found.boot.needs_files


def test_boot_devices_are_in_order() -> None:
    found = machine("<os><boot dev='cdrom'/><boot dev='hd'/><bootmenu enable='yes'/></os>")
    assert found.boot.devices == ("cdrom", "hd")
    assert found.boot.menu is True


def test_firmware_is_read() -> None:
    loader = "<loader readonly='yes' type='pflash' secure='no'>/c</loader>"
    found = machine(f"<os>{loader}<nvram template='/t'>/v</nvram></os>").boot
    assert (found.loader, found.loader_type, found.nvram, found.nvram_template) == (
        *("/c", "pflash"),
        *("/v", "/t"),
    )
    assert found.needs_files


@pytest.mark.parametrize(("text", "expected"), [("-1", -1), ("500", 500)])
def test_a_reboot_timeout_may_be_endless(text: str, expected: int) -> None:
    assert machine(f"<os><bios rebootTimeout='{text}'/></os>").boot.reboot_timeout == expected


def test_a_feature_is_on_unless_it_says_otherwise() -> None:
    found = machine("<features><acpi/><vmport state='off'/></features>")
    assert found.features == {"acpi": "on", "vmport": "off"}


def test_enlightenments_are_read() -> None:
    found = machine(
        "<features><hyperv><spinlocks state='on' retries='4096'/></hyperv>"
        "<kvm><hidden state='on'/></kvm></features>"
    )
    assert (found.hyperv, found.hyperv_retries, found.hidden) == ({"spinlocks": "on"}, 4096, True)


def test_a_processor_is_read() -> None:
    found = machine(
        "<cpu mode='custom'><model>Nehalem</model><topology sockets='1' cores='2' threads='2'/>"
        "<feature policy='disable' name='vme'/></cpu>"
    ).cpu
    assert found is not None
    assert found.topology == CpuTopology(1, 1, 2, 2)
    assert found.features == (CpuFeature("vme", "disable"),)


@pytest.mark.parametrize(("text", "seconds"), [("-60", -60), ("+5", 5), ("reset", 0), ("7", 7)])
def test_a_clock_can_be_off(text: str, seconds: int) -> None:
    assert machine(f"<clock offset='variable' adjustment='{text}'/>").clock.adjustment == seconds


def test_timers_are_read() -> None:
    timer = "<timer name='hpet' present='no'/>"
    found = machine(f"<clock>{timer}</clock>").clock.timers
    assert found == (TimerDefinition("hpet", None, None, present=False),)


def test_qemus_own_arguments_are_read() -> None:
    found = machine(
        "<qemu:commandline><qemu:arg value='-x'/><qemu:env name='A' value='B'/></qemu:commandline>"
    ).qemu
    assert (found.arguments, found.environment) == (("-x",), (("A", "B"),))


@pytest.mark.parametrize(
    "text",
    [
        "<iothreads>x</iothreads>",
        "<cpu><topology cores='-1'/></cpu>",
        "<clock adjustment='soon'/>",
        "<os><bios rebootTimeout='70000'/></os>",
    ],
)
def test_a_number_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(XmlError):
        machine(text)
