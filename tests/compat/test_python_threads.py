"""Many threads at once through libvirt-python, on one connection and on several."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import libvirt
from binding import connected, error_code
from daemon_process import Daemon, running_daemon
from documents import checkpoint_xml, domain_xml, pull_xml, unix_server
from tools import free_port

THREADS = 8
ROUNDS = 25
VDA = "<disk name='vda'/>"
JOB_WAIT = 30.0
"""Seconds that libvirt lets a second backup wait before it refuses it."""


def together(*calls: Callable[[], object]) -> list[object]:
    """Run all calls at the same time; what they return, or the first error."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


def test_threads_share_a_connection(machine: libvirt.virDomain) -> None:
    def chain(prefix: str) -> int:
        for number in range(ROUNDS):
            machine.checkpointCreateXML(checkpoint_xml(f"{prefix}-{number}", disks=VDA))
        return ROUNDS

    together(*[lambda prefix=prefix: chain(prefix) for prefix in "abcdefgh"])
    assert len(machine.listAllCheckpoints()) == THREADS * ROUNDS
    assert len(machine.listAllCheckpoints(libvirt.VIR_DOMAIN_CHECKPOINT_LIST_ROOTS)) == 1


def test_replies_find_their_callers(module_connection: libvirt.virConnect) -> None:
    test = module_connection.lookupByName("test")
    questions: list[Callable[[], object]] = [
        test.XMLDesc,
        test.jobStats,
        module_connection.getCapabilities,
        lambda: test.blockInfo("vda"),
    ]
    expected = [question() for question in questions]

    def ask() -> bool:
        return all([question() for question in questions] == expected for _ in range(ROUNDS))

    assert together(*[ask] * THREADS) == [True] * THREADS


def test_each_thread_with_its_own_connection(module_daemon: Daemon) -> None:
    def life(number: int) -> str:
        with connected(module_daemon.uri) as connection:
            name = f"threaded-{number}"
            machine = connection.createXML(domain_xml(name, "", kind="test"))
            for _ in range(ROUNDS):
                machine.suspend()
                machine.resume()
            machine.destroy()
            return name

    calls = [lambda number=number: life(number) for number in range(THREADS)]
    assert len(set(together(*calls))) == THREADS


def test_two_clients_race_to_begin(
    module_daemon: Daemon, machine: libvirt.virDomain, short_dir: Path
) -> None:
    def begin(number: int) -> int | None:
        folder = short_dir / str(number)
        folder.mkdir()
        xml = pull_xml(unix_server(folder / "nbd"), folder)
        with connected(module_daemon.uri) as connection:
            mine = connection.lookupByName(machine.name())
            try:
                mine.backupBegin(xml, checkpoint_xml(f"c{number}", disks=VDA))
            except libvirt.libvirtError as error:
                return error.get_error_code()
        return 0

    started = time.monotonic()
    codes = together(*[lambda number=number: begin(number) for number in range(4)])
    assert sorted(map(str, codes)) == ["0", "68", "68", "68"]
    assert time.monotonic() - started < JOB_WAIT
    assert len(machine.listAllCheckpoints()) == 1


def test_the_loser_of_a_race_leaves_no_file(machine: libvirt.virDomain, short_dir: Path) -> None:
    machine.backupBegin(pull_xml(unix_server(short_dir / "nbd"), short_dir), None)
    other = short_dir / "other"
    other.mkdir()
    second = pull_xml(unix_server(other / "nbd"), other, ["vdb"])
    assert error_code(lambda: machine.backupBegin(second, None)) == 68
    assert list(other.iterdir()) == []


def test_a_slow_reader_of_events_delays_nobody(
    module_daemon: Daemon, machine: libvirt.virDomain
) -> None:
    with connected(module_daemon.uri) as watcher:
        watcher.domainEventRegisterAny(None, 0, lambda *_: None, None)
        for _ in range(ROUNDS):
            machine.suspend()
            machine.resume()
        assert watcher.lookupByName(machine.name()).isActive()


def test_over_tcp(short_dir: Path) -> None:
    port = free_port()
    with running_daemon(short_dir, "--tcp", f"127.0.0.1:{port}") as daemon:
        uris = [f"test+tcp://127.0.0.1:{port}/default", daemon.uri]
        with connected(uris[0]) as far, connected(uris[1]) as near:
            assert (far.isSecure(), near.isSecure()) == (0, 1)
            names = together(*[side.listAllDomains for side in (far, near)] * THREADS)
    assert len(names) == 2 * THREADS
