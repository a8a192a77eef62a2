"""virsh checkpoint-delete: every option, and what becomes of children, bitmaps and the chain."""

import pytest
from virsh_guest import Guest

DRIVERS = ("memory", "qemu")


@pytest.fixture
def chain(guest: Guest) -> Guest:
    """A running domain with the checkpoints c1 ── c2 ── c3."""
    guest.checkpoint("c1", "c2", "c3")
    return guest


def _delete(guest: Guest, name: str, *options: str, status: int = 0) -> str:
    return guest.virsh("checkpoint-delete", name, *options, status=status)


def test_delete_says_so(chain: Guest) -> None:
    assert _delete(chain, "c3") == "Domain checkpoint c3 deleted"
    assert chain.checkpoints() == ["c1", "c2"]


def test_deleted_checkpoint_hands_its_children_up(chain: Guest) -> None:
    _delete(chain, "c2")
    assert chain.virsh("checkpoint-parent", "c3") == "c1"


def test_children_of_a_deleted_root_become_roots(chain: Guest) -> None:
    _delete(chain, "c1")
    assert chain.checkpoints("--roots") == ["c2"]


def test_delete_with_children(chain: Guest) -> None:
    _delete(chain, "c2", "--children")
    assert chain.checkpoints() == ["c1"]


def test_delete_children_only(chain: Guest) -> None:
    assert _delete(chain, "c1", "--children-only") == "Domain checkpoint c1 children deleted"
    assert chain.checkpoints() == ["c1"]


def test_delete_refuses_both_children_options(chain: Guest) -> None:
    answer = _delete(chain, "c1", "--children", "--children-only", status=1)
    assert "DELETE_CHILDREN" in answer
    assert chain.checkpoints() == ["c1", "c2", "c3"]


def test_parent_becomes_current(chain: Guest) -> None:
    _delete(chain, "c3")
    chain.checkpoint("c4")
    assert chain.virsh("checkpoint-parent", "c4") == "c2"


def test_start_of_deleted_children_becomes_current(chain: Guest) -> None:
    _delete(chain, "c1", "--children-only")
    chain.checkpoint("c4")
    assert chain.virsh("checkpoint-parent", "c4") == "c1"


def test_without_checkpoints_the_next_is_a_root(chain: Guest) -> None:
    _delete(chain, "c1", "--children")
    chain.checkpoint("c4")
    assert chain.checkpoints("--roots") == ["c4"]


def test_name_is_free_again(chain: Guest) -> None:
    _delete(chain, "c3")
    chain.checkpoint("c3")
    assert chain.checkpoints() == ["c1", "c2", "c3"]


@pytest.mark.parametrize("options", [["--metadata"], ["--metadata", "--children"]])
def test_metadata_only_leaves_the_bitmap(chain: Guest, options: list[str]) -> None:
    _delete(chain, "c3", *options)
    assert chain.checkpoints() == ["c1", "c2"]
    assert "internal error: " in chain.virsh("checkpoint-create-as", "c3", status=1)


def test_metadata_only_for_children(chain: Guest) -> None:
    _delete(chain, "c1", "--metadata", "--children-only")
    assert chain.checkpoints() == ["c1"]


def test_delete_refuses_an_inactive_domain(chain: Guest) -> None:
    chain.virsh("destroy")
    assert "error: Operation not supported: " in _delete(chain, "c1", status=1)


def test_metadata_of_an_inactive_domain_can_go(chain: Guest) -> None:
    chain.virsh("destroy")
    _delete(chain, "c1", "--children", "--metadata")
    assert chain.checkpoints() == []


def test_delete_of_a_missing_bitmap_fails_and_keeps_the_checkpoint(guest: Guest) -> None:
    guest.redefine("lost")
    assert "error: internal error: " in _delete(guest, "lost", status=1)
    assert guest.checkpoints() == ["lost"]
    _delete(guest, "lost", "--metadata")


def test_failed_child_does_not_stop_the_others(guest: Guest) -> None:
    guest.checkpoint("c1")
    guest.redefine("lost", "c1")
    guest.checkpoint("c3")
    _delete(guest, "c1", "--children", status=1)
    assert "c3" not in guest.checkpoints()
    assert "lost" in guest.checkpoints()


def test_unknown_checkpoint(guest: Guest) -> None:
    assert "error: Domain checkpoint not found: " in _delete(guest, "zz", status=1)


def test_deletion_does_not_disturb_older_checkpoints(chain: Guest) -> None:
    chain.monitor('qemu-io vda "write -P 0xab 0 64k"')
    _delete(chain, "c2")
    size = chain.virsh("checkpoint-dumpxml", "c1", "--size", "--xpath", "//disk[@name='vda']/@size")
    assert size == 'size="65536"'
