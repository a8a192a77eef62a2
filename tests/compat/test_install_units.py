"""What `install-units` writes, judged by systemd's own tools."""

import subprocess
import sys
from pathlib import Path

import pytest

from virtbackupd.server.commands.install_units import PLACES, UNITS
from virtbackupd.server.settings_file import load_settings

PROGRAM = Path(sys.executable).with_name("virtbackupd")


def install(root: Path) -> str:
    done = subprocess.run(
        [PROGRAM, "install-units", "--root", root], capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.fixture
def root(tmp_path: Path) -> Path:
    install(tmp_path)
    return tmp_path


def test_every_file_is_where_systemd_looks(root: Path) -> None:
    found = {path.relative_to(root) for path in root.rglob("*") if path.is_file()}
    assert found == set(PLACES.values())


def test_systemd_finds_nothing_wrong(root: Path) -> None:
    units = sorted((root / UNITS).iterdir())
    done = subprocess.run(
        ["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False
    )
    complaints = [line for line in done.stderr.splitlines() if "virtbackupd" in line]
    assert (done.returncode, complaints) == (0, [])


def test_service_runs_this_program(root: Path) -> None:
    text = (root / UNITS / "virtbackupd.service").read_text()
    assert f"ExecStart={PROGRAM} serve --config /etc/virtbackupd/virtbackupd.conf" in text


def test_users_and_groups_are_understood(root: Path) -> None:
    done = subprocess.run(
        ["systemd-sysusers", "--dry-run", root / "usr/lib/sysusers.d/virtbackupd.conf"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Creating group 'virtbackupd'" in done.stdout + done.stderr


def test_configuration_is_taken(root: Path) -> None:
    loaded = load_settings(root / "etc/virtbackupd/virtbackupd.conf")
    assert not loaded.warnings
    assert loaded.tables == {"qemu": {"user": "virtbackupd-qemu"}}


def test_keys_can_be_appended_to_the_configuration(root: Path, tmp_path: Path) -> None:
    text = (root / "etc/virtbackupd/virtbackupd.conf").read_text()
    (tmp_path / "conf").write_text(f"{text}max_clients = 7\n")
    assert load_settings(tmp_path / "conf").settings.max_clients == 7


def test_configuration_that_is_there_stays(root: Path) -> None:
    path = root / "etc/virtbackupd/virtbackupd.conf"
    path.write_text("max_clients = 7\n")
    assert f"{path} stays as it is" in install(root)
    assert path.read_text() == "max_clients = 7\n"
