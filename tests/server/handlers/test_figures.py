"""Lists of figures: how much of an answer goes to a client with that much room."""

import pytest
from raw_client import RawClient

from virtbackupd.drivers.events import TypedParameter
from virtbackupd.drivers.interface import VcpuInfo
from virtbackupd.server.handlers.figures import FIGURES

TEST = ("test", bytes(range(16)), 1)
NO_SUPPORT = 3
VCPUS = [VcpuInfo(0, 1, 7, 0, b"\3"), VcpuInfo(1, 1, 7, 1, b"\3")]
TIMES = [[TypedParameter("cpu_time", 4, time)] for time in (5, 6)]
FIVE, SIX = ("cpu_time", (4, 5)), ("cpu_time", (4, 6))


def test_the_client_says_how_many_it_takes() -> None:
    assert FIGURES["DOMAIN_MEMORY_STATS"].encode([(6, 1), (7, 1)], (1, 0)) == ([(6, 1)],)


@pytest.mark.parametrize(("room", "answer"), [(0, ([], 1)), (1, ([("vda", 1)], 1))])
def test_a_client_without_room_for_disk_errors_learns_their_number(
    room: int, answer: object
) -> None:
    assert FIGURES["DOMAIN_GET_DISK_ERRORS"].encode([("vda", 1)], (room, 0)) == answer


@pytest.mark.parametrize(("length", "maps"), [(0, b""), (1, b"\3\3"), (2, b"\3\0\3\0")])
def test_processor_maps_have_the_length_that_is_asked_for(length: int, maps: bytes) -> None:
    infos = [(0, 1, 7, 0), (1, 1, 7, 1)]
    assert FIGURES["DOMAIN_GET_VCPUS"].encode(VCPUS, (2, length)) == (infos, maps)


def test_fewer_processors_than_there_are() -> None:
    assert FIGURES["DOMAIN_GET_VCPUS"].encode(VCPUS, (1, 1)) == ([(0, 1, 7, 0)], b"\3")


@pytest.mark.parametrize(
    ("room", "start", "count", "answer"),
    [
        (0, 0, 0, ([], 2)),
        (0, 0, 1, ([], 1)),
        (1, 0, 1, ([FIVE], 1)),
        (4, 0, 8, ([FIVE, SIX], 1)),
        (0, -1, 1, ([], 1)),
        (3, -1, 1, ([FIVE], 1)),
    ],
)
def test_processor_times(room: int, start: int, count: int, answer: object) -> None:
    assert FIGURES["DOMAIN_GET_CPU_STATS"].encode(TIMES, (room, start, count, 0)) == answer


def test_the_driver_does_not_see_the_string_flag() -> None:
    assert FIGURES["DOMAIN_GET_CPU_STATS"].taken((1, 0, 1, 4 | 8)) == (0, 8)


@pytest.mark.parametrize(("room", "shown"), [(0, []), (1, [("free", 1)])])
def test_a_first_call_for_the_count(room: int, shown: object) -> None:
    row = FIGURES["NODE_GET_MEMORY_STATS"]
    assert row.taken((room, -1, 0)) == (-1, 0)
    assert row.encode([("free", 1)], (room, -1, 0)) == (shown, 1)


async def test_a_driver_without_such_figures_refuses(client: RawClient) -> None:
    assert (await client.refused("DOMAIN_GET_VCPUS", TEST, 1, 1)).code == NO_SUPPORT
