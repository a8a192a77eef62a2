"""What this hypervisor says it can do: the two capabilities documents, and the node.

Programs look in them for an architecture, a machine, a virtualisation type, and whether backups
are supported. What a guest cannot have here is left out or said to be missing.
"""

from functools import cache
from typing import Final

from lxml import etree

from virtbackupd.drivers.capabilities_xml import host_element, node, supported
from virtbackupd.drivers.definitions.writer import format_element
from virtbackupd.drivers.errors import InvalidArgument
from virtbackupd.drivers.flags import check_none
from virtbackupd.drivers.node import host_arch
from virtbackupd.drivers.profiles import BACKUPS, CAPABILITY_FEATURES, NEWEST, Profile

MAX_VCPUS: Final = 288
DOMAIN_TYPES: Final = ("qemu", "kvm", "test")
MACHINES: Final = {
    "x86_64": ("q35", "pc"),
    "i686": ("pc", "q35"),
    "aarch64": ("virt",),
    "riscv64": ("virt",),
    "ppc64le": ("pseries",),
    "s390x": ("s390-ccw-virtio",),
}
"""By architecture; the first is the default."""
_WORD_SIZES: Final = {"i686": "32"}
_DEVICE_ENUMS: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "disk": {
        "diskDevice": ("disk", "cdrom", "floppy"),
        "bus": ("fdc", "ide", "sata", "scsi", "usb", "virtio"),
        "model": ("virtio", "virtio-transitional", "virtio-non-transitional"),
    },
    "graphics": {"type": ("vnc", "spice")},
    "video": {"modelType": ("vga", "virtio", "qxl", "none")},
    "rng": {"model": ("virtio",), "backendModel": ("random", "builtin")},
    "channel": {"type": ("unix", "pty")},
}
_FEATURES: Final = {
    "gic": "no",
    "vmcoreinfo": "no",
    "genid": "yes",
    "backingStoreInput": "yes",
    "backup": "yes",
    "sev": "no",
    "sgx": "no",
}


@cache
def capabilities() -> str:
    """The `<capabilities>` document."""
    guests = [_guest(arch) for arch in _guest_archs()]
    return format_element(node("capabilities", host_element(), *guests))


def domain_capabilities(
    emulatorbin: str | None,
    arch: str | None,
    machine: str | None,
    virttype: str | None,
    flags: int,
    profile: Profile = NEWEST,
) -> str:
    """The `<domainCapabilities>` document for a choice, each part of which has a default."""
    check_none(flags, "virConnectGetDomainCapabilities")
    arch = _chosen("architecture", arch, _guest_archs())
    machine = _chosen("machine", machine, MACHINES[arch])
    virttype = _chosen("virtualisation type", virttype, DOMAIN_TYPES)
    path = emulatorbin or emulator(arch)
    return _domain_capabilities(path, arch, machine, virttype, profile)


def max_vcpus(domain_type: str | None) -> int:
    """How many processors a domain of that type may have."""
    _chosen("virtualisation type", domain_type and domain_type.lower(), DOMAIN_TYPES)
    return MAX_VCPUS


def emulator(arch: str) -> str:
    """The path that domain XML would name; nothing is ever executed."""
    return f"/usr/bin/qemu-system-{'i386' if arch == 'i686' else arch}"


def _chosen(what: str, wanted: str | None, known: tuple[str, ...]) -> str:
    """`wanted` when it is known, the first known one when nothing is wanted."""
    if wanted is None:
        return known[0]
    if wanted not in known:
        raise InvalidArgument(f"unknown {what} {wanted!r}; there are: {', '.join(known)}")
    return wanted


@cache
def _guest_archs() -> tuple[str, ...]:
    """The host's own first."""
    own = host_arch()
    return tuple(sorted(MACHINES, key=lambda arch: (arch != own, arch)))


def _guest(arch: str) -> etree._Element:
    machines = [node("machine", name, maxCpus=str(MAX_VCPUS)) for name in MACHINES[arch]]
    domains = [node("domain", type=name) for name in DOMAIN_TYPES]
    description = node(
        "arch",
        node("wordsize", _WORD_SIZES.get(arch, "64")),
        node("emulator", emulator(arch)),
        *machines,
        *domains,
        name=arch,
    )
    features = node(
        "features", node("acpi", default="on", toggle="yes"), node("disksnapshot", default="off")
    )
    return node("guest", node("os_type", "hvm"), description, features)


def _features(profile: Profile) -> dict[str, str]:
    later = {row.name for row in CAPABILITY_FEATURES if not profile.has(row.since)}
    features = {name: value for name, value in _FEATURES.items() if name not in later}
    return features if profile.has(BACKUPS) else {**features, "backup": "no"}


@cache
def _domain_capabilities(
    path: str, arch: str, machine: str, virttype: str, profile: Profile
) -> str:
    devices = [supported(name, enums) for name, enums in _DEVICE_ENUMS.items()]
    features = [node(name, supported=value) for name, value in _features(profile).items()]
    document = node(
        "domainCapabilities",
        node("path", path),
        node("domain", virttype),
        node("machine", machine),
        node("arch", arch),
        node("vcpu", max=str(MAX_VCPUS)),
        supported("os", {"firmware": ()}),
        node(
            "cpu",
            node("mode", name="host-passthrough", supported="yes"),
            node("mode", name="host-model", supported="no"),
            node("mode", name="custom", supported="no"),
        ),
        node("devices", *devices),
        node("features", *features),
    )
    return format_element(document)
