"""Machines: the driver table and what a server may use of it. Knows neither the wire nor a client.

Drivers are found by name through the entry-point group `virtbackupd.drivers`; third parties add
theirs the same way as ours are added in pyproject.toml.
"""

from importlib.metadata import entry_points

from virtbackupd.drivers.errors import NoConnection
from virtbackupd.drivers.interface import Driver, DriverFactory, DriverOptions

ENTRY_POINT_GROUP = "virtbackupd.drivers"


def driver_names() -> tuple[str, ...]:
    """The names that `--driver SCHEME=NAME` takes."""
    return tuple(sorted(entry_points(group=ENTRY_POINT_GROUP).names))


def load_driver(name: str) -> DriverFactory:
    """The factory of a driver; NoConnection when no installed package offers that name."""
    found = entry_points(group=ENTRY_POINT_GROUP, name=name)
    if not found:
        known = ", ".join(driver_names())
        raise NoConnection(f"there is no driver {name!r}; installed are: {known}")
    factory: DriverFactory = next(iter(found)).load()
    return factory


__all__ = ["Driver", "DriverFactory", "DriverOptions", "driver_names", "load_driver"]
