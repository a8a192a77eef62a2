"""Domains come, run, stop and go: states, reasons, ids and the events in libvirt's order."""

import pytest
from contract import Subject, ask, refused
from documents import domain_xml

from virtbackupd.drivers.errors import (
    DriverError,
    InvalidArgument,
    NoDomain,
    OperationFailed,
    OperationInvalid,
    XmlError,
)
from virtbackupd.drivers.events import DomainLifecycle, DomainReboot
from virtbackupd.drivers.interface import Domain

OTHER = domain_xml("other", "")
PAUSED_FLAG = 1
CHECKPOINTS_METADATA, MANAGED_SAVE = 16, 1
INACTIVE = 2
RUNNING, PAUSED, SHUTOFF = 1, 3, 5
DEFINED, UNDEFINED, STARTED, SUSPENDED, RESUMED, STOPPED, SHUTDOWN = range(7)


def told(subject: Subject) -> list[tuple[int, int]]:
    """The lifecycle events so far as (event, detail)."""
    found = [event for event in subject.events if isinstance(event, DomainLifecycle)]
    subject.events.clear()
    return [(event.event, event.detail) for event in found]


async def state(domain: Domain) -> tuple[int, int]:
    return await ask(domain.get_state(0))


async def define(subject: Subject, xml: str = OTHER) -> Domain:
    ref = await ask(subject.driver.domain_define_xml_flags(xml, 0))
    return subject.driver.domain_by_uuid(ref.uuid)


async def test_subject_runs(subject: Subject) -> None:
    assert await state(subject.domain) == (RUNNING, 1)
    assert subject.domain.ref.id > 0


async def test_destroy(subject: Subject) -> None:
    await ask(subject.domain.destroy())
    assert await state(subject.domain) == (SHUTOFF, 2)
    assert told(subject) == [(SHUTDOWN, 2), (STOPPED, 1)]
    assert subject.domain.ref.id == -1


async def test_shutdown(subject: Subject) -> None:
    await subject.shutdown()
    assert await state(subject.domain) == (SHUTOFF, 1)
    assert told(subject) == [(SHUTDOWN, 1), (STOPPED, 0)]


async def test_start_gives_a_new_id(subject: Subject) -> None:
    before = subject.domain.ref.id
    await ask(subject.domain.destroy())
    told(subject)
    await ask(subject.domain.create())
    assert subject.domain.ref.id > before
    assert told(subject) == [(RESUMED, 0), (STARTED, 0)]


async def test_start_paused(subject: Subject) -> None:
    await ask(subject.domain.destroy())
    told(subject)
    await ask(subject.domain.create_with_flags(PAUSED_FLAG))
    assert await state(subject.domain) == (PAUSED, 1)
    assert told(subject) == [(STARTED, 0), (SUSPENDED, 0)]


async def test_suspend_and_resume(subject: Subject) -> None:
    await ask(subject.domain.suspend())
    assert await state(subject.domain) == (PAUSED, 1)
    await ask(subject.domain.resume())
    assert await state(subject.domain) == (RUNNING, 5)
    assert told(subject) == [(SUSPENDED, 0), (RESUMED, 0)]


async def test_reboot_keeps_running(subject: Subject) -> None:
    await subject.reboot()
    assert DomainReboot(subject.domain.ref) in subject.events
    assert await state(subject.domain) == (RUNNING, 1)


async def test_managed_save_and_restore(subject: Subject) -> None:
    await ask(subject.domain.managed_save(0))
    assert await state(subject.domain) == (SHUTOFF, 5)
    assert await ask(subject.domain.has_managed_save_image(0)) == 1
    await ask(subject.domain.create())
    assert await state(subject.domain) == (RUNNING, 3)
    assert told(subject) == [(SUSPENDED, 0), (STOPPED, 4), (STARTED, 2), (RESUMED, 2)]
    assert await ask(subject.domain.has_managed_save_image(0)) == 0


async def test_define_and_redefine(subject: Subject) -> None:
    domain = await define(subject)
    await ask(subject.driver.domain_define_xml_flags(await ask(domain.get_xml_desc(0)), 0))
    assert told(subject) == [(DEFINED, 0), (DEFINED, 1)]


async def test_redefining_a_running_domain_leaves_it_alone(subject: Subject) -> None:
    text = await ask(subject.domain.get_xml_desc(INACTIVE))
    titled = text.replace("<memory", "<title>next</title><memory", 1)
    await ask(subject.driver.domain_define_xml_flags(titled, 0))
    assert "<title>next" in await ask(subject.domain.get_xml_desc(INACTIVE))
    assert "<title>next" not in await ask(subject.domain.get_xml_desc(0))


async def test_name_belongs_to_one_uuid(subject: Subject) -> None:
    await define(subject)
    await refused(OperationFailed, lambda: subject.driver.domain_define_xml_flags(OTHER, 0))


async def test_transient_domain_vanishes(subject: Subject) -> None:
    ref = await ask(subject.driver.domain_create_xml(OTHER, 0))
    domain = subject.driver.domain_by_uuid(ref.uuid)
    assert await ask(domain.is_persistent()) == 0
    await ask(domain.destroy())
    await refused(NoDomain, lambda: subject.driver.domain_lookup_by_uuid(ref.uuid))


async def test_undefine_of_an_inactive_domain(subject: Subject) -> None:
    domain = await define(subject)
    await ask(domain.undefine())
    assert told(subject) == [(DEFINED, 0), (UNDEFINED, 0)]
    await refused(NoDomain, lambda: subject.driver.domain_lookup_by_name("other"))


async def test_undefine_makes_a_running_domain_transient(subject: Subject) -> None:
    await subject.checkpoint("c1")
    await ask(subject.domain.undefine())
    assert await ask(subject.domain.is_persistent()) == 0
    assert await subject.names() == ["c1"]


@pytest.mark.parametrize("flags", [0, MANAGED_SAVE, 4, 8, 32, 64])
async def test_undefine_with_checkpoints_needs_their_flag(subject: Subject, flags: int) -> None:
    await subject.checkpoint("c1")
    await ask(subject.domain.destroy())
    error = await refused(OperationInvalid, lambda: subject.domain.undefine_flags(flags))
    assert "1 checkpoint" in error.message
    await ask(subject.domain.undefine_flags(flags | CHECKPOINTS_METADATA))


async def test_undefine_with_a_saved_state_needs_its_flag(subject: Subject) -> None:
    await ask(subject.domain.managed_save(0))
    await refused(OperationInvalid, subject.domain.undefine)
    await ask(subject.domain.undefine_flags(MANAGED_SAVE))


async def test_rename_keeps_checkpoints(subject: Subject) -> None:
    await subject.checkpoint("c1")
    await ask(subject.domain.destroy())
    told(subject)
    await ask(subject.domain.rename("renamed", 0))
    assert (await ask(subject.driver.domain_lookup_by_name("renamed"))) == subject.domain.ref
    assert await subject.names() == ["c1"]
    assert told(subject) == [(UNDEFINED, 1), (DEFINED, 2)]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("", InvalidArgument),
        ("a/b", XmlError),
        ("test", OperationInvalid),
        ("ok", OperationInvalid),
    ],
)
async def test_rename_is_refused(subject: Subject, name: str, kind: type[DriverError]) -> None:
    await refused(kind, lambda: subject.domain.rename(name, 0))


async def test_autostart(subject: Subject) -> None:
    await ask(subject.domain.set_autostart(1))
    assert await ask(subject.domain.get_autostart()) == 1


@pytest.mark.parametrize("call", ["destroy", "shutdown", "suspend", "resume"])
async def test_calls_that_need_a_running_domain(subject: Subject, call: str) -> None:
    domain = await define(subject)
    await refused(OperationInvalid, getattr(domain, call))


@pytest.mark.parametrize("call", ["create", "resume"])
async def test_calls_that_a_running_domain_refuses(subject: Subject, call: str) -> None:
    await refused(OperationInvalid, getattr(subject.domain, call))
