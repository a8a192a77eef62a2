"""Stock virt-admin on the administration socket."""

import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import libvirt
import pytest
from binding import connected, wait_until
from daemon_process import STOP_DEADLINE, Daemon, running_daemon
from tools import TOOL_DEADLINE


@dataclass(frozen=True)
class Admin:
    """virt-admin, connected to one daemon."""

    daemon: Daemon

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        socket = self.daemon.socket.with_name("libvirt-admin-sock")
        uri = f"libvirtd+unix:///system?socket={socket}"
        command = ["virt-admin", "-c", uri, *words]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=TOOL_DEADLINE, check=False
        )

    def __call__(self, *words: str) -> str:
        done = self.run(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refused(self, *words: str) -> str:
        done = self.run(*words)
        assert done.returncode != 0, done.stdout
        return done.stderr

    def table(self, *words: str) -> list[list[str]]:
        """The rows under the line of dashes."""
        return [line.split() for line in self(*words).splitlines()[2:] if line]

    def figures(self, *words: str) -> dict[str, str]:
        rows = (line.partition(":") for line in self(*words).splitlines() if line)
        return {name.strip(): value.strip() for name, _, value in rows}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with running_daemon(tmp_path_factory.mktemp("admin")) as started:
        yield started


@pytest.fixture(scope="module")
def admin(daemon: Daemon) -> Admin:
    return Admin(daemon)


def test_servers(admin: Admin) -> None:
    assert admin.table("server-list") == [["0", "libvirtd"], ["1", "admin"]]


def test_version(admin: Admin) -> None:
    assert "Running against daemon: 11.10.0" in admin("version")


def clients(admin: Admin, server: str = "libvirtd", count: int = 1) -> list[list[str]]:
    """The list, once those who have hung up before are not in it any more."""
    wait_until(lambda: len(admin.table("client-list", server)) == count, f"{count} clients")
    return admin.table("client-list", server)


def test_a_client_is_listed_while_it_is_connected(admin: Admin) -> None:
    with connected(admin.daemon.uri):
        ((number, transport, *_since),) = clients(admin)
        assert transport == "unix"
        assert admin.figures("client-info", "libvirtd", number)["unix_user_id"] == "0"
    assert clients(admin, count=0) == []


def test_a_read_only_client_is_known_as_one(admin: Admin) -> None:
    with connected(admin.daemon.read_only_uri):
        ((number, *_),) = clients(admin)
        assert admin.figures("client-info", "libvirtd", number)["readonly"] == "yes"


def test_virt_admin_is_a_client_itself(admin: Admin) -> None:
    wait_until(lambda: len(admin.table("client-list", "admin")) == 1, "only the one that asks")


def test_a_client_is_disconnected(admin: Admin) -> None:
    with connected(admin.daemon.uri) as connection:
        ((number, *_),) = clients(admin)
        admin("client-disconnect", "libvirtd", number)
        with pytest.raises(libvirt.libvirtError):
            connection.getHostname()


def test_an_unknown_client_is_named(admin: Admin) -> None:
    told = admin.refused("client-info", "libvirtd", "99999")
    assert "Client not found: server libvirtd has no client with id 99999" in told


def test_an_unknown_server_is_named(admin: Admin) -> None:
    assert "Server not found: there is no server named 'x'" in admin.refused("client-list", "x")


def test_limits_hold_from_now_on(admin: Admin) -> None:
    admin("server-clients-set", "libvirtd", "--max-clients", "100", "--max-unauth-clients", "7")
    figures = admin.figures("server-clients-info", "libvirtd")
    assert (figures["nclients_max"], figures["nclients_unauth_max"]) == ("100", "7")


def test_limits_of_the_configuration_are_shown(short_dir: Path) -> None:
    file = short_dir / "conf"
    file.write_text("max_clients = 70\nadmin_max_clients = 3\n")
    with running_daemon(short_dir, "--config", str(file)) as daemon:
        admin = Admin(daemon)
        assert admin.figures("server-clients-info", "admin")["nclients_max"] == "3"
        file.write_text("max_clients = 80\nadmin_max_clients = 4\n")
        daemon.process.send_signal(signal.SIGHUP)
        for server, most in (("libvirtd", "80"), ("admin", "4")):
            shown = partial(admin.figures, "server-clients-info", server)
            wait_until(lambda: shown()["nclients_max"] == most, "the limit")  # noqa: B023


def test_a_pool_of_workers_is_not_there(admin: Admin) -> None:
    assert set(admin.figures("server-threadpool-info", "libvirtd").values()) == {"0"}
    told = admin.refused("server-threadpool-set", "libvirtd", "--max-workers", "3")
    assert "no pool of workers" in told


def test_log_filters_are_changed(admin: Admin) -> None:
    admin("daemon-log-filters", "1:qemu 3:event")
    assert "1:qemu 3:event" in admin("daemon-log-filters")
    admin("daemon-log-filters", "")
    assert "1:qemu" not in admin("daemon-log-filters")


def test_log_outputs_are_changed(admin: Admin) -> None:
    path = admin.daemon.root / "second.log"
    admin("daemon-log-outputs", f"1:file:{path}")
    assert str(path) in admin("daemon-log-outputs")
    wait_until(path.exists, "the log")


@pytest.mark.parametrize("words", [("daemon-log-filters", "x"), ("daemon-log-outputs", "5:x")])
def test_wrong_log_settings_are_refused(admin: Admin, words: tuple[str, str]) -> None:
    assert "invalid argument" in admin.refused(*words)


def test_without_tls_there_is_nothing_to_update(admin: Admin) -> None:
    assert "does not listen for TLS" in admin.refused("server-update-tls", "libvirtd")


def test_the_timeout_ends_an_idle_daemon(tmp_path_factory: pytest.TempPathFactory) -> None:
    world = tmp_path_factory.mktemp("empty") / "world.toml"
    world.write_text("")
    with running_daemon(tmp_path_factory.mktemp("idle"), "--world", str(world)) as daemon:
        Admin(daemon)("daemon-timeout", "--timeout", "1")
        assert daemon.process.wait(STOP_DEADLINE) == 0
