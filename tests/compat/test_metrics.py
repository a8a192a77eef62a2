"""Metrics of a real daemon, as a backup client makes them move."""

import urllib.request
from collections.abc import Iterator
from pathlib import Path

import libvirt
import pytest
from binding import connected, wait_until
from daemon_process import Daemon, running_daemon
from documents import checkpoint_xml, pull_xml, push_disk, push_xml, unix_server
from metrics_page import MetricsPage
from tools import nbd_map, nbd_read, unix_uri

VDA = "<disk name='vda'/>"
CAPACITY = 64 << 20


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with running_daemon(tmp_path_factory.mktemp("m"), "--metrics", "0") as found:
        yield found


@pytest.fixture
def domain(daemon: Daemon) -> Iterator[libvirt.virDomain]:
    with connected(daemon.test_uri) as connection:
        yield connection.lookupByName("test")


def page(daemon: Daemon) -> MetricsPage:
    address = daemon.network_uri("metrics")
    with urllib.request.urlopen(f"{address}/metrics", timeout=60) as reply:
        return MetricsPage(reply.read().decode())


def test_a_pull_backup_is_seen(daemon: Daemon, domain: libvirt.virDomain, tmp_path: Path) -> None:
    nbd = tmp_path / "nbd"
    before = page(daemon)
    domain.backupBegin(pull_xml(unix_server(nbd), tmp_path), checkpoint_xml("c", disks=VDA), 0)
    nbd_read(unix_uri(nbd), 0, 65536)
    nbd_map(unix_uri(nbd))
    during = page(daemon)
    domain.abortJob()
    wait_until(lambda: domain.jobStats() == {"type": 0}, "the backup to end")
    after = page(daemon)
    running = [
        each.value("backups", driver="memory", mode="pull", state="running")
        for each in (before, during, after)
    ]
    assert running == [0, 1, 0]
    assert after.value("backups_ended_total", driver="memory", result="completed") == 1
    assert after.value("nbd_read_bytes_total", driver="memory") == 65536
    assert after.value("nbd_requests_total", driver="memory", command="read") == 1
    assert after.value("nbd_requests_total", driver="memory", command="block-status") >= 1
    assert after.value("nbd_clients_accepted_total", driver="memory") >= 2


def test_a_push_backup_is_seen(daemon: Daemon, domain: libvirt.virDomain, tmp_path: Path) -> None:
    before = page(daemon)
    domain.backupBegin(push_xml(push_disk("vda", tmp_path / "out.qcow2")), None, 0)
    wait_until(lambda: domain.jobStats() == {"type": 0}, "the backup to end")
    after = page(daemon)
    name = "backups_ended_bytes_total"
    copied = [each.value(name, driver="memory", kind="copied") for each in (before, after)]
    assert copied[1] - copied[0] == CAPACITY


def test_calls_of_a_stock_client_are_seen(daemon: Daemon, domain: libvirt.virDomain) -> None:
    domain.state()
    found = page(daemon)
    assert found.value("calls_total", procedure="virDomainGetState", result="ok") >= 1
    assert found.value("call_seconds_count", procedure="virDomainGetState") >= 1
    # Those of the tests before may still be on their way out.
    wait_until(lambda: page(daemon).value("clients", transport="unix") == 1, "one client is there")
