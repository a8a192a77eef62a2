"""States of the world: what they keep, that going back is exact, and what clients hear of it."""

from pathlib import Path

import pytest

from virtbackupd.drivers.definitions.domain import DomainDefinition
from virtbackupd.drivers.enums import DomainState, JobType
from virtbackupd.drivers.errors import NoDomain, OperationInvalid
from virtbackupd.drivers.events import DomainJobCompleted, DomainLifecycle, Event
from virtbackupd.drivers.interface import JobStats
from virtbackupd.drivers.memory import checkpoint, define, media
from virtbackupd.drivers.memory.bitmap import DirtyMap
from virtbackupd.drivers.memory.domain import MemoryDomain
from virtbackupd.drivers.memory.host import Host
from virtbackupd.drivers.memory.image import Image
from virtbackupd.drivers.memory.pull import PullBackup
from virtbackupd.drivers.memory.world_state import restore, take

MIB = 1024 * 1024
KIB_64 = 64 * 1024
CHECKPOINT = "<domaincheckpoint><name>{}</name></domaincheckpoint>"
OTHER_XML = """<domain type='test'><name>other</name><memory>1024</memory>
<uuid>7795eb01-f6a4-8304-79aa-97f2502e193f</uuid><os><type>hvm</type></os></domain>"""
SECRET_XML = """<secret><uuid>8895eb01-f6a4-8304-79aa-97f2502e193f</uuid>
<usage type='volume'><volume>/images/vda.qcow2</volume></usage></secret>"""

PULL = """<domainbackup mode='pull'><server transport='unix' socket='{0}/s'/>
<disks><disk name='vda' backup='yes' type='file'><scratch file='{0}/scratch'/></disk>
<disk name='vdb' backup='no'/></disks></domainbackup>"""


def image_of(domain: MemoryDomain) -> Image:
    image = domain.disk_image("vda")
    assert image is not None
    return image


def dirty(image: Image, name: str) -> list[int]:
    bitmap = image.bitmaps.get(name)
    assert bitmap is not None
    return bitmap.dirty_clusters()


def heard(events: list[Event]) -> list[tuple[str, int, int]]:
    """Name, event and detail of the life cycle events."""
    return [
        (event.domain.name, event.event, event.detail)
        for event in events
        if isinstance(event, DomainLifecycle)
    ]


async def test_contents_come_back(host: Host, guest: MemoryDomain) -> None:
    image = image_of(guest)
    image.fill(0, MIB, 1)
    state = take(host)
    image.fill(0, KIB_64, 2)
    image.discard(512 * 1024, KIB_64)
    restore(host, state)
    assert image_of(guest).read(0, MIB) == b"\1" * MIB


async def test_a_state_can_be_gone_back_to_again_and_again(host: Host, guest: MemoryDomain) -> None:
    state = take(host)
    for value in (1, 2):
        image_of(guest).fill(0, MIB, value)
        restore(host, state)
        assert image_of(guest).read(0, MIB) == bytes(MIB)


async def test_states_are_independent_of_each_other(host: Host, guest: MemoryDomain) -> None:
    states = []
    for value in (1, 2, 3):
        image_of(guest).fill(0, KIB_64, value)
        states.append(take(host))
    for value in (2, 1, 3):
        restore(host, states[value - 1])
        assert image_of(guest).read(0, 1) == bytes([value])


async def test_bitmaps_go_on_where_they_were(host: Host, guest: MemoryDomain) -> None:
    checkpoint.create_xml(guest, CHECKPOINT.format("c1"), 0)
    image_of(guest).fill(0, KIB_64, 1)
    state = take(host)
    checkpoint.create_xml(guest, CHECKPOINT.format("c2"), 0)
    image_of(guest).fill(MIB, KIB_64, 1)
    restore(host, state)
    assert guest.list_all_checkpoints(0) == ["c1"]
    assert image_of(guest).bitmaps.names() == ["c1"]
    assert dirty(image_of(guest), "c1") == [0]
    image_of(guest).fill(2 * MIB, KIB_64, 1)
    assert dirty(image_of(guest), "c1") == [0, 32]


async def test_a_deleted_checkpoint_comes_back_usable(host: Host, guest: MemoryDomain) -> None:
    checkpoint.create_xml(guest, CHECKPOINT.format("c1"), 0)
    image_of(guest).fill(0, KIB_64, 1)
    state = take(host)
    guest.checkpoint_delete("c1", 0)
    restore(host, state)
    chain = checkpoint.require_chain(image_of(guest), "c1", "vda")
    assert DirtyMap.merge(chain).count == KIB_64


async def test_an_inconsistent_bitmap_stays_so(host: Host, guest: MemoryDomain) -> None:
    bitmap = image_of(guest).bitmaps.add("old", recording=False, dirty=[3])
    bitmap.inconsistent = True
    state = take(host)
    image_of(guest).bitmaps.remove("old")
    restore(host, state)
    found = image_of(guest).bitmaps.get("old")
    assert found is not None
    assert (found.inconsistent, found.recording, found.dirty_clusters()) == (True, False, [3])


async def test_a_resized_disk_shrinks_back(host: Host, guest: MemoryDomain) -> None:
    state = take(host)
    guest.block_resize("vda", 8 * MIB, 1)
    restore(host, state)
    assert image_of(guest).capacity == 4 * MIB


async def test_definitions_flags_and_counters_come_back(host: Host, guest: MemoryDomain) -> None:
    guest.autostart = True
    guest.counters("vda").count_write(512)
    before, xml = take(host), guest.get_xml_desc(0)
    guest.autostart = False
    guest.set_memory(256 * 1024)
    guest.counters("vda").count_write(512)
    restore(host, before)
    assert (guest.get_xml_desc(0), guest.autostart) == (xml, True)
    assert guest.counters("vda").write_bytes == 512


async def test_the_record_of_the_last_job_comes_back(host: Host, guest: MemoryDomain) -> None:
    guest.jobs.completed = JobStats(JobType.COMPLETED, ())
    state = take(host)
    guest.get_job_stats(1)
    restore(host, state)
    assert guest.get_job_stats(1).type == JobType.COMPLETED


async def test_a_managed_save_comes_back(host: Host, guest: MemoryDomain) -> None:
    guest.managed_save(0)
    state = take(host)
    await guest.create()
    restore(host, state)
    assert (guest.has_managed_save_image(0), guest.active) == (1, False)


async def test_ids_come_back(host: Host, guest: MemoryDomain) -> None:
    number, state = guest.ref.id, take(host)
    guest.destroy()
    await guest.create()
    assert guest.ref.id == number + 1
    restore(host, state)
    assert host.domains.by_id(number) is guest
    assert host.domains.last_id == number
    with pytest.raises(NoDomain):
        host.domains.by_id(number + 1)


async def test_images_nobody_had_are_gone(host: Host, guest: MemoryDomain) -> None:
    state = take(host)
    host.images.add(Image(MIB, path="/images/new"))
    restore(host, state)
    assert host.images.get("/images/new") is None
    assert host.images.get("/images/vda.qcow2") is image_of(guest)


async def test_nothing_is_heard_when_nothing_has_changed(
    host: Host, guest: MemoryDomain, events: list[Event]
) -> None:
    events.clear()
    restore(host, take(host))
    assert (events, guest.active) == ([], True)


async def test_a_domain_that_vanishes_stops_and_is_undefined(
    host: Host, guest: MemoryDomain, events: list[Event]
) -> None:
    state = take(host)
    other = define.adopt(host, DomainDefinition.parse(OTHER_XML), DomainState.RUNNING)
    events.clear()
    restore(host, state)
    assert heard(events) == [("other", 5, 6), ("other", 1, 0)]
    assert (len(host.domains), guest.active, other.active) == (1, True, False)
    with pytest.raises(OperationInvalid, match="undefined"):
        _ = other.definition


async def test_a_domain_that_appears_is_defined_and_starts(
    host: Host, guest: MemoryDomain, events: list[Event]
) -> None:
    other = define.adopt(host, DomainDefinition.parse(OTHER_XML), DomainState.PAUSED)
    state = take(host)
    other.destroy()
    other.undefine()
    events.clear()
    restore(host, state)
    assert heard(events) == [("other", 0, 0), ("other", 2, 3), ("other", 3, 5)]
    assert (host.domains.by_name("other").active, guest.active) == (True, True)


async def test_another_run_of_the_same_domain_is_a_stop_and_a_start(
    host: Host, guest: MemoryDomain, events: list[Event]
) -> None:
    state = take(host)
    guest.destroy()
    await guest.create()
    events.clear()
    restore(host, state)
    assert heard(events) == [("guest", 5, 6), ("guest", 2, 3)]


async def test_a_domain_that_was_paused_since_goes_on(
    host: Host, guest: MemoryDomain, events: list[Event]
) -> None:
    state = take(host)
    guest.suspend()
    events.clear()
    restore(host, state)
    assert heard(events) == [("guest", 4, 2)]
    restore(host, state)
    guest.suspend()
    paused = take(host)
    guest.resume()
    events.clear()
    restore(host, paused)
    assert heard(events) == [("guest", 3, 5)]


async def test_a_changed_definition_is_heard(
    host: Host, guest: MemoryDomain, events: list[Event]
) -> None:
    state = take(host)
    define.define(host, guest.get_xml_desc(2).replace("<vcpu", "<title>new</title><vcpu"), 0)
    events.clear()
    restore(host, state)
    assert heard(events) == [("guest", 0, 3)]
    assert "<title>" not in guest.get_xml_desc(2)


async def test_a_renamed_domain_has_its_old_name_again(
    host: Host, guest: MemoryDomain, events: list[Event]
) -> None:
    guest.destroy()
    state = take(host)
    guest.rename("new", 0)
    events.clear()
    restore(host, state)
    assert heard(events) == [("new", 1, 1), ("guest", 0, 2)]
    assert host.domains.by_name("guest") is guest


async def test_secrets_come_back_with_their_values(host: Host, guest: MemoryDomain) -> None:
    ref = host.secrets.secret_define_xml(SECRET_XML, 0)
    host.secrets.secret_set_value(ref.uuid, b"open", 0)
    state = take(host)
    host.secrets.secret_undefine(ref.uuid)
    restore(host, state)
    assert (host.secrets.secret_get_value(ref.uuid, 0), guest.active) == (b"open", True)


async def test_a_running_backup_ends_first(
    host: Host, guest: MemoryDomain, events: list[Event], tmp_path: Path
) -> None:
    state = take(host)
    await guest.backup_begin(PULL.format(tmp_path), None, 0)
    image_of(guest).fill(0, KIB_64, 5)
    restore(host, state)
    assert guest.backup is None
    assert any(isinstance(event, DomainJobCompleted) for event in events)
    assert image_of(guest).read(0, 1) == b"\0"
    image_of(guest).fill(0, KIB_64, 6)
    assert guest.get_job_info().type == JobType.NONE


async def test_a_start_that_waits_gives_up_when_the_world_changes(
    host: Host, guest: MemoryDomain, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest.destroy()
    state = take(host)

    async def meanwhile(*_: object) -> None:
        restore(host, state)

    monkeypatch.setattr(media, "take_files", meanwhile)
    with pytest.raises(OperationInvalid, match="changed while it was being started"):
        await guest.create()
    assert not guest.active


async def test_a_backup_that_is_being_begun_gives_up_when_the_world_changes(
    host: Host, guest: MemoryDomain, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    state = take(host)

    async def meanwhile(*_: object) -> None:
        restore(host, state)

    monkeypatch.setattr(PullBackup, "prepare", meanwhile)
    with pytest.raises(OperationInvalid, match="stopped while its backup was prepared"):
        await guest.backup_begin(PULL.format(tmp_path), None, 0)
    assert (guest.backup, guest.jobs.job) == (None, None)


async def test_taking_and_restoring_a_hundred_full_disks_copies_none(host: Host) -> None:
    """The state shares the tables of clusters: the time does not depend on how many they hold."""
    image = Image(10 << 30, path="/images/full")
    image.fill_pattern(1, 0, 10 << 30)
    contents = image.state()
    paths = [f"/images/{number}" for number in range(100)]
    for path in paths:
        twin = Image(10 << 30, path=path)
        twin.restore(contents)
        host.images.add(twin)
    restore(host, take(host))
    twins = map(host.images.get, paths)
    assert all(twin is not None and twin.contents() is image.contents() for twin in twins)
