"""One run of a domain: its process and monitor, from the start of QEMU to its end."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from virtbackupd.drivers.enums import PausedReason, RunningReason
from virtbackupd.drivers.qemu.config import DomainPaths
from virtbackupd.drivers.qemu.process import Process
from virtbackupd.drivers.qemu.qmp import Monitor
from virtbackupd.drivers.stops import Stop

if TYPE_CHECKING:
    from collections.abc import Mapping

    from virtbackupd.drivers.qemu.console import TerminalStream


@dataclass(slots=True)
class Leaving:
    """A device that the guest has been asked to let go of."""

    answered: trio.Event = field(default_factory=trio.Event)
    refused: bool = False
    """The answer: it keeps the device."""
    cleared: trio.Event = field(default_factory=trio.Event)
    """It has let go, and what the host had for the device is gone as well."""


@dataclass(slots=True)
class Run:
    """Exists while QEMU does; whoever keeps one across a wait must see `over` for its end."""

    paths: DomainPaths
    process: Process
    monitor: Monitor
    ending: Stop | None = None
    """Set by whoever makes QEMU end; a QEMU that ends with None here has crashed."""
    gone: bool = False
    """QEMU has ended, whatever is still to be cleared away."""
    over: trio.Event = field(default_factory=trio.Event)
    """Everything of the run is cleared away, and the world has been told."""
    pause_reason: PausedReason | None = None
    """Of a pause that a call is about to make; None is the user's or QEMU's own."""
    resume_reason: RunningReason = RunningReason.UNPAUSED
    leaving: dict[str, Leaving] = field(default_factory=dict)
    """By alias: devices that the guest has been asked to let go of and has not answered about."""
    reboots: bool = False
    """Whether the guest's next power-off is to become a reset."""
    restarting: bool = False
    """The guest has powered off only to start again: nobody is shown that QEMU stands meanwhile."""
    ends_with_backup: bool = False
    """Whether the guest has powered off and the domain only waits for its backup."""
    agent_path: str | None = None
    """The host's end of the guest agent's channel, where there is one."""
    agent_connected: bool = False
    agent_lock: trio.Lock = field(default_factory=trio.Lock)
    """The channel carries one conversation at a time."""
    consoles: "dict[str, TerminalStream]" = field(default_factory=dict)
    """The sessions by terminal."""
    balloon: int = 0
    """What the guest has at the moment, in KiB, when it has a balloon."""
    thresholds: dict[str, int] = field(default_factory=dict)
    """By storage node: the write beyond which is still to be told of, in bytes."""
    indexed_thresholds: set[str] = field(default_factory=set)
    """Nodes whose write threshold was set by an image's number instead of the disk's name."""
    balloon_device: str | None = None
    """The balloon's place among QEMU's objects, when there is one."""
    cpu_threads: tuple[int, ...] = ()
    cpu_objects: tuple[str, ...] = ()
    """The place of each processor among QEMU's objects."""
    iothreads: int = 0
    kvm_schemas: "Mapping[str, Mapping[str, str]] | None" = None
    """What KVM counts, by target, once it has been asked for."""
    drives: dict[str, str] = field(default_factory=dict)
    """By target, what can be empty: the device that QEMU knows then too."""
    capacities: dict[str, int] = field(default_factory=dict)
    """Virtual size by disk target, as last seen."""
