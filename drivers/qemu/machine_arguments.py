"""The part of the command line that is about the machine as a whole: board, memory, clock, boot."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from virtbackupd.drivers.qemu.arguments import escape, on_off, option_text
from virtbackupd.drivers.qemu.firmware import add_firmware

if TYPE_CHECKING:
    from virtbackupd.drivers.definitions.machine import ClockDefinition
    from virtbackupd.drivers.qemu.arguments import Arguments
    from virtbackupd.drivers.qemu.build import Build

_SLEEP_STATES: Final = {
    "q35": ("ICH9-LPC", "disable_s3", "disable_s4"),
    "pc": ("PIIX4_PM", "disable_s3", "disable_s4"),
}
_PIT_POLICIES: Final = ("delay", "discard")


def add_machine(arguments: "Arguments", build: "Build") -> None:
    """`-machine` and `-accel`, and the flash memories that the first refers to."""
    machine = build.machine
    flash = add_firmware(arguments, machine.boot)
    settings: dict[str, str | None] = {
        "usb": "off",
        "vmport": machine.features.get("vmport"),
        "smm": machine.features.get("smm"),
        "dump_guest_core": "off",
        "acpi": None if "acpi" in machine.features else "off",
        "hpet": _hpet(build),
    }
    arguments.add("-machine", option_text(build.definition.machine or "", settings | flash))
    arguments.add("-accel", "kvm" if build.accelerated else "tcg")
    if machine.boot.loader_secure:
        arguments.add("-global", "driver=cfi.pflash01,property=secure,value=on")


def add_memory(arguments: "Arguments", build: "Build") -> None:
    arguments.add("-m", f"size={build.definition.memory}k")
    arguments.add("-overcommit", "mem-lock=off")
    arguments.objects(
        {"qom-type": "iothread", "id": f"iothread{number}"}
        for number in range(1, build.machine.iothreads + 1)
    )


def add_clock(arguments: "Arguments", build: "Build") -> None:
    """`-rtc`, and what the timers ask for."""
    clock = build.machine.clock
    settings = {timer.name: timer for timer in clock.timers}
    rtc = settings.get("rtc")
    drift = "slew" if rtc is not None and rtc.tick_policy == "catchup" else None
    track = {"guest": "vm", "wall": "host"}.get(rtc.track or "") if rtc is not None else None
    arguments.option("rtc", "", base=_rtc_base(clock), clock=track, driftfix=drift)
    pit = settings.get("pit")
    if pit is not None and pit.tick_policy in _PIT_POLICIES and build.accelerated:
        arguments.add("-global", f"kvm-pit.lost_tick_policy={pit.tick_policy}")


def add_power(arguments: "Arguments", build: "Build") -> None:
    """A guest that powers off keeps its QEMU until we have seen it, and how it may sleep."""
    arguments.add("-no-shutdown")
    driver, *properties = _SLEEP_STATES[build.kind]
    wanted = (build.machine.suspend_to_memory, build.machine.suspend_to_disk)
    for name, allowed in zip(properties, wanted, strict=True):
        if allowed is not None:
            arguments.add("-global", f"{driver}.{name}={int(not allowed)}")


def add_boot(arguments: "Arguments", build: "Build") -> None:
    """The menu, and a kernel that is started without any boot loader."""
    boot = build.machine.boot
    arguments.option(
        "boot",
        "",
        menu=on_off(boot.menu),
        splash_time=_maybe(boot.menu_timeout if boot.menu else None),
        reboot_timeout=_maybe(boot.reboot_timeout),
        strict="on",
    )
    for name, value in (
        ("-kernel", boot.kernel),
        ("-initrd", boot.initrd),
        ("-append", boot.command_line),
    ):
        if value is not None:
            arguments.add(name, value)
    if boot.use_serial:
        arguments.device({"driver": "sga"})
    if "vmcoreinfo" in build.machine.features:
        arguments.device({"driver": "vmcoreinfo"})


def guest_name(build: "Build") -> str:
    return f"guest={escape(build.definition.name)},debug-threads=on"


def _hpet(build: "Build") -> str | None:
    timer = next((it for it in build.machine.clock.timers if it.name == "hpet"), None)
    return None if timer is None else on_off(timer.present)


def _rtc_base(clock: "ClockDefinition") -> str:
    match clock.offset:
        case "variable":
            return _moment(datetime.now(UTC) + timedelta(seconds=clock.adjustment))
        case "absolute":
            return _moment(datetime.fromtimestamp(clock.start, UTC))
    return clock.offset


def _moment(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%S")


def _maybe(number: int | None) -> str | None:
    return None if number is None else str(number)
