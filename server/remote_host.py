"""What a libvirt server shows, as typed answers: domains, jobs, checkpoints.

Each function is a call or two over a `Remote`. What is made of the answers is not known here.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

from lxml import etree

from virtbackupd.drivers.enums import (
    CheckpointList,
    CheckpointXml,
    DomainState,
    JobType,
    ListDomains,
)
from virtbackupd.drivers.enums import JobStats as JobStatsFlags
from virtbackupd.server.remote import ConnectionLost, Event, Fields, Refused, Remote

ACTIVE_STATES: Final = frozenset(DomainState) - {DomainState.NOSTATE, DomainState.SHUTOFF}
JOB_COMPLETED_EVENT: Final = "DOMAIN_EVENT_CALLBACK_JOB_COMPLETED"
_JOB_COMPLETED: Final = 21
"""VIR_DOMAIN_EVENT_ID_JOB_COMPLETED."""
_ALL: Final = ListDomains(0)
Figures: TypeAlias = Mapping[str, int | float | str]
"""Typed parameters by name."""


class DomainKey(NamedTuple):
    """A domain as it is named on the wire."""

    name: str
    uuid: bytes
    id: int


class JobReport(NamedTuple):
    """The job of a domain, or the record of its last one."""

    type: JobType
    figures: Figures


class CheckpointDisk(NamedTuple):
    """A disk in a checkpoint's document."""

    target: str
    bitmap: str
    """The name of its bitmap; empty when it has none."""
    size: int | None
    """Bytes changed since, where the server can tell."""


class CheckpointReport(NamedTuple):
    """A checkpoint as its document shows it."""

    name: str
    parent: str | None
    description: str | None
    created: int
    disks: tuple[CheckpointDisk, ...]
    xml: str
    sized: bool
    """Whether the server was asked for sizes and answered; a bad bitmap has none then."""


async def list_domains(remote: Remote, flags: ListDomains = _ALL) -> list[DomainKey]:
    domains, _ = await remote.call("CONNECT_LIST_ALL_DOMAINS", 1, int(flags))
    return sorted((DomainKey(*domain) for domain in domains), key=lambda domain: domain.name)


async def find_domain(remote: Remote, name: str) -> DomainKey:
    (found,) = await remote.call("DOMAIN_LOOKUP_BY_NAME", name)
    return DomainKey(*found)


async def list_states(remote: Remote, domains: Sequence[DomainKey]) -> dict[DomainKey, DomainState]:
    """Of those that still exist."""
    answers = await remote.calls("DOMAIN_GET_STATE", [(domain, 0) for domain in domains])
    return {
        domain: DomainState(answer[0])
        for domain, answer in zip(domains, answers, strict=True)
        if not isinstance(answer, Refused)
    }


async def list_jobs(
    remote: Remote, domains: Sequence[DomainKey], *, completed: bool = False
) -> dict[DomainKey, JobReport]:
    """Running jobs, or records of the last ones, which stay for others to read."""
    flags = JobStatsFlags.COMPLETED | JobStatsFlags.KEEP_COMPLETED if completed else 0
    answers = await remote.calls("DOMAIN_GET_JOB_STATS", [(each, int(flags)) for each in domains])
    reports = {
        domain: JobReport(JobType(answer[0]), figures(answer[1]))
        for domain, answer in zip(domains, answers, strict=True)
        if not isinstance(answer, Refused)
    }
    return {domain: job for domain, job in reports.items() if job.type is not JobType.NONE}


async def watch_jobs(remote: Remote) -> None:
    """Ask for an event at the end of each job."""
    await remote.call("CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY", _JOB_COMPLETED, None)


def ended_job(event: Event) -> tuple[DomainKey, Figures] | None:
    """What an event tells of the end of a job, if that is what it is about."""
    if event.name != JOB_COMPLETED_EVENT:
        return None
    _, domain, params = event.fields
    return DomainKey(*domain), figures(params)


async def list_checkpoints(
    remote: Remote, domain: DomainKey, *, sizes: bool = False
) -> list[CheckpointReport]:
    """Parents before their children; `sizes` can be told of a running domain only."""
    found, _ = await remote.call(
        "DOMAIN_LIST_ALL_CHECKPOINTS", domain, 1, int(CheckpointList.TOPOLOGICAL)
    )
    plain = await _documents(remote, found, 0)
    with_sizes = await _documents(remote, found, CheckpointXml.SIZE) if sizes else plain
    return [
        _checkpoint(sized or bare, bare or sized, sized=sizes and bool(sized))
        for bare, sized in zip(plain, with_sizes, strict=True)
        if bare or sized
    ]


async def _documents(remote: Remote, checkpoints: Sequence[Fields], flags: int) -> list[str]:
    """Empty where one is refused: it has gone meanwhile, or an old server knows no such flag."""
    asked = [(checkpoint, int(flags)) for checkpoint in checkpoints]
    answers = await remote.calls("DOMAIN_CHECKPOINT_GET_XML_DESC", asked)
    return ["" if isinstance(answer, Refused) else answer[0] for answer in answers]


def figures(params: Sequence[tuple[str, tuple[int, int | float | str]]]) -> Figures:
    return {name: value for name, (_, value) in params}


def parse_document(text: str) -> etree._Element:
    """A document that a server sent; it cannot make this side read files or grow without end."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    try:
        return etree.fromstring(text, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise ConnectionLost(f"the server sends XML that cannot be read: {error}") from None


def _checkpoint(text: str, xml: str, *, sized: bool) -> CheckpointReport:
    root = parse_document(text)
    name = root.findtext("name") or ""
    return CheckpointReport(
        name,
        root.findtext("parent/name"),
        root.findtext("description"),
        _integer(root.findtext("creationTime")) or 0,
        tuple(_disk(disk, name) for disk in root.iterfind("disks/disk")),
        xml,
        sized,
    )


def _disk(element: etree._Element, checkpoint: str) -> CheckpointDisk:
    has_bitmap = element.get("checkpoint") != "no"
    bitmap = element.get("bitmap", checkpoint) if has_bitmap else ""
    return CheckpointDisk(element.get("name", ""), bitmap, _integer(element.get("size")))


def _integer(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None
