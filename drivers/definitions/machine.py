"""The parts of a domain document that are no devices: firmware, boot, features, processor, clock.

Typed views on the document, as its author wrote it or a driver completed it. Which of it a machine
can have is not known here.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from lxml import etree

from virtbackupd.drivers.definitions.tree import child_attribute, child_text, number

QEMU_NAMESPACE = "http://libvirt.org/schemas/domain/qemu/1.0"
_ON = frozenset({"on", "yes"})


@dataclass(frozen=True, slots=True)
class BootDefinition:
    """`<os>`: what the machine starts from."""

    firmware: str | None
    loader: str | None
    loader_read_only: bool
    loader_type: str
    loader_secure: bool
    nvram: str | None
    nvram_template: str | None
    kernel: str | None
    initrd: str | None
    command_line: str | None
    devices: tuple[str, ...]
    menu: bool | None
    menu_timeout: int | None
    """Milliseconds."""
    reboot_timeout: int | None
    use_serial: bool

    @property
    def needs_files(self) -> bool:
        """Whether there is firmware beside the machine's own."""
        return self.firmware == "efi" or self.loader is not None


@dataclass(frozen=True, slots=True)
class CpuFeature:
    name: str
    policy: str


@dataclass(frozen=True, slots=True)
class CpuTopology:
    sockets: int
    dies: int
    cores: int
    threads: int


@dataclass(frozen=True, slots=True)
class CpuDefinition:
    mode: str
    model: str | None
    vendor: str | None
    migratable: bool | None
    topology: CpuTopology | None
    features: tuple[CpuFeature, ...]


@dataclass(frozen=True, slots=True)
class TimerDefinition:
    name: str
    tick_policy: str | None
    track: str | None
    present: bool | None


@dataclass(frozen=True, slots=True)
class ClockDefinition:
    offset: str
    adjustment: int
    """Seconds, of `offset='variable'`."""
    start: int
    """Seconds since the epoch, of `offset='absolute'`."""
    timers: tuple[TimerDefinition, ...]


@dataclass(frozen=True, slots=True)
class QemuCommandLine:
    """Arguments and variables that go to QEMU as they are."""

    arguments: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class MachineDefinition:
    """Everything about a domain that is neither a device nor known to `DomainDefinition`."""

    boot: BootDefinition
    features: Mapping[str, str]
    """By name; the value of `state`, `on` where there is none."""
    hidden: bool
    """Whether the guest is not to see that KVM runs it."""
    hyperv: Mapping[str, str]
    hyperv_retries: int | None
    cpu: CpuDefinition | None
    clock: ClockDefinition
    suspend_to_memory: bool | None
    suspend_to_disk: bool | None
    iothreads: int
    qemu: QemuCommandLine


def read_machine(root: etree._Element) -> MachineDefinition:
    """Read the root element of a domain."""
    cpu = root.find("cpu")
    threads = child_text(root, "iothreads")
    hyperv = root.find("features/hyperv")
    retries = child_attribute(root, "features/hyperv/spinlocks", "retries")
    return MachineDefinition(
        boot=_boot(root),
        features=_states(root.find("features")),
        hidden=child_attribute(root, "features/kvm/hidden", "state") == "on",
        hyperv=_states(hyperv),
        hyperv_retries=None if retries is None else number(retries, "the hyperv retries"),
        cpu=None if cpu is None else _cpu(cpu),
        clock=_clock(root),
        suspend_to_memory=_switch(child_attribute(root, "pm/suspend-to-mem", "enabled")),
        suspend_to_disk=_switch(child_attribute(root, "pm/suspend-to-disk", "enabled")),
        iothreads=0 if threads is None else number(threads, "the number of I/O threads", limit=256),
        qemu=_command_line(root),
    )


def _boot(root: etree._Element) -> BootDefinition:
    system = root.find("os")
    system = etree.Element("os") if system is None else system
    return BootDefinition(
        firmware=system.get("firmware"),
        loader=child_text(system, "loader"),
        loader_read_only=child_attribute(system, "loader", "readonly") == "yes",
        loader_type=child_attribute(system, "loader", "type") or "rom",
        loader_secure=child_attribute(system, "loader", "secure") == "yes",
        nvram=child_text(system, "nvram"),
        nvram_template=child_attribute(system, "nvram", "template"),
        kernel=child_text(system, "kernel"),
        initrd=child_text(system, "initrd"),
        command_line=child_text(system, "cmdline"),
        devices=tuple(boot.get("dev", "") for boot in system.iterchildren("boot")),
        menu=_switch(child_attribute(system, "bootmenu", "enable")),
        menu_timeout=_maybe_number(system, "bootmenu", "timeout"),
        reboot_timeout=_reboot_timeout(child_attribute(system, "bios", "rebootTimeout")),
        use_serial=child_attribute(system, "bios", "useserial") == "yes",
    )


def _reboot_timeout(text: str | None) -> int | None:
    if text is None or text.strip() == "-1":
        return None if text is None else -1
    return number(text, "the reboot timeout", limit=65535)


def _states(parent: etree._Element | None) -> dict[str, str]:
    children = () if parent is None else parent.iterchildren(tag=etree.Element)
    return {str(child.tag): child.get("state") or "on" for child in children}


def _cpu(element: etree._Element) -> CpuDefinition:
    features = [
        CpuFeature(feature.get("name", ""), feature.get("policy", "require"))
        for feature in element.iterchildren("feature")
    ]
    return CpuDefinition(
        mode=element.get("mode", "custom"),
        model=child_text(element, "model"),
        vendor=child_text(element, "vendor"),
        migratable=_switch(element.get("migratable")),
        topology=_topology(element.find("topology")),
        features=tuple(features),
    )


def _topology(element: etree._Element | None) -> CpuTopology | None:
    if element is None:
        return None
    values = [
        number(element.get(name, "1"), f"the topology's number of {name}", limit=65535)
        for name in ("sockets", "dies", "cores", "threads")
    ]
    return CpuTopology(*values)


def _clock(root: etree._Element) -> ClockDefinition:
    clock = root.find("clock")
    clock = etree.Element("clock") if clock is None else clock
    return ClockDefinition(
        offset=clock.get("offset", "utc"),
        adjustment=_adjustment(clock.get("adjustment")),
        start=number(clock.get("start", "0"), "the clock's start", limit=2**33),
        timers=tuple(_timer(element) for element in clock.iterchildren("timer")),
    )


def _adjustment(text: str | None) -> int:
    if text in (None, "reset"):
        return 0
    value = number(text.lstrip("+-"), "the clock's adjustment", limit=2**40)
    return -value if text.startswith("-") else value


def _timer(element: etree._Element) -> TimerDefinition:
    return TimerDefinition(
        name=element.get("name", ""),
        tick_policy=element.get("tickpolicy"),
        track=element.get("track"),
        present=_switch(element.get("present")),
    )


def _command_line(root: etree._Element) -> QemuCommandLine:
    outer = f"{{{QEMU_NAMESPACE}}}commandline/{{{QEMU_NAMESPACE}}}"
    return QemuCommandLine(
        tuple(element.get("value", "") for element in root.iterfind(f"{outer}arg")),
        tuple(
            (element.get("name", ""), element.get("value", ""))
            for element in root.iterfind(f"{outer}env")
        ),
    )


def _maybe_number(element: etree._Element, path: str, name: str) -> int | None:
    text = child_attribute(element, path, name)
    return None if text is None else number(text, f"{name} of <{path}>", limit=2**31)


def _switch(value: str | None) -> bool | None:
    return None if value is None else value in _ON
