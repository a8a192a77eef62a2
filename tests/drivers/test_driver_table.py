"""Finding drivers by name."""

from importlib.metadata import entry_points

import pytest

from virtbackupd.drivers import ENTRY_POINT_GROUP, OWN, load_driver
from virtbackupd.drivers.errors import NoConnection


def test_own_drivers_are_those_that_the_package_declares() -> None:
    declared = entry_points(group=ENTRY_POINT_GROUP)
    assert {f"{module}:open_driver" for module in OWN.values()} <= {x.value for x in declared}


@pytest.mark.parametrize("name", OWN)
def test_an_own_driver_is_the_one_that_is_declared(name: str) -> None:
    (declared,) = entry_points(group=ENTRY_POINT_GROUP, name=name)
    assert load_driver(name) is declared.load()


def test_an_unknown_driver_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(NoConnection, match=r"'nope'.*memory, qemu"):
        load_driver("nope")
