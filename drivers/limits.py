"""How much one daemon's drivers take on, whoever asks. Knows no driver.

The numbers belong to the tasks of a daemon: what is set in its first task holds in all that it
starts, and another daemon in the same process has its own.
"""

from collections import Counter
from contextvars import ContextVar
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, TypeVar

from virtbackupd.drivers.errors import OperationFailed

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")


@dataclass(slots=True)
class DriverLimits:
    """Named as in the configuration."""

    max_jobs: int = 0
    """Backups that run at once; 0 is no limit."""
    max_nbd_clients: int = 100
    """Connections to one NBD server of the in-memory hypervisor."""
    max_xml: int = 4 * 1024 * 1024
    """Bytes of UTF-8; libvirt's own limit for any string on the wire is the same 4 MiB."""
    max_xml_depth: int = 64
    """Real domain XML stays under 12 levels; the bound keeps recursion over the tree safe."""
    reached: Counter[str] = field(default_factory=Counter)
    """How often somebody was refused, by the name of the limit."""

    def take(self, other: "DriverLimits") -> None:
        """Let the numbers of `other` hold from now on."""
        take_numbers(self, other)

    def check_job(self, running: int) -> None:
        """OperationFailed when so many backups run that no other may begin."""
        if self.max_jobs and running >= self.max_jobs:
            self.reached["max_jobs"] += 1
            raise OperationFailed(
                f"{running} backups run, as many as max_jobs allows; wait for the end of one"
            )


LIMITS: ContextVar[DriverLimits] = ContextVar("LIMITS")


def limits() -> DriverLimits:
    """Those of the daemon in whose task this is called; the defaults where there is none."""
    return LIMITS.get(_DEFAULT)


_DEFAULT = DriverLimits()


def take_numbers(held: T, other: T) -> None:
    """Copy each limit of a dataclass, and keep the count of how often one was reached."""
    for each in fields(other):
        if each.name != "reached":
            setattr(held, each.name, getattr(other, each.name))
