"""The command line: help, version, and one clear line for what is wrong. Nothing is started."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from virtbackupd.server.cli import main


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def serve(folder: Path, *arguments: str) -> Result:
    places = ("--socket-dir", str(folder / "s"), "--state-dir", str(folder / "st"))
    return run("serve", *places, *arguments)


OPTIONS = (
    "--socket-dir --tcp --state-dir --driver --world --config --log-level".split()  # noqa: SIM905
)


@pytest.mark.parametrize("option", OPTIONS)
def test_help_names_every_option(option: str) -> None:
    assert option in run("serve", "--help").output


def test_version() -> None:
    assert run("--version").output.startswith("virtbackupd, version ")


@pytest.mark.parametrize(
    ("option", "value"),
    [("--tcp", "nowhere"), ("--driver", "test"), ("--log-level", "loud"), ("--bogus", "1")],
)
def test_wrong_use_is_a_usage_error(tmp_path: Path, option: str, value: str) -> None:
    result = serve(tmp_path, option, value)
    assert result.exit_code == 2
    assert option in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--driver", "test=none"), "there is no driver 'none'"),
        (("--world", "/nonexistent"), "cannot read /nonexistent: No such file"),
        (("--config", "/nonexistent"), "cannot read /nonexistent: No such file"),
        (("--tcp", "192.0.2.1:0"), "cannot listen on 192.0.2.1:0: Cannot assign"),
        (("--tcp", "a..b:0"), "cannot listen on a..b:0: no host can be called so"),
        (("--socket-dir", "/proc/nowhere"), "cannot make the socket directory /proc/nowhere"),
        (("--state-dir", "/proc/nowhere"), "cannot make the state directory /proc/nowhere"),
    ],
)
def test_what_is_in_the_way_is_one_line(
    tmp_path: Path, arguments: tuple[str, ...], complaint: str
) -> None:
    result = serve(tmp_path, *arguments)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"virtbackupd: {complaint}")
    assert len(result.stderr.splitlines()) == 1


def test_wrong_setting_in_a_file_is_one_line(tmp_path: Path) -> None:
    config = tmp_path / "conf"
    config.write_text("max_clients = 0")
    result = serve(tmp_path, "--config", str(config))
    assert result.exit_code == 1
    assert result.stderr.startswith(f"virtbackupd: {config}:1: max_clients:")


def test_nothing_is_left_behind_when_it_cannot_start(tmp_path: Path) -> None:
    serve(tmp_path, "--tcp", "192.0.2.1:0")
    assert not (tmp_path / "s" / "libvirt-sock").exists()
