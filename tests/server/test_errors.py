"""The table of refusals is complete, and each becomes what stock clients know."""

import pytest

from virtbackupd.drivers import errors as driver
from virtbackupd.drivers.errors import DriverError, NoDomain, Origin
from virtbackupd.server import errors

CLASSES = [
    found
    for found in vars(driver).values()
    if isinstance(found, type) and issubclass(found, DriverError) and found is not DriverError
]


@pytest.mark.parametrize("kind", CLASSES)
def test_every_class_has_a_row(kind: type[DriverError]) -> None:
    assert kind in errors.ROWS


@pytest.mark.parametrize("origin", [origin for origin in Origin if origin is not Origin.DRIVER])
def test_every_origin_has_a_number(origin: Origin) -> None:
    assert origin in errors.ORIGINS


@pytest.mark.parametrize(("scheme", "number"), [("qemu", 10), ("test", 12), ("other", 13)])
def test_origin_of_the_driver_follows_the_scheme(scheme: str, number: int) -> None:
    assert errors.origin_number(Origin.DRIVER, scheme) == number


def test_refusal_of_a_refined_class_uses_its_base() -> None:
    class NoDomainToday(NoDomain):
        pass

    assert errors.refusal(NoDomainToday("x")).code == 42


def test_detail_may_look_like_a_format() -> None:
    error = errors.refusal(NoDomain("100%s"))
    assert (error.message, error.str2) == ("Domain not found: 100%s", "100%s")


def test_flags_carry_no_prefix() -> None:
    assert errors.refusal(driver.UnsupportedFlags("flag 8")).message == "flag 8"


def test_refusal_without_a_row_is_internal() -> None:
    assert errors.refusal(DriverError("x")).code == 1


def test_explicit_origin_wins() -> None:
    error = errors.refusal(NoDomain("x", origin=Origin.DOMAIN_CHECKPOINT), "qemu")
    assert error.domain == 69
