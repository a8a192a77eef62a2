"""What this hypervisor says it can do: the two capabilities documents.

Only what this driver builds is offered, so that a client does not write XML that is refused.
"""

from typing import TYPE_CHECKING, Final

from lxml import etree

from virtbackupd.drivers.capabilities_xml import enum, host_element, node, supported
from virtbackupd.drivers.definitions.writer import format_element
from virtbackupd.drivers.errors import InvalidArgument
from virtbackupd.drivers.flags import check_none
from virtbackupd.drivers.qemu.known_elements import VALUES

if TYPE_CHECKING:
    from virtbackupd.drivers.qemu.capabilities import Machine, QemuCapabilities

_MACHINES: Final = ("pc-i440fx", "pc-q35")
_WORD_SIZES: Final = {"i686": "32"}
_FEATURES: Final = {
    "gic": "no",
    "vmcoreinfo": "yes",
    "genid": "no",
    "backingStoreInput": "yes",
    "backup": "yes",
    "sev": "no",
    "sgx": "no",
}
_ENUMS: Final[dict[str, dict[str, str]]] = {
    "disk": {
        "diskDevice": "devices/disk@device",
        "bus": "disk/target@bus",
        "model": "devices/disk@model",
    },
    "graphics": {"type": "devices/graphics@type"},
    "video": {"modelType": "video/model@type"},
    "rng": {"model": "devices/rng@model", "backendModel": "rng/backend@model"},
    "channel": {"type": "devices/channel@type"},
}
"""Where the values of each enum are in the grammar of supported XML."""
_MISSING: Final = ("hostdev", "filesystem", "tpm", "redirdev")


def capabilities_document(found: "QemuCapabilities") -> str:
    """The `<capabilities>` document."""
    return format_element(node("capabilities", host_element(), _guest(found)))


def domain_capabilities_document(
    found: "QemuCapabilities",
    arch: str | None,
    machine: str | None,
    virttype: str | None,
    flags: int,
) -> str:
    """The `<domainCapabilities>` document for a choice, each part of which has a default."""
    check_none(flags, "virConnectGetDomainCapabilities")
    kind = virttype or domain_types(found)[0]
    if kind not in domain_types(found):
        raise InvalidArgument(f"{found.path} does not offer the virtualisation type {kind!r} here")
    if arch not in (None, found.arch):
        raise InvalidArgument(f"{found.path} emulates {found.arch}, not {arch!r}")
    chosen = _machine(found, machine or "pc")
    document = node(
        "domainCapabilities",
        node("path", found.path),
        node("domain", kind),
        node("machine", chosen.name),
        node("arch", found.arch),
        node("vcpu", max=str(chosen.max_cpus)),
        node("iothreads", supported="yes"),
        supported("os", {"firmware": ("efi",)}, _loader()),
        _cpu(found, kind),
        node("devices", *_devices()),
        node("features", *(node(name, supported=value) for name, value in _FEATURES.items())),
    )
    return format_element(document)


def domain_types(found: "QemuCapabilities") -> tuple[str, ...]:
    """The best first."""
    return ("kvm", "qemu") if found.kvm else ("qemu",)


def max_vcpus(found: "QemuCapabilities") -> int:
    """Of the machine that is taken without a choice."""
    return _machine(found, "pc").max_cpus


def _machine(found: "QemuCapabilities", name: str) -> "Machine":
    for machine in _machines(found):
        if name in (machine.name, machine.alias):
            return machine
    raise InvalidArgument(f"{found.path} has no machine {name!r} that this driver supports")


def _machines(found: "QemuCapabilities") -> "list[Machine]":
    """Those that this driver can build, each alias and default first."""
    known = [machine for machine in found.machines if machine.name.startswith(_MACHINES)]
    return sorted(known, key=lambda machine: (machine.alias is None, machine.name))


def _guest(found: "QemuCapabilities") -> etree._Element:
    return node(
        "guest",
        node("os_type", "hvm"),
        node(
            "arch",
            node("wordsize", _WORD_SIZES.get(found.arch, "64")),
            node("emulator", found.path),
            *(element for machine in _machines(found) for element in _machine_elements(machine)),
            *(node("domain", type=kind) for kind in reversed(domain_types(found))),
            name=found.arch,
        ),
        node(
            "features",
            node("acpi", default="on", toggle="yes"),
            node("apic", default="on", toggle="no"),
            node("cpuselection"),
            node("deviceboot"),
            node("disksnapshot", default="on", toggle="no"),
        ),
    )


def _machine_elements(machine: "Machine") -> list[etree._Element]:
    limit = str(machine.max_cpus)
    elements = [node("machine", machine.name, maxCpus=limit)]
    if machine.alias is not None:
        alias = node("machine", machine.alias, canonical=machine.name, maxCpus=limit)
        elements.append(alias)
    return elements


def _loader() -> etree._Element:
    enums = {"type": ("rom", "pflash"), "readonly": ("yes", "no"), "secure": ("yes", "no")}
    return supported("loader", enums)


def _cpu(found: "QemuCapabilities", kind: str) -> etree._Element:
    migratable = [enum("hostPassthroughMigratable", ("on", "off"))] if kind == "kvm" else []
    models = (_model(found, name) for name in found.cpu_models)
    return node(
        "cpu",
        _mode("host-passthrough", *migratable, works=kind == "kvm"),
        _mode("maximum"),
        _mode("host-model"),
        _mode("custom", *models),
    )


def _mode(name: str, *content: etree._Element, works: bool = True) -> etree._Element:
    return node("mode", *content, name=name, supported="yes" if works else "no")


def _model(found: "QemuCapabilities", name: str) -> etree._Element:
    usable = "no" if name in found.unavailable_features else "yes"
    return node("model", name, usable=usable)


def _devices() -> list[etree._Element]:
    offered = [
        supported(device, {name: VALUES[key].split() for name, key in enums.items()})
        for device, enums in _ENUMS.items()
    ]
    return offered + [node(name, supported="no") for name in _MISSING]
