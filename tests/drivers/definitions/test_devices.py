"""Interfaces, consoles and the guest agent's channel."""

from lxml import etree

from virtbackupd.drivers.definitions.devices import (
    CharacterDevice,
    InterfaceDefinition,
    has_guest_agent,
    read_character_devices,
    read_interfaces,
)


def devices(inner: str) -> etree._Element:
    return etree.fromstring(f"<devices>{inner}</devices>")


def test_an_interface() -> None:
    text = (
        "<interface type='bridge'><mac address='52:54:00:00:00:01'/><source bridge='br0'/>"
        "<target dev='vnet0'/><model type='virtio'/></interface>"
    )
    expected = InterfaceDefinition("bridge", "52:54:00:00:00:01", "vnet0", "virtio", "br0")
    assert read_interfaces(devices(text)) == (expected,)


def test_an_interface_with_nothing() -> None:
    expected = InterfaceDefinition("user", None, None, None, None)
    assert read_interfaces(devices("<interface/>")) == (expected,)


def test_character_devices_count_up() -> None:
    found = read_character_devices(devices("<serial/><console/><serial type='tcp'/>"), "serial")
    assert found == (
        CharacterDevice("serial", "pty", 0, "serial0"),
        CharacterDevice("serial", "tcp", 1, "serial1"),
    )


def test_port_and_alias_of_a_console() -> None:
    text = "<console type='pty'><target port='3'/><alias name='ua-c'/></console>"
    assert read_character_devices(devices(text), "console") == (
        CharacterDevice("console", "pty", 3, "ua-c"),
    )


def test_a_senseless_port_is_counted() -> None:
    text = "<console><target port='x'/></console>"
    assert read_character_devices(devices(text), "console")[0].port == 0


def test_the_guest_agent_channel() -> None:
    text = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
    assert has_guest_agent(devices(text))


def test_another_channel_is_no_guest_agent() -> None:
    assert not has_guest_agent(devices("<channel><target name='com.redhat.spice.0'/></channel>"))
