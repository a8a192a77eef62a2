"""What a restarted daemon needs of a run, in one XML file: how QEMU is reached, its state, the
live definition, and what backups and block nodes keep there.

The format is the domain XML that the API prints inside a `<domstatus>`. Writes are in order: the
last one on the disk is the newest state. Whether the run still exists is not decided here.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import trio
from lxml import etree

from virtbackupd.drivers import store
from virtbackupd.drivers.definitions.document import parse_document
from virtbackupd.drivers.definitions.domain import DomainDefinition, read_domain
from virtbackupd.drivers.definitions.writer import format_element
from virtbackupd.drivers.errors import DriverError, XmlError

if TYPE_CHECKING:
    from virtbackupd.drivers.qemu.domain import QemuDomain
    from virtbackupd.drivers.qemu.run import Run

log = logging.getLogger(__name__)

Write: TypeAlias = Callable[["QemuDomain"], "etree._Element | None"]  # noqa: SLF001 - lxml's own name
Read: TypeAlias = Callable[["QemuDomain", "etree._Element"], None]  # noqa: SLF001


class Part(NamedTuple):
    """An element below `<domstatus>` that belongs to another module."""

    tag: str
    write: Write
    """None leaves the element out."""
    read: Read
    """Called when the run has been found again, before its monitor is used."""


PARTS: list[Part] = []
"""In the order of the file. Modules add theirs when they are imported."""


@dataclass(frozen=True, slots=True)
class Status:
    """A status file as it was found."""

    definition: DomainDefinition
    id: int
    state: int
    reason: int
    pid: int
    start_time: int
    persistent: bool
    reboots: bool
    """Whether the guest's next power-off is to become a reset."""
    parts: dict[str, etree._Element]


class StatusFile:
    """The file of one domain."""

    def __init__(self, domain: "QemuDomain") -> None:
        self._domain = domain
        self._lock = trio.Lock()
        self._wanted = False
        self._live: tuple[DomainDefinition, str] | None = None
        """The definition last written, and its text: it changes far less often than the rest."""

    @property
    def path(self) -> Path:
        return self._domain.host.settings.status / f"{self._domain.ref.name}.xml"

    async def save(self) -> None:
        """Write the state of this moment; nothing when the run is over."""
        async with self._lock:
            run = self._domain.run
            if run is not None and not run.gone:
                self._wanted = False
                await store.write(self.path, format_status(self._domain, run, self._live_text()))

    async def note(self) -> None:
        """Write what only matters as long as QEMU lives, without waiting for the disk."""
        async with self._lock:
            run = self._domain.run
            if run is not None and not run.gone:
                await store.note(self.path, format_status(self._domain, run, self._live_text()))

    def save_soon(self) -> None:
        """Write in a task of the driver's, until it succeeds; many requests make one write."""
        if not self._wanted:
            self._wanted = True
            self._domain.host.nursery.start_soon(self._save_quietly)

    async def remove(self) -> None:
        """The run is over."""
        async with self._lock:
            await store.remove(self.path)

    def _live_text(self) -> str:
        definition = self._domain.definition
        if self._live is None or self._live[0] is not definition:
            root = etree.fromstring(definition.to_xml(id=self._domain.ref.id))
            self._live = definition, format_element(root, depth=1)
        return self._live[1]

    async def _save_quietly(self) -> None:
        complaint = ""
        while self._wanted:
            try:
                await self.save()
                self._wanted = False
            except DriverError as error:
                if error.message != complaint:
                    complaint = error.message
                    log.error("domain %s: %s", self._domain.ref.name, complaint)
                await trio.sleep(_RETRY_PAUSE)


_LIVE: Final = "domain"


def format_status(domain: "QemuDomain", run: "Run", live: str) -> str:
    """The text of the file; `live` is the live definition's, with its indentation."""
    root = etree.Element(
        "domstatus",
        state=str(domain.state),
        reason=str(domain.reason),
        pid=str(run.process.pid),
        started=str(run.process.start_time),
        persistent=_YES_OR_NO[domain.persistent is not None],
        reboots=_YES_OR_NO[run.reboots],
    )
    for part in PARTS:
        element = part.write(domain)
        if element is not None:
            root.append(element)
    place = format_element(etree.SubElement(root, _LIVE), depth=1)
    head, _, tail = format_element(root).rpartition(place)
    return head + live + tail


def parse_status(text: str) -> Status:
    """Read a file that `format_status` made; a DriverError says what is wrong with it."""
    root = parse_document(text, "domstatus")
    live = root.find(_LIVE)
    if live is None:
        raise XmlError("there is no domain in it")
    domain_id = live.get("id")
    root.remove(live)
    return Status(
        definition=read_domain(live),
        id=_number(domain_id, "domain id"),
        state=_number(root.get("state"), "state"),
        reason=_number(root.get("reason"), "reason"),
        pid=_number(root.get("pid"), "pid"),
        start_time=_number(root.get("started"), "started"),
        persistent=root.get("persistent") == "yes",
        reboots=root.get("reboots") == "yes",
        parts={part.tag: found for part in PARTS if (found := root.find(part.tag)) is not None},
    )


_DIGITS: Final = 20
_YES_OR_NO: Final = {True: "yes", False: "no"}
_RETRY_PAUSE: Final = 2.0
"""Seconds until there may be room on the disk again."""


def _number(text: str | None, what: str) -> int:
    if text is None or not text.isascii() or not text.isdigit() or len(text) > _DIGITS:
        raise XmlError(f"its {what} is {text!r}, not a number")
    return int(text)
