"""Settings of the QEMU driver: what the daemon's configuration says, over its own file."""

import os
from pathlib import Path

import pytest

from virtbackupd.drivers.errors import ConfigUnsupported
from virtbackupd.drivers.qemu.config import load_settings


def test_settings_of_the_configuration_are_taken(tmp_path: Path) -> None:
    assert load_settings(tmp_path, {"bitmap_granularity": 65536}).bitmap_granularity == 65536


def test_configuration_wins_over_the_drivers_own_file(tmp_path: Path) -> None:
    (tmp_path / "qemu.toml").write_text('user = "one"\ngroup = "kept"\n')
    settings = load_settings(tmp_path, {"user": "two"})
    assert (settings.user, settings.group) == ("two", "kept")


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"usr": "x"}, r"\[qemu\]: .*unknown field `usr`"),
        ({"user": 3}, r"\[qemu\]: Expected `str \| null`, got `int` - at `\$.user`"),
        ({"bitmap_granularity": 1000}, r"\[qemu\]: bitmap_granularity is 1000, allowed are"),
    ],
)
def test_wrong_setting_is_refused(tmp_path: Path, given: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigUnsupported, match=complaint):
        load_settings(tmp_path, given)


def test_qemu_may_pass_to_what_it_needs_whatever_the_umask(state_dir: Path) -> None:
    """A service has a strict one, and QEMU runs as another user."""
    before = os.umask(0o077)
    try:
        load_settings(state_dir / "qemu").make_folders()
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (state_dir / "qemu").iterdir()}
    assert {name for name, mode in modes.items() if mode == 0o711} == {
        "checkpoint", "lib", "log", "nvram",
    }  # fmt: skip
    assert {mode for mode in modes.values() if mode != 0o711} == {0o700}
    assert (state_dir / "qemu").stat().st_mode & 0o777 == 0o711


def test_wrong_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "qemu.toml").write_text("user = 3\n")
    with pytest.raises(ConfigUnsupported, match=r"/qemu\.toml: Expected"):
        load_settings(tmp_path)
