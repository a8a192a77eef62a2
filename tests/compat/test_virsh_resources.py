"""What stock virsh shows and sets of memory, processors, guest and node."""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from virsh_guest import Guest

    from tests.compat.conftest import Virsh


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("domcontrol", "ok"),
        ("domblkerror", "No errors found"),
        ("dommemstat", "actual"),
        ("vcpuinfo", "running"),
        ("cpu-stats", "cpu_time"),
    ],
)
def test_figures_of_a_domain(guest: "Guest", command: str, shown: str) -> None:
    assert shown in guest.virsh(command)


def test_memory_is_set(guest: "Guest") -> None:
    guest.virsh("setmem", "512")
    assert "actual 512\n" in guest.virsh("dommemstat")


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("freecell", "Total"),
        ("nodecpustats", "idle"),
        ("nodememstats", "cached"),
        ("nodecpumap", "CPUs online"),
    ],
)
def test_figures_of_the_node(module_virsh: "Virsh", command: str, shown: str) -> None:
    assert shown in module_virsh(command)


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("domfsinfo test", "/mnt/vdb"),
        ("domhostname test", "test"),
        ("domifaddr test --source agent", "Address"),
        ("domifaddr test", "Address"),
    ],
)
def test_what_the_agent_tells(module_virsh: "Virsh", command: str, shown: str) -> None:
    assert shown in module_virsh(*command.split())


def test_a_disk_comes_and_goes(guest: "Guest") -> None:
    guest.virsh("attach-disk", str(guest.folder / "new.img"), "vdx")
    assert "vdx" in guest.virsh("domblklist")
    guest.virsh("detach-disk", "vdx")
    assert "vdx" not in guest.virsh("domblklist")
