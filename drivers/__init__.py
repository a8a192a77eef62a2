"""Machines: the driver table and what a server may use of it. Knows neither the wire nor a client.

Drivers are found by name through the entry-point group `virtbackupd.drivers`; third parties add
theirs the same way as ours are added in pyproject.toml. Ours are known without looking there.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from virtbackupd.drivers.errors import NoConnection
from virtbackupd.drivers.interface import Driver, DriverFactory, DriverOptions

if TYPE_CHECKING:
    from collections.abc import Mapping
    from importlib.metadata import EntryPoint

ENTRY_POINT_GROUP = "virtbackupd.drivers"
OWN = {"memory": "virtbackupd.drivers.memory", "qemu": "virtbackupd.drivers.qemu"}
"""Our modules by name. To look through all that is installed takes 15 ms of each start."""


def driver_names() -> tuple[str, ...]:
    """The names that `--driver SCHEME=NAME` takes."""
    return tuple(sorted(_installed()))


def load_driver(name: str) -> DriverFactory:
    """The factory of a driver; NoConnection when no installed package offers that name."""
    factory: DriverFactory
    if name in OWN:
        factory = import_module(OWN[name]).open_driver
        return factory
    found = _installed().get(name)
    if found is None:
        known = ", ".join(driver_names())
        raise NoConnection(f"there is no driver {name!r}; installed are: {known}")
    factory = found.load()
    return factory


def _installed() -> "Mapping[str, EntryPoint]":
    from importlib.metadata import entry_points  # noqa: PLC0415 - slow to load

    return {found.name: found for found in entry_points(group=ENTRY_POINT_GROUP)}


__all__ = ["Driver", "DriverFactory", "DriverOptions", "driver_names", "load_driver"]
