"""The command lines of all kinds of machines, each tried with a real QEMU."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from machines import capabilities, command, devices, domain, try_out, values

from virtbackupd.drivers.errors import ConfigUnsupported

MakeImage = Callable[..., str]
_DISK = (
    "<disk type='file' device='{device}'>{source}<target dev='{target}' bus='{bus}'/>{rest}</disk>"
)
_SCSI = "<controller type='scsi' model='{model}'/>"
MANY = (
    "<driver type='raw' cache='none' io='threads' discard='unmap' detect_zeroes='unmap'"
    " error_policy='enospace' rerror_policy='report' queues='1'/><serial>abc</serial>"
    "<blockio logical_block_size='512' physical_block_size='4096'/><boot order='1'/>"
)
STARTS = {
    "bare q35": domain(),
    "bare pc": domain(machine="pc"),
    "processors": domain(
        vcpu="<vcpu current='2'>4</vcpu>",
        extra="<cpu mode='custom'><model>Nehalem</model>"
        "<topology sockets='1' cores='2' threads='2'/>"
        "<feature policy='disable' name='vme'/></cpu>",
    ),
    "maximum": domain(extra="<cpu mode='maximum'/>"),
    "host model": domain(extra="<cpu mode='host-model'/>"),
    "features": domain(
        extra="<features><acpi/><apic/><pae/><vmport state='off'/><pmu state='off'/><vmcoreinfo/>"
        "<kvm><hidden state='on'/></kvm><hyperv><relaxed state='on'/><vapic state='on'/>"
        "<spinlocks state='on' retries='8191'/></hyperv></features>"
    ),
    "clock": domain(
        extra="<clock offset='variable' adjustment='-60'><timer name='rtc' tickpolicy='catchup'/>"
        "<timer name='pit' tickpolicy='delay'/><timer name='hpet' present='no'/></clock>"
    ),
    "local time": domain(extra="<clock offset='localtime'/>"),
    "absolute time": domain(extra="<clock offset='absolute' start='86400'/>"),
    "sleep": domain(
        extra="<pm><suspend-to-mem enabled='no'/><suspend-to-disk enabled='yes'/></pm>"
    ),
    "sleep on pc": domain(
        machine="pc", extra="<pm><suspend-to-mem enabled='no'/><suspend-to-disk enabled='no'/></pm>"
    ),
    "boot menu": domain(boot="<boot dev='network'/><bootmenu enable='yes' timeout='3000'/>"),
    "user network": domain("<interface type='user'><model type='virtio'/></interface>"),
    "old cards": domain(
        "<interface type='user'/><interface type='user'><model type='e1000'/></interface>"
    ),
    "express card": domain("<interface type='user'><model type='e1000e'/></interface>"),
    "serial": domain("<serial type='pty'/><serial type='null'/><console type='pty'/>"),
    "pci and usb serial": domain(
        "<serial type='null'><target type='pci-serial'/></serial>"
        "<serial type='null'><target type='usb-serial'/></serial>"
    ),
    "virtio console": domain("<console type='pty'><target type='virtio'/></console>"),
    "agent": domain(
        "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
    ),
    "vnc": domain("<graphics type='vnc' passwd='secret'/>"),
    "vnc on a socket": domain(
        "<graphics type='vnc'><listen type='socket'/></graphics><video><model type='vga'/></video>"
    ),
    "video": domain(
        "<graphics type='vnc'/><video><model type='virtio'/></video>"
        "<video><model type='bochs' vram='16384'/></video>"
    ),
    "vga on pc": domain("<video><model type='vga' vram='16384'/></video>", machine="pc"),
    "no video": domain("<graphics type='vnc'/><video><model type='none'/></video>"),
    "sound": domain("<sound model='ich9'/>"),
    "old sound": domain("<sound model='ich6'/><sound model='ac97'/>", machine="pc"),
    "inputs": domain(
        "<input type='tablet' bus='usb'/><input type='keyboard' bus='virtio'/>"
        "<input type='mouse' bus='ps2'/>"
    ),
    "rng": domain(
        "<rng model='virtio'><rate bytes='1024'/>"
        "<backend model='random'>/dev/urandom</backend></rng>"
        "<rng model='virtio'><backend model='builtin'/></rng>"
    ),
    "balloon": domain(
        "<memballoon model='virtio' autodeflate='on'><stats period='5'/></memballoon>"
    ),
    "no balloon": domain("<memballoon model='none'/>"),
    "watchdog": domain("<watchdog model='i6300esb' action='poweroff'/>"),
    "isa watchdog": domain("<watchdog model='ib700' action='dump'/>", machine="pc"),
    "chipset watchdog": domain("<watchdog model='itco'/>"),
    "panic": domain("<panic model='isa'/>"),
    "usb 2": domain(
        "<controller type='usb' index='0' model='ich9-ehci1'/>"
        "<controller type='usb' index='0' model='ich9-uhci1'><master startport='0'/></controller>"
        "<controller type='usb' index='0' model='ich9-uhci2'><master startport='2'/></controller>"
    ),
    "usb 2 on pc": domain(
        "<controller type='usb' index='0' model='ich9-ehci1'/>"
        "<controller type='usb' index='0' model='ich9-uhci1'><master startport='0'/></controller>",
        machine="pc",
    ),
    "no usb": domain("<controller type='usb' model='none'/>"),
    "root ports": domain("<controller type='pci' model='pcie-root-port'/>" * 14),
    "bridges": domain("<rng model='virtio'><backend model='builtin'/></rng>" * 34, machine="pc"),
    "old bridges": domain(
        "<controller type='pci' index='1' model='dmi-to-pci-bridge'/>"
        "<controller type='pci' index='2' model='pci-bridge'/>"
    ),
    "own arguments": domain(
        tail="<qemu:commandline><qemu:arg value='-global'/>"
        "<qemu:arg value='isa-debugcon.iobase=0x402'/></qemu:commandline>"
    ),
    "two sata controllers": domain("<controller type='sata' index='1'/>"),
    "a name with a comma": domain().replace("<name>m<", "<name>m,x<"),
}
DISKS = {
    "virtio": ("disk", "vda", "virtio", "", ""),
    "read-only": ("disk", "vda", "virtio", "", "<readonly/>"),
    "many options": ("disk", "vda", "virtio", "", MANY),
    "scsi": (
        *("disk", "sda", "scsi", _SCSI.format(model="virtio-scsi")),
        "<wwn>5000c500155a7f6e</wwn>",
    ),
    "lsi": ("disk", "sdb", "scsi", "", ""),
    "lsi sas": ("disk", "sdb", "scsi", _SCSI.format(model="lsisas1068"), ""),
    "sata": ("disk", "sda", "sata", "", "<serial>x</serial>"),
    "second sata": ("disk", "sdh", "sata", "", ""),
    "usb": ("disk", "sda", "usb", "", ""),
    "floppy": ("floppy", "fda", "fdc", "", ""),
    "cdrom": ("cdrom", "sda", "sata", "", ""),
    "scsi cdrom": ("cdrom", "sda", "scsi", _SCSI.format(model="virtio-scsi"), ""),
    "shared": ("disk", "vda", "virtio", "", "<shareable/>"),
}


@pytest.mark.parametrize("name", STARTS)
def test_a_machine_starts(name: str, tmp_path: Path) -> None:
    assert try_out(command(STARTS[name], tmp_path)) == ""


@pytest.mark.parametrize("name", DISKS)
def test_a_disk_starts(name: str, tmp_path: Path, make_image: MakeImage) -> None:
    device, target, bus, before, rest = DISKS[name]
    source = f"<source file='{make_image('d', format='raw', size=1 << 20)}'/>"
    disk = _DISK.format(device=device, source=source, target=target, bus=bus, rest=rest)
    assert try_out(command(domain(before + disk), tmp_path)) == ""


def test_ide_disks_start_on_a_pc(tmp_path: Path, make_image: MakeImage) -> None:
    source = f"<source file='{make_image('d', format='raw', size=1 << 20)}'/>"
    disk = _DISK.format(device="disk", source=source, target="hda", bus="ide", rest="")
    drive = _DISK.format(device="cdrom", source="", target="hdc", bus="ide", rest="")
    floppy = _DISK.format(device="floppy", source="", target="fda", bus="fdc", rest="")
    assert try_out(command(domain(disk + drive + floppy, machine="pc"), tmp_path)) == ""


def test_a_backing_chain_starts(tmp_path: Path, make_image: MakeImage) -> None:
    base = make_image("base.qcow2")
    top = make_image("top.qcow2", "-b", base, "-F", "qcow2")
    driver = "<driver name='qemu' type='qcow2'/>"
    disk = f"<disk>{driver}<source file='{top}'/><target dev='vda'/></disk>"
    argv = command(domain(disk), tmp_path)
    assert len(values(argv, "blockdev")) == 4
    assert try_out(argv) == ""


def test_io_threads_start(tmp_path: Path, make_image: MakeImage) -> None:
    path = make_image("d", format="raw", size=1 << 20)
    disk = f"<disk><driver iothread='1'/><source file='{path}'/><target dev='vda'/></disk>"
    scsi = "<controller type='scsi' model='virtio-scsi'><driver iothread='2'/></controller>"
    xml = domain(disk + scsi, vcpu="<iothreads>2</iothreads>")
    assert try_out(command(xml, tmp_path)) == ""


def kvm_offers_the_host_cpu() -> bool:
    """Some hosts that are guests themselves have a KVM that cannot: QEMU aborts there."""
    plain = [capabilities().path, "-accel", "kvm", "-cpu", "host", "-nodefaults", "-S"]
    return capabilities().kvm and try_out([*plain, "-display", "none"]) == ""


@pytest.mark.parametrize("kind", ["qemu", "kvm"] if kvm_offers_the_host_cpu() else ["qemu"])
def test_any_kind_of_domain_starts_where_it_works(kind: str, tmp_path: Path) -> None:
    mode = {"kvm": "host-passthrough", "qemu": "maximum"}[kind]
    xml = domain(extra=f"<features><acpi/></features><cpu mode='{mode}'/>")
    argv = command(xml.replace("type='qemu'", f"type='{kind}'", 1), tmp_path)
    assert values(argv, "cpu") == [{"kvm": "host", "qemu": "max"}[kind]]
    assert try_out(argv) == ""


def test_a_channel_to_any_kind_of_host_end_starts(tmp_path: Path) -> None:
    ports = (
        f"<serial type='file'><source path='{tmp_path}/log'/></serial>"
        f"<serial type='unix'><source mode='bind' path='{tmp_path}/s'/></serial>"
        "<serial type='tcp'><source mode='bind' host='127.0.0.1' service='0'/></serial>"
        f"<serial type='null'><log file='{tmp_path}/x'/></serial>"
    )
    assert try_out(command(domain(ports), tmp_path)) == ""


# What the arguments say
def test_the_guest_is_held_and_powered_off_by_us() -> None:
    argv = command(domain())
    assert {"-S", "-no-shutdown", "-nodefaults", "-no-user-config"} <= set(argv)


def test_devices_have_libvirts_names_and_places() -> None:
    disk = "<disk><source file='/dev/null'/><target dev='vdb'/></disk>"
    device = devices(command(domain(disk, machine="pc")))["virtio-disk1"]
    assert (device["bus"], device["addr"]) == ("pci.0", "0x2")
    assert device["drive"] == "libvirt-1-format"


def test_the_boot_order_is_by_kind() -> None:
    boot = "<boot dev='cdrom'/><boot dev='hd'/><boot dev='network'/>"
    drive = "<disk device='cdrom'><target dev='sda' bus='sata'/></disk>"
    disk = "<disk><source file='/dev/null'/><target dev='{}'/></disk>"
    found = devices(
        command(
            domain(
                drive + disk.format("vda") + disk.format("vdb") + "<interface type='user'/>",
                boot=boot,
            )
        )
    )
    orders = {name: props["bootindex"] for name, props in found.items() if "bootindex" in props}
    assert orders == {"sata0-0-0": 1, "virtio-disk0": 2, "net0": 3}


def test_a_device_has_its_own_boot_order() -> None:
    found = devices(command(domain("<interface type='user'><boot order='7'/></interface>")))
    assert found["net0"]["bootindex"] == 7


@pytest.mark.parametrize(
    ("cache", "expected"),
    [("none", "on"), ("writeback", "on"), ("writethrough", "off"), ("directsync", "off")],
)
def test_the_guest_is_told_of_a_write_cache(cache: str, expected: str) -> None:
    disk = f"<disk><driver cache='{cache}'/><source file='/dev/null'/><target dev='vda'/></disk>"
    assert devices(command(domain(disk)))["virtio-disk0"]["write-cache"] == expected


def test_reads_and_writes_stop_together() -> None:
    disk = "<disk><driver error_policy='stop'/><source file='/dev/null'/><target dev='vda'/></disk>"
    device = devices(command(domain(disk)))["virtio-disk0"]
    assert (device["werror"], device["rerror"]) == ("stop", "stop")


def test_acpi_is_off_unless_the_document_has_it() -> None:
    assert "acpi=off" in values(command(domain()), "machine")[0]
    with_acpi = domain(extra="<features><acpi/></features>")
    assert "acpi=off" not in values(command(with_acpi), "machine")[0]


def test_a_kernel_is_booted_directly() -> None:
    boot = "<kernel>/k</kernel><initrd>/i</initrd><cmdline>quiet a,b</cmdline>"
    argv = command(domain(boot=boot))
    assert [values(argv, name) for name in ("kernel", "initrd", "append")] == [
        ["/k"],
        ["/i"],
        ["quiet a,b"],
    ]


def test_an_incoming_guest_is_named() -> None:
    assert values(command(domain(), incoming="defer"), "incoming") == ["defer"]


def test_nobody_may_start_programs_but_for_a_bridge() -> None:
    assert "spawn=deny" in values(command(domain()), "sandbox")[0]
    bridge = "<interface type='bridge'><source bridge='br0'/></interface>"
    assert "spawn=allow" in values(command(domain(bridge)), "sandbox")[0]


def _netdevs(xml: str) -> Iterator[dict[str, object]]:
    for text in values(command(xml), "netdev"):
        yield json.loads(text)


def test_a_bridge_is_joined_by_its_helper() -> None:
    (netdev,) = _netdevs(domain("<interface type='bridge'><source bridge='br0'/></interface>"))
    assert (netdev["type"], netdev["br"]) == ("bridge", "br0")
    assert str(netdev["helper"]).endswith("qemu-bridge-helper")


def test_a_tap_device_is_used_by_name() -> None:
    (netdev,) = _netdevs(domain("<interface type='ethernet'><target dev='tap7'/></interface>"))
    assert (netdev["type"], netdev["ifname"], netdev["script"]) == ("tap", "tap7", "no")


def test_a_vnc_port_is_a_display() -> None:
    xml = domain("<graphics type='vnc' port='5907' listen='::1'/>")
    assert values(command(xml), "vnc") == ["[::1]:7"]


def test_an_address_cannot_bring_options_along() -> None:
    xml = domain("<graphics type='vnc' port='5900' listen='::1,password=off'/>")
    assert values(command(xml), "vnc") == ["[::1,,password=off]:0"]


REFUSED = {
    "IDE controller": domain("<disk device='cdrom'><target dev='hda' bus='ide'/></disk>"),
    "cannot be on the bus virtio": domain("<disk device='cdrom'><target dev='vda'/></disk>"),
    "has no source": domain("<disk><target dev='vda'/></disk>"),
    "must be a floppy": domain("<disk device='cdrom'><target dev='fda' bus='fdc'/></disk>"),
    "no CPU model": domain(extra="<cpu mode='custom'><model>Z80</model></cpu>"),
    "needs <domain type='kvm'>": domain(extra="<cpu mode='host-passthrough'/>"),
    "does not make 3": domain(
        vcpu="<vcpu>3</vcpu>", extra="<cpu><topology sockets='2' cores='1' threads='1'/></cpu>"
    ),
    "virtual CPUs, its machine takes": domain(vcpu="<vcpu>999</vcpu>"),
    "must be 5900 or higher": domain("<graphics type='vnc' port='80'/>"),
    "more than one <graphics>": domain("<graphics type='vnc'/>" * 2),
    "tablet cannot be on the bus ps2": domain("<input type='tablet' bus='ps2'/>"),
    "network card model": domain("<interface type='user'><model type='x'/></interface>"),
    "names no service": domain("<serial type='tcp'><source mode='bind'/></serial>"),
    "has no <source bridge": domain("<interface type='bridge'/>"),
    "malformed wwn": domain(
        "<disk><source file='/dev/null'/><target dev='sda' bus='scsi'/><wwn>1</wwn></disk>"
    ),
    "SCSI controller model": domain("<controller type='scsi' model='odd'/>"),
    "USB controller model": domain("<controller type='usb' model='odd'/>"),
    "cannot be read-only": domain(
        "<disk><source file='/dev/null'/><target dev='sda' bus='sata'/><readonly/></disk>"
    ),
    "CPU feature": domain(extra="<cpu mode='maximum'><feature policy='x' name='vme'/></cpu>"),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_cannot_be_is_refused(reason: str) -> None:
    with pytest.raises(ConfigUnsupported, match=reason):
        command(REFUSED[reason])
