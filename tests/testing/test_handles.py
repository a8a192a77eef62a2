"""The handle of a server: guests, worlds, time and faults, from every thread."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import libvirt
import msgspec
import pytest
import trio
from binding import connected, error_code
from small_backup import back_up

from virtbackupd.testing import DriverError, Range, Server, open_server, serve


class _Scenarios(msgspec.Struct):
    """What the command `scenarios` answers."""

    scenarios: dict[str, str]


MIB = 1024 * 1024
CLUSTER = 65_536
CHECKPOINT = "<domaincheckpoint><name>{}</name></domaincheckpoint>"


@pytest.fixture
def server() -> Iterator[Server]:
    with serve() as found:
        yield found


@pytest.fixture
def domain(server: Server) -> Iterator[libvirt.virDomain]:
    with connected(server.uri) as connection:
        yield connection.lookupByName("test")


# Guests and the oracle


def test_guest_reads_what_it_wrote(server: Server) -> None:
    guest = server.domain()
    guest.zero("vda", 0, 100)
    guest.write("vda", 10, b"hello")
    assert guest.read("vda", 9, 7) == b"\0hello\0"


@pytest.mark.parametrize("name", ["zero", "discard"])
def test_guest_takes_back_what_it_wrote(server: Server, name: str) -> None:
    guest = server.domain()
    guest.write("vda", 0, b"x" * CLUSTER)
    take_back: Callable[[str, int, int], None] = getattr(guest, name)
    take_back("vda", 0, CLUSTER)
    assert guest.read("vda", 0, CLUSTER) == bytes(CLUSTER)


def test_oracle_knows_what_changed(server: Server, domain: libvirt.virDomain) -> None:
    domain.checkpointCreateXML(CHECKPOINT.format("monday"))
    server.domain().write("vda", 3 * CLUSTER, b"x")
    assert server.domain().changed_ranges("vda", "monday") == [Range(3 * CLUSTER, CLUSTER)]


def test_backup_reads_only_what_changed(
    server: Server, domain: libvirt.virDomain, tmp_path: Path
) -> None:
    guest = server.domain()
    guest.write("vda", 0, b"x" * MIB)
    back_up(domain, tmp_path, ["vda", "vdb"], "full")
    guest.write("vda", 4 * CLUSTER, b"y" * CLUSTER)
    guest.clear_nbd_reads()
    back_up(domain, tmp_path, ["vda", "vdb"], "later", since="full")
    assert guest.nbd_reads("vda").ranges == [Range(4 * CLUSTER, CLUSTER)]
    assert guest.reads_outside_changes("vda") == []
    assert guest.compare("vda", tmp_path / "vda.raw")


def test_comparison_tells_where_an_image_differs(
    server: Server, domain: libvirt.virDomain, tmp_path: Path
) -> None:
    back_up(domain, tmp_path, ["vda", "vdb"], "full")
    server.domain().write("vda", 2 * MIB, b"x" * 512)
    found = server.domain().compare("vda", tmp_path / "vda.raw")
    assert not found
    assert found.differences[0].offset == 2 * MIB


def test_image_is_compared_with_a_mark(
    server: Server, domain: libvirt.virDomain, tmp_path: Path
) -> None:
    guest = server.domain()
    guest.mark("then", "vda")
    back_up(domain, tmp_path, ["vda", "vdb"], "full")
    guest.write("vda", 0, b"later")
    assert guest.compare("vda", tmp_path / "vda.raw", mark="then", format="raw")
    assert not guest.compare("vda", tmp_path / "vda.raw")


def test_next_backup_can_be_marked(
    server: Server, domain: libvirt.virDomain, tmp_path: Path
) -> None:
    guest = server.domain()
    guest.mark("backup", next_backup=True)
    guest.write("vda", 0, b"before")
    back_up(domain, tmp_path, ["vda", "vdb"], "full")
    guest.write_pattern("vda", 0, CLUSTER, seed=5)
    assert guest.compare("vda", tmp_path / "vda.raw", mark="backup")


def test_long_reads_are_put_together(server: Server) -> None:
    guest = server.domain()
    guest.zero("vda", 0, 4 * MIB)
    guest.write("vda", 3 * MIB, b"end")
    assert guest.read("vda", 1, 3 * MIB + 2) == bytes(3 * MIB - 1) + b"end"


def test_wrong_command_is_refused_with_its_reason(server: Server) -> None:
    with pytest.raises(DriverError, match="there is no control command 'nonsense'; known are:"):
        server.control("nonsense")


def test_unknown_domain_is_refused(server: Server) -> None:
    with pytest.raises(DriverError, match="'none'"):
        server.domain("none").read("vda", 0, 1)


# Worlds


def test_snapshot_is_restored(server: Server, domain: libvirt.virDomain) -> None:
    guest = server.domain()
    guest.write("vda", 0, b"before")
    server.snapshot("clean")
    guest.write("vda", 0, b"behind")
    domain.destroy()
    server.restore("clean")
    assert guest.read("vda", 0, 6) == b"before"


def test_reset_goes_back_to_the_start(server: Server, domain: libvirt.virDomain) -> None:
    domain.checkpointCreateXML(CHECKPOINT.format("monday"))
    server.reset()
    assert domain.listAllCheckpoints() == []


def test_saved_world_can_be_loaded_by_another_server(server: Server, tmp_path: Path) -> None:
    server.domain().write("vda", 0, b"kept")
    server.save(tmp_path / "world")
    with serve() as other:
        other.load(tmp_path / "world")
        assert other.domain().read("vda", 0, 4) == b"kept"


# Time


def test_stopped_clock_moves_when_it_is_told(server: Server) -> None:
    server.clock.stop()
    before = server.clock.time()
    server.clock.step(3600)
    assert server.clock.time() == pytest.approx(before + 3600)


def test_clock_of_the_options_stands() -> None:
    with serve(clock="2026-01-31T12:00:00Z") as server:
        assert server.clock.time() == server.clock.time() == 1_769_860_800


def test_clock_can_be_set(server: Server) -> None:
    server.clock.stop()
    server.clock.set(1000)
    assert server.clock.time() == 1000
    server.clock.start()


# Faults


def test_rules_are_loaded_and_hit(server: Server, domain: libvirt.virDomain) -> None:
    server.faults.load(
        [
            {
                "match": {"procedure": "virDomainSuspend"},
                "effect": {"kind": "error", "code": "OPERATION_FAILED"},
            }
        ]
    )
    assert len(server.faults.unmatched()) == 1
    assert error_code(domain.suspend) == libvirt.VIR_ERR_OPERATION_FAILED
    assert server.faults.unmatched() == []


def test_file_of_rules_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "faults.toml"
    rule = 'match = { procedure = "virDomainSuspend" }\neffect = { kind = "drop" }\n'
    path.write_text(f"[[faults]]\n{rule}")
    with serve(faults=path) as server:
        assert server.faults.unmatched() == [f"{path}:1: drop, hits: 0"]


async def test_rules_are_loaded_in_the_loop_of_a_test() -> None:
    rules = [{"match": {"event": "lifecycle"}, "effect": {"kind": "lose"}}]
    async with open_server(faults=rules) as server:
        assert len(server.faults.unmatched()) == 1


def test_scenario_is_loaded_by_its_name(server: Server) -> None:
    scenarios = msgspec.convert(server.control("scenarios"), _Scenarios).scenarios
    server.scenario(next(iter(scenarios)))
    assert server.faults.unmatched()


def test_connection_that_a_fault_drops_is_in_the_transcript(
    server: Server, domain: libvirt.virDomain
) -> None:
    server.faults.load([{"match": {"procedure": "virDomainSuspend"}, "effect": {"kind": "drop"}}])
    assert error_code(domain.suspend) is not None
    assert "virDomainSuspend(dom=test) = error" in server.transcript.text()


def test_rules_can_be_forgotten(server: Server, domain: libvirt.virDomain) -> None:
    server.faults.load(
        [
            {
                "match": {"procedure": "virDomainSuspend"},
                "effect": {"kind": "error", "code": "OPERATION_FAILED"},
            }
        ]
    )
    server.faults.clear()
    domain.suspend()


# Threads and loops


def test_handle_can_be_used_by_many_threads(server: Server) -> None:
    guest = server.domain()

    def work(number: int) -> bytes:
        for _ in range(20):
            guest.write("vda", number * 512, bytes([number]) * 512)
        return guest.read("vda", number * 512, 512)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(work, range(8)))
    assert found == [bytes([number]) * 512 for number in range(8)]


async def test_what_answers_at_once_works_in_the_loop_of_the_server() -> None:
    async with open_server() as server:
        server.domain().write("vda", 0, b"x")
        assert server.domain().read("vda", 0, 1) == b"x"


async def test_what_waits_is_refused_in_the_loop_of_the_server() -> None:
    async with open_server(clock="stopped") as server:
        with pytest.raises(RuntimeError, match=r"await trio\.to_thread\.run_sync"):
            server.clock.step(1)


async def test_what_waits_works_from_a_thread_of_that_loop() -> None:
    async with open_server(clock="stopped") as server:
        before = server.clock.time()
        await trio.to_thread.run_sync(server.clock.step, 5.0)
        assert server.clock.time() == before + 5
