"""Stopping the daemon: a clean exit whatever is going on, and nothing left behind."""

import signal
import socket
from contextlib import ExitStack
from pathlib import Path

import libvirt
import pytest
from binding import Recorder, connected, error_code, hold_push
from daemon_process import Daemon
from documents import pull_xml, push_disk, push_xml, unix_server
from tools import nbd_read, unix_uri


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_daemon(daemon: Daemon, number: int) -> None:
    assert daemon.stop(number) == 0
    assert not daemon.socket.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_while_a_pull_backup_runs(
    daemon: Daemon, domain: libvirt.virDomain, short_dir: Path, number: int
) -> None:
    domain.backupBegin(pull_xml(unix_server(short_dir / "nbd"), short_dir), None)
    assert len(nbd_read(unix_uri(short_dir / "nbd"), 0, 4096)) == 4096
    assert daemon.stop(number) == 0
    assert not (short_dir / "nbd").exists()
    assert not (short_dir / "scratch-vda").exists()


def test_while_an_nbd_client_is_connected(
    daemon: Daemon, domain: libvirt.virDomain, short_dir: Path
) -> None:
    domain.backupBegin(pull_xml(unix_server(short_dir / "nbd"), short_dir), None)
    with socket.socket(socket.AF_UNIX) as reader:
        reader.connect(str(short_dir / "nbd"))
        assert reader.recv(8) == b"NBDMAGIC"
        assert daemon.stop() == 0


def test_while_a_push_backup_runs(
    daemon: Daemon, domain: libvirt.virDomain, short_dir: Path
) -> None:
    hold_push(domain)
    domain.backupBegin(push_xml(push_disk("vda", short_dir / "image")), None)
    assert (short_dir / "image").exists()
    assert daemon.stop() == 0
    assert not (short_dir / "image").exists()


def test_clients_see_the_end(daemon: Daemon, connection: libvirt.virConnect) -> None:
    assert daemon.stop() == 0
    assert error_code(connection.listAllDomains) is not None


def test_with_many_idle_clients(daemon: Daemon) -> None:
    with ExitStack() as stack:
        for _ in range(50):
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.connect(str(daemon.socket))
        assert daemon.stop() == 0


def test_with_a_client_in_the_middle_of_a_message(daemon: Daemon) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(daemon.socket))
        client.sendall(b"\0\0")
        assert daemon.stop() == 0


def test_with_event_listeners(daemon: Daemon) -> None:
    with connected(daemon.uri) as connection:
        connection.domainEventRegisterAny(None, 0, Recorder(), "life")
        assert daemon.stop() == 0
