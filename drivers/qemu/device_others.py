"""The small devices: watchdog, memory balloon, random numbers, panic notifier."""

from typing import TYPE_CHECKING, Final

from virtbackupd.drivers.errors import ConfigUnsupported
from virtbackupd.drivers.qemu.arguments import Json, known
from virtbackupd.drivers.qemu.build import virtio

if TYPE_CHECKING:
    from virtbackupd.drivers.definitions.hardware import RngHardware, WatchdogHardware
    from virtbackupd.drivers.qemu.arguments import Arguments
    from virtbackupd.drivers.qemu.build import Build

_WATCHDOG_ACTIONS: Final = {"dump": "pause"}
"""libvirt's names where QEMU has another; a dump begins with a pause."""


def add_others(arguments: "Arguments", build: "Build") -> None:
    """In libvirt's order."""
    hardware = build.hardware
    for watchdog in hardware.watchdogs:
        _add_watchdog(arguments, build, watchdog)
    balloon = hardware.balloon
    if balloon is not None and balloon.model != "none":
        arguments.device(_balloon(build))
    for rng in hardware.rngs:
        arguments.objects([_random_source(rng)])
        arguments.device(_rng(build, rng))
    for panic in hardware.panics:
        if panic.model == "isa":
            arguments.device({"driver": "pvpanic"})


def _add_watchdog(arguments: "Arguments", build: "Build", watchdog: "WatchdogHardware") -> None:
    place = watchdog.place
    match watchdog.model:
        case "i6300esb":
            device: Json = {"driver": "i6300esb", **build.place(place.address, "a watchdog")}
            arguments.device({**device, "id": place.alias})
        case "ib700":
            arguments.device({"driver": "ib700", "id": place.alias})
        case "itco":
            if build.kind != "q35":
                raise ConfigUnsupported("the watchdog 'itco' is a part of the machine q35")
            arguments.add("-global", "ICH9-LPC.noreboot=off")
    action = _WATCHDOG_ACTIONS.get(watchdog.action, watchdog.action)
    arguments.add("-action", f"watchdog={action}")


def _balloon(build: "Build") -> Json:
    balloon = build.hardware.balloon
    if balloon is None:
        raise ConfigUnsupported("there is no memory balloon")
    props = known(
        driver=virtio("balloon", balloon.model),
        id=balloon.place.alias,
        deflate__on__oom=True if balloon.deflate else None,
        free__page__reporting=True if balloon.page_reporting else None,
    )
    return props | build.place(balloon.place.address, "the memory balloon")


def _random_source(rng: "RngHardware") -> Json:
    name = f"obj{rng.place.alias}"
    if rng.backend == "builtin":
        return {"qom-type": "rng-builtin", "id": name}
    return {"qom-type": "rng-random", "id": name, "filename": rng.path}


def _rng(build: "Build", rng: "RngHardware") -> Json:
    place = rng.place
    props = known(driver=virtio("rng", rng.model), rng=f"obj{place.alias}", id=place.alias)
    if rng.rate_bytes is not None:
        props |= {"max-bytes": rng.rate_bytes, "period": rng.rate_period or 1000}
    return props | build.place(place.address, "a random number generator")
