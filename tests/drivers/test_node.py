"""What is read from the host, and what is made of odd input."""

from pathlib import Path

import pytest

from virtbackupd.drivers import node

TWO_SOCKETS = "\n\n".join(
    f"processor : {number}\nphysical id : {number // 4}\ncore id : {number // 2 % 2}\n"
    "cpu MHz : 2400.012"
    for number in range(8)
)


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(node, "_CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(node, "_MEMORY_INFO", tmp_path / "meminfo")
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    return tmp_path


def test_the_product_of_the_topology_is_the_number_of_processors() -> None:
    info = node.read_node_info()
    assert info.nodes * info.sockets * info.cores * info.threads == info.cpus
    assert info.memory > 0


def test_sockets_cores_and_threads_are_counted(proc: Path) -> None:
    (proc / "cpuinfo").write_text(TWO_SOCKETS)
    info = node.read_node_info()
    assert (info.sockets, info.cores, info.threads, info.mhz) == (2, 2, 2, 2400)


@pytest.mark.parametrize("text", ["", "processor : 0\n", "rubbish"])
def test_an_odd_file_gives_a_plain_answer(proc: Path, text: str) -> None:
    (proc / "cpuinfo").write_text(text)
    (proc / "meminfo").write_text(text)
    info = node.read_node_info()
    assert info.sockets * info.cores * info.threads == 8
    assert info.memory > 0


def test_the_hosts_memory_is_read(proc: Path) -> None:
    (proc / "meminfo").write_text("MemTotal:       1024 kB\n")
    assert node.read_node_info().memory == 1024


def test_no_file_at_all(proc: Path) -> None:
    assert node.read_node_info().cpus == 8


def test_what_is_available_is_told_in_bytes(proc: Path) -> None:
    (proc / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable: 7 kB\nHugePages_Total: 0\nodd\n")
    assert node.available_memory() == 7 * 1024
    assert node.read_memory() == {"MemTotal": 9, "MemAvailable": 7, "HugePages_Total": 0}


def test_where_the_system_does_not_tell_all_memory_is_available(proc: Path) -> None:
    assert node.available_memory() > 0


def test_a_bit_for_each_processor() -> None:
    assert node.cpu_map(10) == b"\xff\x03"
    assert node.cpu_count() >= 1


def test_processor_times_are_nanoseconds(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (proc / "stat").write_text("cpu  9 9 9 9 9\ncpu0 1 2 3 4 5 6\n")
    monkeypatch.setattr(node, "_STATISTICS", proc / "stat")
    monkeypatch.setattr(node, "_TICKS", 1_000_000_000)
    times = [("kernel", 3), ("user", 3), ("idle", 4), ("iowait", 5)]
    assert node.cpu_times(0) == times
    assert node.cpu_times(7) == []


def test_memory_by_purpose(proc: Path) -> None:
    (proc / "meminfo").write_text("MemTotal: 9 kB\nMemFree: 7 kB\nCached: 1 kB\n")
    figures = [("total", 9), ("free", 7), ("buffers", 0), ("cached", 1)]
    assert node.memory_figures() == figures
    assert node.free_memory() == 7 * 1024
