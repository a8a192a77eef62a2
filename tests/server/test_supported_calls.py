"""The page of supported calls says what the code does."""

import supported_calls

from virtbackupd.drivers import driver_names


def test_the_page_is_up_to_date() -> None:
    assert supported_calls.PAGE.read_text() == supported_calls.page(), "run `make docs`"


def test_every_installed_driver_has_a_column() -> None:
    assert set(driver_names()) == set(supported_calls.CLASSES)
