"""Reads off a libvirt server all that a world file can hold: the host, domains, checkpoints.

Contents of disks are not read, nor values of secrets. How a recording is written is not known here.
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from lxml import etree

from virtbackupd.drivers.enums import DomainState, XmlFlags
from virtbackupd.server.remote import Fields, Refused, Remote
from virtbackupd.server.remote_host import (
    CheckpointReport,
    DomainKey,
    list_checkpoints,
    list_states,
    parse_document,
)
from virtbackupd.server.watch.bitmaps import BitmapState, Consistency, ask_monitor, bitmap_state

CLUSTER: Final = 65_536
"""Bitmaps count in these, as QEMU's do by default."""
FORMATS: Final = frozenset({"qcow2", "raw"})
"""What an image of a world can be; all others are taken for raw."""
_STATES: Final = {
    DomainState.SHUTOFF: "shutoff",
    DomainState.CRASHED: "shutoff",
    DomainState.NOSTATE: "shutoff",
    DomainState.PAUSED: "paused",
    DomainState.PMSUSPENDED: "paused",
}
"""All others run."""
_BITMAPS: Final = {
    BitmapState.MISSING: "missing",
    BitmapState.INCONSISTENT: "inconsistent",
    BitmapState.UNUSABLE: "inconsistent",
}


class RecordedHost(NamedTuple):
    """What the server says of itself; None where it refuses to."""

    hostname: str | None
    libvirt: str | None
    hypervisor: str | None
    capabilities: str | None
    domain_capabilities: tuple[str, ...]


class RecordedLayer(NamedTuple):
    """An image below a disk's own."""

    path: str
    format: str


class RecordedDisk(NamedTuple):
    """An image that a disk shows; sizes in bytes."""

    target: str
    path: str
    format: str
    size: int
    allocation: int
    backing: tuple[RecordedLayer, ...]
    data_store: str | None
    """The raw file that holds the data of a qcow2 image."""


class Change(NamedTuple):
    """What was written after a checkpoint: as much as its bitmap tells, wherever that was."""

    target: str
    offset: int
    length: int


class RecordedCheckpoint(NamedTuple):
    """A checkpoint with the state of bitmaps that cannot be used."""

    name: str
    parent: str | None
    xml: str
    bitmaps: dict[str, str]
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedDomain:
    """A domain; `live_xml` is None when it does not run, or has no other definition."""

    name: str
    uuid: str
    state: str
    autostart: bool
    persistent: bool
    xml: str
    live_xml: str | None
    disks: tuple[RecordedDisk, ...]
    checkpoints: tuple[RecordedCheckpoint, ...]


@dataclass(frozen=True, slots=True)
class Recording:
    """Everything, and what could not be had."""

    host: RecordedHost
    secrets: tuple[str, ...]
    domains: tuple[RecordedDomain, ...]
    notes: list[str] = field(default_factory=list)


async def record_server(
    remote: Remote, domains: Sequence[DomainKey], *, monitor: bool
) -> Recording:
    """`monitor` lets the bitmaps of running domains be looked at with QEMU's monitor.

    Running domains come first and in the order of their numbers, as they will be numbered anew.
    """
    notes: list[str] = []
    ordered = sorted(domains, key=lambda domain: (domain.id < 0, domain.id))
    states = await list_states(remote, ordered)
    recorded = []
    for domain, state in states.items():
        reader = _DomainReader(remote, domain, state, notes)
        recorded.append(await reader.read(monitor=monitor))
    host = await _host(remote, recorded)
    return Recording(host, await _secrets(remote, notes), tuple(recorded), notes)


class _DomainReader:
    """Reads one domain; what it cannot read it notes."""

    def __init__(
        self, remote: Remote, domain: DomainKey, state: DomainState, notes: list[str]
    ) -> None:
        self._remote = remote
        self._domain = domain
        self._state = _STATES.get(state, "running")
        self._notes = notes

    async def read(self, *, monitor: bool) -> RecordedDomain:
        (persistent,) = await self._call("DOMAIN_IS_PERSISTENT")
        (autostart,) = await self._call("DOMAIN_GET_AUTOSTART") if persistent else (0,)
        live = await self._xml(0) if self._state != "shutoff" else None
        inactive = await self._xml(XmlFlags.INACTIVE) if persistent or live is None else live
        root = parse_document(live or inactive)
        disks = tuple([disk async for disk in self._disks(root)])
        return RecordedDomain(
            name=self._domain.name,
            uuid=root.findtext("uuid") or "",
            state=self._state,
            autostart=bool(autostart),
            persistent=bool(persistent),
            xml=inactive,
            live_xml=live if persistent else None,
            disks=disks,
            checkpoints=await self._checkpoints(
                {disk.target: disk.size for disk in disks}, monitor=monitor
            ),
        )

    async def _call(self, name: str, *args: object) -> Fields:
        return await self._remote.call(name, self._domain, *args)

    async def _xml(self, flags: int) -> str:
        """Without the parts that are secret."""
        (text,) = await self._call("DOMAIN_GET_XML_DESC", int(flags))
        return str(text)

    async def _disks(self, root: etree._Element) -> AsyncIterator[RecordedDisk]:
        for element in root.iterfind("devices/disk"):
            target, source = element.find("target"), element.find("source")
            if target is None or source is None:
                continue
            name, path = target.get("dev", ""), source.get("file") or source.get("dev")
            if path is None:
                self._note(f"disk {name} has no path: the world shows it, but with no contents")
                continue
            try:
                info = await self._call("DOMAIN_GET_BLOCK_INFO", name, 0)
            except Refused as refusal:
                self._note(f"size of disk {name} is not known: {refusal}")
                continue
            allocation, capacity, _ = info
            layers = tuple(_layers(element))
            store = source.find("dataStore/source")
            data_store = None if store is None else store.get("file")
            yield RecordedDisk(
                name, path, _format(element), capacity, allocation, layers, data_store
            )

    async def _checkpoints(
        self, sizes: Mapping[str, int], *, monitor: bool
    ) -> tuple[RecordedCheckpoint, ...]:
        running = self._state != "shutoff"
        try:
            found = await list_checkpoints(self._remote, self._domain, sizes=running)
        except Refused as refusal:
            self._note(f"no checkpoints: {refusal}")
            return ()
        consistent = None
        if monitor and running and found:
            consistent = await ask_monitor(self._remote, self._domain)
        changes = _changes(found, sizes)
        return tuple(
            RecordedCheckpoint(
                each.name, each.parent, each.xml, _bad_bitmaps(each, consistent), changes[each.name]
            )
            for each in found
        )

    def _note(self, text: str) -> None:
        self._notes.append(f"domain {self._domain.name}: {text}")


def _format(element: etree._Element) -> str:
    driver = element.find("driver")
    found = driver.get("type", "raw") if driver is not None else "raw"
    return found if found in FORMATS else "raw"


def _layers(disk: etree._Element) -> Iterator[RecordedLayer]:
    """The chain below a disk, as far as it is of local files."""
    below = disk.find("backingStore")
    while below is not None:
        source, kind = below.find("source"), below.find("format")
        path = None if source is None else source.get("file") or source.get("dev")
        if path is None:
            return
        format_name = "raw" if kind is None else kind.get("type", "raw")
        yield RecordedLayer(path, format_name if format_name in FORMATS else "raw")
        below = below.find("backingStore")


def _bad_bitmaps(checkpoint: CheckpointReport, consistent: Consistency | None) -> dict[str, str]:
    states = {disk.target: bitmap_state(checkpoint, disk, consistent) for disk in checkpoint.disks}
    return {target: _BITMAPS[state] for target, state in states.items() if state in _BITMAPS}


def _changes(
    checkpoints: Sequence[CheckpointReport], capacities: Mapping[str, int]
) -> dict[str, tuple[Change, ...]]:
    """Writes after which every bitmap tells as much as it was read to.

    A bitmap holds what was written after its checkpoint and after all later ones.
    """
    counted: dict[str, int] = {}
    changes: dict[str, tuple[Change, ...]] = {}
    for checkpoint in reversed(checkpoints):
        found = []
        for disk in checkpoint.disks:
            known = counted.get(disk.target, 0)
            size = min(disk.size or 0, capacities.get(disk.target, 0)) // CLUSTER * CLUSTER
            if size > known:
                found.append(Change(disk.target, known, size - known))
                counted[disk.target] = size
        changes[checkpoint.name] = tuple(found)
    return changes


async def _host(remote: Remote, domains: Iterable[RecordedDomain]) -> RecordedHost:
    return RecordedHost(
        (await _maybe(remote, "CONNECT_GET_HOSTNAME"))[0],
        _version((await _maybe(remote, "CONNECT_GET_LIB_VERSION"))[0]),
        _version((await _maybe(remote, "CONNECT_GET_VERSION"))[0]),
        (await _maybe(remote, "CONNECT_GET_CAPABILITIES"))[0],
        tuple([xml async for xml in _domain_capabilities(remote, domains)]),
    )


async def _domain_capabilities(
    remote: Remote, domains: Iterable[RecordedDomain]
) -> AsyncIterator[str]:
    """For what the server takes by default, and for each kind of machine that a domain is."""
    kinds = [_machine_kind(parse_document(domain.xml)) for domain in domains]
    seen = set()
    for kind in dict.fromkeys([(None, None, None, None), *kinds]):
        (xml,) = await _maybe(remote, "CONNECT_GET_DOMAIN_CAPABILITIES", *kind, 0)
        if xml is not None and xml not in seen:
            seen.add(xml)
            yield xml


def _machine_kind(root: etree._Element) -> tuple[str | None, ...]:
    """Emulator, architecture, machine, virtualisation type."""
    guest = root.find("os/type")
    arch, machine = (None, None) if guest is None else (guest.get("arch"), guest.get("machine"))
    return root.findtext("devices/emulator"), arch, machine, root.get("type")


async def _secrets(remote: Remote, notes: list[str]) -> tuple[str, ...]:
    try:
        found, _ = await remote.call("CONNECT_LIST_ALL_SECRETS", 1, 0)
    except Refused as refusal:
        notes.append(f"no secrets: {refusal}")
        return ()
    answers = await remote.calls("SECRET_GET_XML_DESC", [(secret, 0) for secret in found])
    return tuple(answer[0] for answer in answers if not isinstance(answer, Refused))


async def _maybe(remote: Remote, name: str, *args: object) -> Fields:
    """The answer, or None for one that the server refuses to give."""
    try:
        return await remote.call(name, *args)
    except Refused:
        return (None,)


def _version(number: int | None) -> str | None:
    if number is None:
        return None
    return f"{number // 1_000_000}.{number // 1_000 % 1_000}.{number % 1_000}"
