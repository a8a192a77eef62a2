"""Who gets the files that are made for QEMU."""

from pathlib import Path

import pytest

from virtbackupd.drivers.errors import ConfigUnsupported
from virtbackupd.drivers.qemu.config import Settings
from virtbackupd.drivers.qemu.labels import Owner, owner_of_store, parse_label

SETTINGS = Settings(Path("/nowhere"), "/usr/bin/qemu")
DAC = "<seclabel model='dac' relabel='{}'><label>+107:+36</label></seclabel>"


@pytest.mark.parametrize(
    ("label", "owner"),
    [("+107:+36", Owner(107, 36)), ("107:36", Owner(107, 36)), ("root:root", Owner(0, 0))],
)
def test_labels(label: str, owner: Owner) -> None:
    assert parse_label(label) == owner


@pytest.mark.parametrize("label", ["root", "+x:+1", "no such user:root", ":"])
def test_labels_that_name_nobody(label: str) -> None:
    with pytest.raises(ConfigUnsupported):
        parse_label(label)


def test_a_label_is_taken() -> None:
    assert owner_of_store([DAC.format("yes")], SETTINGS) == Owner(107, 36)


def test_a_file_can_be_left_as_it_is() -> None:
    assert owner_of_store([DAC.format("no")], SETTINGS) == Owner()


def test_other_models_are_passed_over() -> None:
    text = "<seclabel model='selinux'><label>system_u</label></seclabel>"
    assert owner_of_store([text], SETTINGS) == Owner()


def test_nothing_changes_without_a_user_of_qemus() -> None:
    assert owner_of_store([], SETTINGS) == Owner()
