"""`virtbackupd serve` as a user meets it: the banner, the options, refusals in one line."""

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from binding import connected, wait_until
from daemon_process import Daemon, running_daemon, serve_command
from tools import run

EXECUTABLE = Path(sys.executable).with_name("virtbackupd")
OPTIONS = (
    "--socket-dir", "--tcp", "--state-dir", "--driver", "--world", "--config", "--log-level",
)  # fmt: skip
START_LIMIT = 5.0
"""Seconds of computing, which other work on the machine does not add to as it does to waiting."""
STOP_LIMIT = 60.0


def refused(root: Path, *options: str) -> str:
    """What a daemon that must not start says on standard error."""
    done = subprocess.run(
        serve_command(root, options), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode not in (0, None), done.stdout
    assert not done.stdout.startswith("ready")
    assert "Traceback" not in done.stderr
    return done.stderr.strip()


def test_help_names_every_option() -> None:
    told = run(EXECUTABLE, "serve", "--help")
    assert [option for option in OPTIONS if option not in told] == []


def test_help_and_version_of_the_program() -> None:
    assert "serve" in run(EXECUTABLE, "--help")
    assert re.search(r"\d+\.\d+", run(EXECUTABLE, "--version"))


def test_ready_soon_and_the_first_word(short_dir: Path) -> None:
    with running_daemon(short_dir) as daemon:
        assert computed(daemon) < START_LIMIT
        assert daemon.banner[0].startswith("ready")


def computed(daemon: Daemon) -> float:
    """Seconds of processor time the daemon has had."""
    fields = Path(f"/proc/{daemon.process.pid}/stat").read_text().rpartition(") ")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def test_the_banner_can_be_pasted(daemon: Daemon) -> None:
    daemon.stop()
    assert daemon.process.stdout is not None
    rest = daemon.process.stdout.read()
    assert f"socket={daemon.socket}" in rest
    assert f"socket={daemon.socket}-ro" in rest
    assert "virsh" in rest


def test_defaults_need_no_option(short_dir: Path) -> None:
    environment = {"XDG_RUNTIME_DIR": str(short_dir), "XDG_STATE_HOME": str(short_dir)}
    process = subprocess.Popen(
        [EXECUTABLE, "serve", "--state-dir", short_dir],
        stdout=subprocess.PIPE,
        text=True,
        env={**environment, "HOME": str(short_dir), "PATH": "/usr/bin:/bin"},
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ready")
        process.terminate()
        assert process.wait(STOP_LIMIT) == 0


def test_output_that_nobody_takes(short_dir: Path) -> None:
    with Path("/dev/full").open("w") as full:
        process = subprocess.Popen(serve_command(short_dir, ()), stdout=full, text=True)
    with process:
        wait_until((short_dir / "run" / "libvirt-sock-ro").is_socket, "the daemon listens")
        uri = Daemon(short_dir, process).uri
        assert run("virsh", "-c", uri, "list", "--name").split() == ["test"]
        process.terminate()
        assert process.wait(STOP_LIMIT) == 0


def test_sockets_are_private_to_their_user(daemon: Daemon) -> None:
    assert daemon.socket.is_socket()
    assert daemon.socket.with_name("libvirt-sock-ro").is_socket()


def test_tcp_port_zero_prints_the_port(short_dir: Path) -> None:
    with running_daemon(short_dir, "--tcp", "127.0.0.1:0") as daemon:
        daemon_output = daemon_lines(daemon)
        found = re.search(r"test\+tcp://127\.0\.0\.1:(\d+)/", daemon_output)
        assert found is not None, daemon_output
        uri = f"test+tcp://127.0.0.1:{found[1]}/default"
        assert "test" in run("virsh", "-c", uri, "list", "--name")


def daemon_lines(daemon: Daemon) -> str:
    """The banner, as far as it is needed to find a TCP address."""
    lines = list(daemon.banner)
    assert daemon.process.stdout is not None
    while not any("+tcp://" in line for line in lines):
        line = daemon.process.stdout.readline()
        assert line, lines
        lines.append(line)
    return "\n".join(lines)


def test_a_driver_for_another_scheme(short_dir: Path) -> None:
    with running_daemon(short_dir, "--driver", "xen=memory") as daemon:
        uri = f"xen+unix:///system?socket={daemon.socket}"
        assert "test" in run("virsh", "-c", uri, "list", "--name")


def test_memory_answers_qemu_system(daemon: Daemon) -> None:
    assert run("virsh", "-c", daemon.qemu_uri, "uri").strip() == daemon.qemu_uri
    assert "test" in run("virsh", "-c", daemon.qemu_uri, "list", "--name")


def test_a_socket_in_use(daemon: Daemon, tmp_path: Path) -> None:
    told = refused(daemon.root, "--state-dir", str(tmp_path))
    assert len(told.splitlines()) == 1
    assert str(daemon.socket) in told
    with connected(daemon.uri) as connection:
        assert connection.isAlive()


def test_a_stale_socket_is_replaced(short_dir: Path) -> None:
    run_dir = short_dir / "run"
    run_dir.mkdir()
    for name in ("libvirt-sock", "libvirt-sock-ro"):
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(run_dir / name))
    with running_daemon(short_dir) as daemon:
        assert "test" in run("virsh", "-c", daemon.uri, "list", "--name")


@pytest.mark.parametrize("option", ["--world", "--config"])
def test_a_missing_file(short_dir: Path, option: str) -> None:
    told = refused(short_dir, option, str(short_dir / "missing.toml"))
    assert "missing.toml" in told.splitlines()[-1]


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("--world", "domains = ["),
        ("--world", "[[domains]]\nname = 5\n"),
        ("--world", "surprise = 1\n"),
        ("--world", "\0\xff"),
        ("--config", "max_clients = "),
        ("--config", "max_clients = 'many'\n"),
        ("--config", "\0\xff"),
    ],
)
def test_a_broken_file_is_refused_by_name(short_dir: Path, option: str, text: str) -> None:
    broken = short_dir / "broken.toml"
    broken.write_text(text, encoding="latin-1")
    told = refused(short_dir, option, str(broken))
    assert len(told.splitlines()) == 1
    assert "broken.toml" in told


@pytest.mark.parametrize(
    "options",
    [
        ("--driver", "qemu"),
        ("--driver", "qemu=nothing"),
        ("--tcp", "nonsense"),
        ("--tcp", "127.0.0.1:99999"),
        ("--log-level", "loud"),
        ("--no-such-option",),
        ("--socket-dir", "/dev/null/x"),
        ("--state-dir", "/dev/null/x"),
    ],
)
def test_unknown_values(short_dir: Path, options: tuple[str, ...]) -> None:
    told = refused(short_dir, *options)
    assert options[-1].rpartition("=")[2] in told
    assert len(told.splitlines()) == 1


def test_a_file_where_the_images_should_be(short_dir: Path) -> None:
    (short_dir / "state").mkdir()
    (short_dir / "state" / "memory").write_text("in the way")
    told = refused(short_dir)
    assert len(told.splitlines()) == 1
    assert str(short_dir / "state" / "memory") in told


def test_a_path_too_long_for_a_socket(short_dir: Path) -> None:
    deep = short_dir / ("x" * 120)
    deep.mkdir()
    assert str(deep) in refused(short_dir, "--socket-dir", str(deep))


def test_a_taken_tcp_port(short_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert address in refused(short_dir, "--tcp", address)


def test_a_world_of_ones_own(short_dir: Path) -> None:
    world = short_dir / "world.toml"
    world.write_text(
        "[[domains]]\nname = 'mine'\nstate = 'running'\n"
        "[[domains.disks]]\ntarget = 'vda'\nsize = '2 GiB'\n"
    )
    with running_daemon(short_dir, "--world", str(world)) as daemon:
        assert run("virsh", "-c", daemon.uri, "list", "--name").split() == ["mine"]
        assert "vda" in run("virsh", "-c", daemon.uri, "domblklist", "mine")


def test_the_same_folder_serves_again(short_dir: Path) -> None:
    for _ in range(2):
        with running_daemon(short_dir) as daemon:
            assert daemon.stop() == 0
        assert not daemon.socket.exists()


def test_virsh_is_the_stock_one() -> None:
    assert shutil.which("virsh") == "/usr/bin/virsh"
