"""Finding, listing, redefining and deleting checkpoints."""

import re
from uuid import uuid4

import pytest
from contract import Subject, ask, refused

from virtbackupd.drivers.errors import (
    CheckpointInconsistent,
    InternalError,
    InvalidArgument,
    NoDomainCheckpoint,
    OperationInvalid,
    OperationUnsupported,
    Origin,
    UnsupportedFlags,
    XmlError,
)

ROOTS, TOPOLOGICAL, LEAVES, NO_LEAVES = 1, 2, 4, 8
DESCENDANTS = 1
CHILDREN, METADATA_ONLY, CHILDREN_ONLY = 1, 2, 4
REDEFINE, VALIDATE = 1, 4
HAS_CHECKPOINT, NO_CHECKPOINT = 1 << 14, 1 << 15


async def chain(subject: Subject, *names: str) -> None:
    for name in names:
        await subject.checkpoint(name)


async def test_lookup_of_an_unknown_name(subject: Subject) -> None:
    call = subject.domain.checkpoint_lookup_by_name
    await refused(NoDomainCheckpoint, lambda: call("none", 0), Origin.DRIVER)


async def test_root_has_no_parent(subject: Subject) -> None:
    await chain(subject, "c1")
    call = subject.domain.checkpoint_get_parent
    await refused(NoDomainCheckpoint, lambda: call("c1", 0), Origin.DRIVER)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (0, {"c1", "c2", "c3"}),
        (ROOTS, {"c1"}),
        (LEAVES, {"c3"}),
        (NO_LEAVES, {"c1", "c2"}),
        (LEAVES | NO_LEAVES, set()),
    ],
)
async def test_list_filters(subject: Subject, flags: int, expected: set[str]) -> None:
    await chain(subject, "c1", "c2", "c3")
    assert set(await subject.names(flags)) == expected


async def test_topological_order(subject: Subject) -> None:
    await chain(subject, "c3", "c1", "c2")
    assert await subject.names(TOPOLOGICAL) == ["c3", "c1", "c2"]


async def test_unknown_list_flag_is_refused(subject: Subject) -> None:
    await refused(UnsupportedFlags, lambda: subject.domain.list_all_checkpoints(16), Origin.DRIVER)


async def test_children_and_descendants(subject: Subject) -> None:
    await chain(subject, "c1", "c2", "c3")
    children = subject.domain.checkpoint_list_all_children
    assert await ask(children("c1", 0)) == ["c2"]
    assert await ask(children("c1", DESCENDANTS)) == ["c2", "c3"]


async def test_children_of_an_unknown_one(subject: Subject) -> None:
    call = subject.domain.checkpoint_list_all_children
    await refused(NoDomainCheckpoint, lambda: call("none", 0))


async def test_domains_are_filtered_by_having_checkpoints(subject: Subject) -> None:
    assert await ask(subject.driver.list_all_domains(HAS_CHECKPOINT)) == []
    await chain(subject, "c1")
    assert await ask(subject.driver.list_all_domains(HAS_CHECKPOINT)) == [subject.domain.ref]
    assert await ask(subject.driver.list_all_domains(NO_CHECKPOINT)) == []


async def test_deleting_a_middle_one_joins_its_neighbours(subject: Subject) -> None:
    await chain(subject, "c1", "c2", "c3")
    await subject.delete("c2")
    assert await ask(subject.domain.checkpoint_get_parent("c3", 0)) == "c1"
    assert "<parent>\n    <name>c1</name>" in await subject.dump("c3")


async def test_deleting_the_current_one_makes_its_parent_current(subject: Subject) -> None:
    await chain(subject, "c1", "c2")
    await subject.delete("c2")
    await chain(subject, "c3")
    assert await ask(subject.domain.checkpoint_get_parent("c3", 0)) == "c1"


async def test_deleting_does_not_merge_bitmaps(subject: Subject) -> None:
    await chain(subject, "c1")
    await subject.write("vda", "0 64k")
    await chain(subject, "c2")
    await subject.delete("c1")
    assert "<disk name='vda' checkpoint='bitmap' bitmap='c2' size='0'/>" in await subject.dump(
        "c2", 4
    )


@pytest.mark.parametrize(
    ("flags", "left"), [(CHILDREN, ["c1"]), (CHILDREN_ONLY, ["c1", "c2"]), (0, ["c1", "c3"])]
)
async def test_delete_variants(subject: Subject, flags: int, left: list[str]) -> None:
    await chain(subject, "c1", "c2", "c3")
    await subject.delete("c2", flags)
    assert await subject.names(TOPOLOGICAL) == left


async def test_delete_flags_exclude_each_other(subject: Subject) -> None:
    call = subject.domain.checkpoint_delete
    flags = CHILDREN | CHILDREN_ONLY
    await refused(UnsupportedFlags, lambda: call("c1", flags), Origin.DOMAIN_CHECKPOINT)


async def test_delete_on_inactive_domain_needs_metadata_only(subject: Subject) -> None:
    await chain(subject, "c1")
    await ask(subject.domain.destroy())
    await refused(OperationUnsupported, lambda: subject.delete("c1"), Origin.DRIVER)
    await refused(OperationUnsupported, lambda: subject.delete("unknown"), Origin.DRIVER)
    await subject.delete("c1", METADATA_ONLY)
    assert await subject.names() == []


async def test_delete_of_an_unknown_one(subject: Subject) -> None:
    await refused(NoDomainCheckpoint, lambda: subject.delete("none"))


async def test_delete_without_its_bitmap_needs_metadata_only(subject: Subject) -> None:
    await subject.redefine("lost")
    await subject.redefine_disk("lost")
    await refused(InternalError, lambda: subject.delete("lost"), Origin.DRIVER)
    assert await subject.names() == ["lost"]
    await subject.delete("lost", METADATA_ONLY)
    assert await subject.names() == []


async def test_checkpoints_survive_a_restart_of_the_domain(subject: Subject) -> None:
    await chain(subject, "c1")
    await subject.write("vda", "0 64k")
    await ask(subject.domain.destroy())
    await ask(subject.domain.create())
    assert "size='65536'" in await subject.dump("c1", 4)


async def test_redefine_on_inactive_domain(subject: Subject) -> None:
    await ask(subject.domain.destroy())
    await subject.redefine("old")
    await subject.redefine("new", "old")
    assert await ask(subject.domain.checkpoint_get_parent("new", 0)) == "old"


async def test_redefined_siblings(subject: Subject) -> None:
    await subject.redefine("root")
    await subject.redefine("one", "root")
    await subject.redefine("two", "root")
    children = await ask(subject.domain.checkpoint_list_all_children("root", 0))
    assert children == ["two", "one"]


async def test_redefine_of_a_dump_changes_nothing(subject: Subject) -> None:
    await chain(subject, "c1", "c2")
    before = await subject.dump("c1", 1)
    await ask(subject.domain.checkpoint_create_xml(before, REDEFINE | VALIDATE))
    assert await subject.dump("c1", 1) == before
    assert await ask(subject.domain.checkpoint_get_parent("c2", 0)) == "c1"


@pytest.mark.parametrize(("name", "parent"), [("c1", "c1"), ("new", "unknown"), ("c1", "c2")])
async def test_redefine_refuses_parents(subject: Subject, name: str, parent: str) -> None:
    await chain(subject, "c1", "c2")
    await refused(InvalidArgument, lambda: subject.redefine(name, parent), Origin.DOMAIN)


async def test_redefine_needs_a_time(subject: Subject) -> None:
    call = lambda: subject.checkpoint("c1", flags=REDEFINE)  # noqa: E731
    await refused(InternalError, call, Origin.DOMAIN_CHECKPOINT)


async def test_redefine_needs_a_name(subject: Subject) -> None:
    xml = "<domaincheckpoint><creationTime>1</creationTime></domaincheckpoint>"
    call = subject.domain.checkpoint_create_xml
    await refused(XmlError, lambda: call(xml, REDEFINE), Origin.DOMAIN_CHECKPOINT)


async def test_redefine_refuses_another_domain(subject: Subject) -> None:
    await chain(subject, "c1")
    text = await subject.dump("c1")
    other = re.sub("<uuid>.*</uuid>", f"<uuid>{uuid4()}</uuid>", text)
    call = subject.domain.checkpoint_create_xml
    await refused(InvalidArgument, lambda: call(other, REDEFINE), Origin.DOMAIN_CHECKPOINT)


async def test_validate_misses_the_bitmap(subject: Subject) -> None:
    call = lambda: subject.redefine_disk("lost", REDEFINE | VALIDATE)  # noqa: E731
    await refused(CheckpointInconsistent, call, Origin.DRIVER)
    assert await subject.names() == []


async def test_validate_needs_a_running_domain(subject: Subject) -> None:
    await ask(subject.domain.destroy())
    call = lambda: subject.redefine_disk("lost", REDEFINE | VALIDATE)  # noqa: E731
    await refused(OperationInvalid, call, Origin.DOMAIN)
