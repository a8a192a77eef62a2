"""`serve --env-file` as a script uses it."""

import re
import subprocess
from pathlib import Path

import pytest
from binding import connected
from daemon_process import running_daemon, serve_command
from tools import run


def sourced(file: Path, name: str) -> str:
    """A variable as a shell sees it that has read the file."""
    return run("sh", "-uc", f'. "$0"; printf %s "${name}"', file)


def test_a_shell_finds_the_daemon_in_the_file(short_dir: Path) -> None:
    file = short_dir / "it's here.env"
    with running_daemon(short_dir, "--env-file", str(file), "--tcp", "127.0.0.1:0") as daemon:
        assert sourced(file, "LIBVIRT_DEFAULT_URI") == daemon.test_uri
        assert sourced(file, "VIRTBACKUPD_READONLY_URI") == f"{daemon.test_uri}-ro"
        assert sourced(file, "VIRTBACKUPD_PID") == str(daemon.process.pid)
        with connected(sourced(file, "VIRTBACKUPD_TCP_URI")) as connection:
            assert connection.lookupByName("test").isActive()


@pytest.mark.parametrize("endpoint", ["control", "metrics"])
def test_http_endpoints_are_in_the_file(short_dir: Path, endpoint: str) -> None:
    file = short_dir / "env"
    with running_daemon(short_dir, "--env-file", str(file), f"--{endpoint}", "0"):
        url = sourced(file, f"VIRTBACKUPD_{endpoint.upper()}_URL")
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", url)


def test_what_is_not_there_is_not_in_the_file(short_dir: Path) -> None:
    file = short_dir / "env"
    with running_daemon(short_dir, "--env-file", str(file)):
        assert "TCP" not in file.read_text()
        assert "CONTROL" not in file.read_text()


def test_a_relative_socket_folder_is_told_in_full(short_dir: Path) -> None:
    command = serve_command(Path(), ("--env-file", "env"))
    process = subprocess.Popen(command, cwd=short_dir, stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ready")
        uri = sourced(short_dir / "env", "VIRTBACKUPD_URI")
        process.terminate()
    assert uri.endswith(f"?socket={short_dir}/run/libvirt-sock")


def test_the_file_goes_with_the_daemon(short_dir: Path) -> None:
    file = short_dir / "env"
    with running_daemon(short_dir, "--env-file", str(file)) as daemon:
        assert daemon.stop() == 0
        assert not file.exists()


def test_a_file_of_another_daemon_stays(short_dir: Path) -> None:
    file = short_dir / "env"
    with (
        running_daemon(short_dir / "a", "--env-file", str(file)) as first,
        running_daemon(short_dir / "b", "--env-file", str(file)) as second,
    ):
        assert first.stop() == 0
        assert sourced(file, "VIRTBACKUPD_PID") == str(second.process.pid)


def test_a_daemon_that_cannot_start_leaves_the_file_of_another(short_dir: Path) -> None:
    options = ("--env-file", str(short_dir / "env"))
    with running_daemon(short_dir, *options) as daemon:
        second = serve_command(short_dir, options)
        assert subprocess.run(second, stderr=subprocess.DEVNULL, check=False).returncode == 1
        assert sourced(short_dir / "env", "VIRTBACKUPD_PID") == str(daemon.process.pid)


def test_a_file_that_a_dead_daemon_left_is_gone_before_there_is_another(short_dir: Path) -> None:
    file = short_dir / "env"
    with running_daemon(short_dir, "--env-file", str(file)) as daemon:
        daemon.process.kill()
    assert file.exists()
    (short_dir / "world.toml").write_text("domains = 1")
    refused = serve_command(
        short_dir, ("--env-file", str(file), "--world", str(short_dir / "world.toml"))
    )
    assert subprocess.run(refused, stderr=subprocess.DEVNULL, check=False).returncode == 1
    assert not file.exists()


def test_a_file_that_cannot_be_written_is_refused_in_one_line(short_dir: Path) -> None:
    file = short_dir / "missing" / "env"
    done = subprocess.run(
        serve_command(short_dir, ("--env-file", str(file))),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.strip().endswith(f"cannot write {file}: No such file or directory")


def test_an_address_that_says_all_is_told_as_the_advertised_one(short_dir: Path) -> None:
    file = short_dir / "env"
    options = ("--env-file", str(file), "--tcp", "0.0.0.0:0", "--advertise", "backup.example")
    with running_daemon(short_dir, *options):
        uri = sourced(file, "VIRTBACKUPD_TCP_URI")
        assert re.fullmatch(r"test\+tcp://backup\.example:\d+/default", uri)


def test_without_a_name_an_address_that_says_all_is_told_as_localhost(short_dir: Path) -> None:
    file = short_dir / "env"
    with (
        running_daemon(short_dir, "--env-file", str(file), "--tcp", "0.0.0.0:0"),
        connected(sourced(file, "VIRTBACKUPD_TCP_URI")) as connection,
    ):
        assert connection.lookupByName("test").isActive()
