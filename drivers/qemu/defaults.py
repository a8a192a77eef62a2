"""What a domain document leaves out and libvirt writes into it when a domain is defined.

The result is what clients read back: the machine's full name, its processor, what happens at its
end. Devices are for `default_devices`. Doing it again changes nothing.
"""

from typing import Final

from lxml import etree

from virtbackupd.drivers.definitions.domain_defaults import devices_of
from virtbackupd.drivers.definitions.tree import (
    attribute_pairs,
    child_attribute,
    has_child,
    insert_in_order,
)
from virtbackupd.drivers.errors import ConfigUnsupported
from virtbackupd.drivers.qemu.capabilities import QemuCapabilities
from virtbackupd.drivers.qemu.default_devices import complete_devices

DOMAIN_ORDER: Final = (
    *("name", "uuid", "title", "description", "metadata", "memory", "currentMemory"),
    *("memoryBacking", "vcpu", "iothreads", "resource", "os", "features", "cpu", "clock"),
    *("on_poweroff", "on_reboot", "on_crash", "on_lockfailure", "pm", "devices", "seclabel"),
)
_CPU_DEFAULTS: Final[dict[str, dict[str, str]]] = {
    "custom": {"match": "exact", "check": "partial"},
    "host-model": {"check": "partial"},
    "host-passthrough": {"check": "none", "migratable": "on"},
    "maximum": {"check": "none"},
}
_CPU_UNCHOSEN: Final = {"match": "exact", "check": "none"}
_ACTIONS: Final = {"on_poweroff": "destroy", "on_reboot": "restart", "on_crash": "destroy"}


def complete_machine(root: etree._Element, capabilities: QemuCapabilities) -> None:
    """Name the machine and the processor, and add what any machine has."""
    kind = _complete_type(root, capabilities)
    _complete_boot(root)
    _complete_cpu(root, capabilities)
    _child(root, "clock", {"offset": "utc"})
    for tag, action in _ACTIONS.items():
        _child(root, tag).text = root.findtext(tag) or action
    complete_devices(devices_of(root), kind, capabilities.path)


def machine_kind(root: etree._Element) -> str:
    """`q35` or `pc`, by the machine's full name or its alias."""
    name = child_attribute(root, "os/type", "machine") or "pc"
    if name == "q35" or name.startswith("pc-q35"):
        return "q35"
    if name == "pc" or name.startswith("pc-i440fx"):
        return "pc"
    raise ConfigUnsupported(f"machine {name!r} is not supported by this driver: use q35 or pc")


def _complete_type(root: etree._Element, capabilities: QemuCapabilities) -> str:
    kind_element = root.find("os/type")
    if kind_element is None:
        raise ConfigUnsupported("the domain has no <os><type>: add <type>hvm</type>")
    if (kind_element.text or "").strip() != "hvm":
        raise ConfigUnsupported(f"<type> {kind_element.text!r} is not supported: use hvm")
    kind_element.set("arch", kind_element.get("arch") or capabilities.arch)
    kind_element.set("machine", capabilities.canonical(kind_element.get("machine") or "pc"))
    return machine_kind(root)


def _complete_boot(root: etree._Element) -> None:
    system = root.find("os")
    per_device = root.xpath("boolean(devices/*/boot)")
    if system is None or has_child(system, "kernel"):
        return
    named = has_child(system, "boot")
    if named and per_device:
        raise ConfigUnsupported("the boot order is given both in <os> and on devices: use one")
    if not named and not per_device:
        after = system.find("type")
        if after is not None:
            after.addnext(etree.Element("boot", dev="hd"))


def _complete_cpu(root: etree._Element, capabilities: QemuCapabilities) -> None:
    cpu = _child(root, "cpu")
    model = cpu.find("model")
    mode = cpu.get("mode") or "custom"
    chosen = mode != "custom" or model is not None
    defaults = _CPU_DEFAULTS.get(mode, {}) if chosen else _CPU_UNCHOSEN
    values = {"mode": mode} | defaults | dict(attribute_pairs(cpu))
    cpu.attrib.clear()
    for name, value in values.items():
        cpu.set(name, value)
    if not chosen:
        model = etree.Element("model", fallback="forbid")
        model.text = capabilities.default_cpu
        cpu.insert(0, model)
    elif model is not None and mode == "custom":
        model.set("fallback", model.get("fallback") or "allow")


def _child(
    root: etree._Element, tag: str, attributes: dict[str, str] | None = None
) -> etree._Element:
    child = root.find(tag)
    if child is None:
        child = etree.Element(tag, attributes or {})
        insert_in_order(root, child, DOMAIN_ORDER)
    return child
