"""The grammar of supported domain XML, as tables that `refusals` reads.

Each row is `attributes | children` of one element, found by its parent's name and its own. An
element that a row names as a child but that has no row of its own is taken with all below it.
"""

from typing import Final

ANY: Final = "*"

_ADDRESS: Final = "type domain bus slot function multifunction controller target unit port iobase"
_DISK_SOURCE: Final = "file dev startupPolicy index | dataStore seclabel encryption"
_CHARACTER: Final = "type tty | source target protocol log alias address"
_CHARACTER_SOURCE: Final = "path mode host service append tls | seclabel reconnect"

ELEMENTS: Final[dict[str, str]] = {
    "domain": "type id | name uuid title description metadata memory currentMemory vcpu iothreads"
    " os features cpu clock on_poweroff on_reboot on_crash on_lockfailure pm devices seclabel"
    " resource memoryBacking qemu:commandline",
    "domain/memory": "unit |",
    "domain/currentMemory": "unit |",
    "domain/vcpu": "placement current |",
    "domain/metadata": f"| {ANY}",
    "domain/memoryBacking": "|",
    "domain/seclabel": "type model relabel | label imagelabel baselabel",
    "domain/os": "firmware | type loader nvram boot bootmenu bios kernel initrd cmdline firmware",
    "os/type": "arch machine |",
    "os/loader": "readonly type secure format |",
    "os/nvram": "template format templateFormat |",
    "os/boot": "dev |",
    "os/bootmenu": "enable timeout |",
    "os/bios": "useserial rebootTimeout |",
    "os/firmware": "| feature",
    "firmware/feature": "enabled name |",
    "domain/features": "| acpi apic pae hyperv kvm vmport smm pmu vmcoreinfo pvspinlock viridian",
    "features/acpi": "|",
    "features/apic": "|",
    "features/pae": "|",
    "features/kvm": "| hidden",
    "kvm/hidden": "state |",
    "features/smm": "state |",
    "features/vmport": "state |",
    "features/hyperv": "mode | relaxed vapic spinlocks vpindex runtime synic stimer reset"
    " frequencies reenlightenment tlbflush ipi evmcs",
    "hyperv/spinlocks": "state retries |",
    "hyperv/stimer": "state |",
    "domain/cpu": "mode match check migratable | model vendor topology feature",
    "cpu/model": "fallback |",
    "cpu/topology": "sockets dies cores threads |",
    "cpu/feature": "policy name |",
    "domain/clock": "offset adjustment basis start | timer",
    "clock/timer": "name tickpolicy track present |",
    "domain/pm": "| suspend-to-mem suspend-to-disk",
    "domain/qemu:commandline": "| qemu:arg qemu:env",
    "domain/devices": "| emulator disk controller interface serial console channel input graphics"
    " video sound audio watchdog memballoon rng panic",
    # Disks
    "devices/disk": "type device snapshot model | driver source target backingStore serial"
    " encryption wwn vendor product blockio boot readonly shareable alias address",
    "disk/driver": "name type cache io discard detect_zeroes error_policy rerror_policy iothread"
    " queues discard_no_unref |",
    "disk/source": _DISK_SOURCE,
    "disk/encryption": "format engine | secret",
    "source/encryption": "format engine | secret",
    "encryption/secret": "type uuid usage |",
    "disk/target": "dev bus removable tray rotation_rate |",
    "disk/blockio": "logical_block_size physical_block_size |",
    "disk/boot": "order |",
    "disk/backingStore": "type index | format source backingStore",
    "backingStore/backingStore": "type index | format source backingStore",
    "backingStore/source": _DISK_SOURCE,
    "backingStore/format": "type |",
    "source/dataStore": "type index | format source",
    "dataStore/format": "type |",
    "dataStore/source": "file dev | seclabel",
    # Controllers
    "devices/controller": "type index model ports vectors"
    " | model target driver master alias address",
    "controller/model": "name |",
    "controller/target": "chassis port chassisNr hotplug |",
    "controller/driver": "queues iothread |",
    "controller/master": "startport |",
    # Network cards
    "devices/interface": "type | mac source target model link mtu boot alias address driver",
    "interface/mac": "address type |",
    "interface/source": "bridge |",
    "interface/target": "dev managed |",
    "interface/model": "type |",
    "interface/link": "state |",
    "interface/mtu": "size |",
    "interface/boot": "order |",
    "interface/driver": "name |",
    # Character devices
    "devices/serial": _CHARACTER,
    "devices/console": _CHARACTER,
    "devices/channel": _CHARACTER,
    "serial/source": _CHARACTER_SOURCE,
    "console/source": _CHARACTER_SOURCE,
    "channel/source": _CHARACTER_SOURCE,
    "serial/target": "type port | model",
    "console/target": "type port |",
    "channel/target": "type name state |",
    "target/model": "name |",
    "serial/protocol": "type |",
    "console/protocol": "type |",
    "channel/protocol": "type |",
    "serial/log": "file append |",
    "console/log": "file append |",
    "channel/log": "file append |",
    "source/reconnect": "enabled |",
    # What a user sees and hears
    "devices/input": "type bus | alias address",
    "devices/graphics": "type port autoport websocket listen socket passwd passwdValidTo keymap"
    " sharePolicy | listen",
    "graphics/listen": "type address socket |",
    "devices/video": "| model alias address driver",
    "video/driver": "|",
    "video/model": "type vram ram vgamem heads primary | acceleration",
    "model/acceleration": "accel3d accel2d |",
    "devices/sound": "model | codec alias address",
    "sound/codec": "type |",
    "devices/audio": "id type |",
    # The rest
    "devices/watchdog": "model action | alias address",
    "devices/memballoon": "model autodeflate freePageReporting | stats alias address driver",
    "memballoon/stats": "period |",
    "memballoon/driver": "|",
    "devices/rng": "model | rate backend alias address",
    "rng/rate": "bytes period |",
    "rng/backend": "model |",
    "devices/panic": "model | alias address",
    **{
        f"{device}/address": f"{_ADDRESS} |"
        for device in (
            *("disk", "controller", "interface", "serial", "console", "channel", "input"),
            *("video", "sound", "watchdog", "memballoon", "rng", "panic"),
        )
    },
}

_STATE: Final = "on off"

VALUES: Final[dict[str, str]] = {
    "domain@type": "qemu kvm",
    "domain/vcpu@placement": "static",
    "domain/seclabel@type": "none dynamic",
    "os/type@arch": "x86_64 i686",
    "domain/os@firmware": "bios efi",
    "os/loader@type": "rom pflash",
    "os/loader@format": "raw",
    "os/nvram@format": "raw",
    "os/nvram@templateFormat": "raw",
    "os/boot@dev": "hd cdrom fd network",
    "domain/cpu@mode": "custom host-model host-passthrough maximum",
    "domain/cpu@match": "exact minimum strict",
    "domain/clock@offset": "utc localtime variable absolute",
    "domain/clock@basis": "utc",
    "clock/timer@name": "rtc pit hpet kvmclock hypervclock tsc",
    "clock/timer@tickpolicy": "delay catchup discard",
    "features/hyperv@mode": "custom",
    "hyperv/stimer@state": _STATE,
    "features/smm@state": _STATE,
    "features/vmport@state": _STATE,
    "devices/disk@type": "file block",
    "devices/disk@device": "disk cdrom floppy",
    "devices/disk@model": "virtio virtio-transitional virtio-non-transitional",
    "devices/disk@snapshot": "internal external no",
    "disk/source@startupPolicy": "mandatory requisite optional",
    "disk/driver@name": "qemu",
    "disk/driver@type": "raw qcow2",
    "disk/driver@io": "threads native io_uring default",
    "disk/driver@cache": "default none writethrough writeback directsync unsafe",
    "disk/target@bus": "virtio scsi sata ide usb fdc",
    "disk/driver@error_policy": "stop report ignore enospace",
    "disk/driver@rerror_policy": "stop report ignore",
    "disk/driver@discard": "unmap ignore",
    "disk/driver@detect_zeroes": "off on unmap",
    "disk/encryption@format": "luks",
    "source/encryption@format": "luks",
    "disk/encryption@engine": "qemu",
    "source/encryption@engine": "qemu",
    "encryption/secret@type": "passphrase",
    "backingStore/format@type": "raw qcow2",
    "dataStore/format@type": "raw",
    "devices/controller@type": "pci usb scsi sata ide fdc virtio-serial",
    "devices/interface@type": "user ethernet bridge",
    "interface/driver@name": "qemu vhost",
    "devices/serial@type": "pty unix tcp file dev null",
    "devices/console@type": "pty unix tcp file dev null",
    "devices/channel@type": "pty unix tcp file dev null",
    "serial/target@type": "isa-serial isa pci-serial pci usb-serial usb",
    "console/target@type": "serial virtio",
    "channel/target@type": "virtio",
    "serial/source@tls": "no",
    "console/source@tls": "no",
    "channel/source@tls": "no",
    "source/reconnect@enabled": "no",
    "devices/input@type": "tablet mouse keyboard",
    "devices/input@bus": "ps2 usb virtio",
    "devices/graphics@type": "vnc",
    "devices/graphics@sharePolicy": "allow-exclusive force-shared ignore",
    "graphics/listen@type": "address socket none",
    "video/model@type": "vga cirrus virtio bochs ramfb none",
    "model/acceleration@accel3d": "no",
    "model/acceleration@accel2d": "no",
    "devices/sound@model": "ich6 ich9 ac97 es1370 sb16 usb",
    "sound/codec@type": "duplex micro output",
    "devices/audio@type": "none",
    "devices/watchdog@model": "i6300esb ib700 itco",
    "devices/watchdog@action": "reset shutdown poweroff pause none dump inject-nmi",
    "devices/memballoon@model": "virtio virtio-transitional virtio-non-transitional none",
    "devices/rng@model": "virtio virtio-transitional virtio-non-transitional",
    "rng/backend@model": "random builtin",
    "devices/panic@model": "isa hyperv",
}
"""The values that are known of an attribute; one without a row takes any."""

REMEDIES: Final[dict[str, str]] = {
    "tpm": ": remove the element, no TPM is emulated",
    "hostdev": ": remove the element, host devices are not assigned",
    "devices/graphics@type=spice": ": use <graphics type='vnc'/>",
    "video/model@type=qxl": ": use the model 'virtio' or 'vga'",
    "devices/interface@type=network": ": use the type 'bridge', 'ethernet' or 'user'",
    "devices/channel@type=spicevmc": ": remove the element, there is no SPICE",
    "redirdev": ": remove the element, there is no SPICE",
}
"""What to write instead, by the name of an element or by attribute and value."""
