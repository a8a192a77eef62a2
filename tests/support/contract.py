"""What the driver contract needs to speak to any driver: a subject with one running domain.

Knows the interface only, so the same tests hold every driver to it. Answers may be plain or
awaitable; `ask` takes both.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from inspect import isawaitable
from pathlib import Path
from typing import TypeVar

import pytest
import trio

from virtbackupd.drivers import errors
from virtbackupd.drivers.enums import DomainState
from virtbackupd.drivers.errors import DriverError, Origin
from virtbackupd.drivers.events import DomainJobCompleted, DomainReboot, Event, TypedParameter
from virtbackupd.drivers.interface import Answer, Domain, Driver, JobStats

T = TypeVar("T")
PATIENCE = 60
"""Seconds after which something that should have happened has not."""


async def ask(answer: Answer[T]) -> T:
    """The result of a call, whether the driver waits or not."""
    if isawaitable(answer):
        with trio.fail_after(PATIENCE):
            return await answer
    return answer


async def refused(
    kind: type[DriverError], call: Callable[[], Answer[object]], origin: Origin | None = None
) -> DriverError:
    """Check that the call is refused in exactly that way."""
    with pytest.raises(kind) as caught:
        await ask(call())
    named = next(base for base in type(caught.value).__mro__ if base.__module__ == errors.__name__)
    assert named is kind, repr(caught.value)
    assert origin is None or caught.value.origin is origin
    return caught.value


@dataclass(slots=True)
class Subject:
    """A running domain with the qcow2 disks vda and vdb and an empty drive, and what it tells."""

    driver: Driver
    domain: Domain
    folder: Path
    events: list[Event] = field(default_factory=list)
    news: trio.Event = field(default_factory=trio.Event)
    until_booted: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint
    """Waits until the guest listens to its power button."""

    def hear(self, event: Event) -> None:
        self.events.append(event)
        self.news.set()
        self.news = trio.Event()

    @property
    def socket(self) -> Path:
        return self.folder / "nbd"

    async def monitor(self, line: str) -> str:
        return await ask(self.domain.monitor_command(line, 1))

    async def write(self, disk: str = "vda", where: str = "0 64k", byte: str = "0xab") -> None:
        """A guest writes."""
        await self.monitor(f'qemu-io {disk} "write -P {byte} {where}"')

    async def shutdown(self) -> None:
        """The guest shuts itself down as the power button asks it to."""
        with trio.fail_after(PATIENCE):
            await self.until_booted()
            await ask(self.domain.shutdown())
            await self._until_state(DomainState.SHUTOFF, DomainState.PAUSED)

    async def reboot(self) -> None:
        """The guest starts again as it is asked to."""
        with trio.fail_after(PATIENCE):
            await self.until_booted()
            await ask(self.domain.reboot(0))
            while not any(isinstance(event, DomainReboot) for event in self.events):
                await self.news.wait()
            await self._until_state(DomainState.RUNNING)

    async def until_stopped(self) -> None:
        with trio.fail_after(PATIENCE):
            await self._until_state(DomainState.SHUTOFF)

    async def _until_state(self, *states: DomainState) -> None:
        while (await ask(self.domain.get_state(0)))[0] not in states:
            await self.news.wait()

    async def checkpoint(self, name: str = "c1", body: str = "", flags: int = 0) -> str:
        return await ask(self.domain.checkpoint_create_xml(checkpoint_xml(name, body), flags))

    async def redefine(self, name: str, parent: str | None = None, flags: int = 1) -> str:
        body = "<creationTime>1700000000</creationTime>"
        if parent is not None:
            body += f"<parent><name>{parent}</name></parent>"
        return await self.checkpoint(name, body, flags)

    async def redefine_disk(self, name: str, flags: int = 1) -> str:
        """Redefine a checkpoint that claims a bitmap on vda."""
        disks = "<disks><disk name='vda' checkpoint='bitmap'/></disks>"
        body = f"<creationTime>1700000000</creationTime>{disks}"
        return await self.checkpoint(name, body, flags)

    async def dump(self, name: str, flags: int = 0) -> str:
        return await ask(self.domain.checkpoint_get_xml_desc(name, flags))

    async def names(self, flags: int = 0) -> list[str]:
        return await ask(self.domain.list_all_checkpoints(flags))

    async def delete(self, name: str, flags: int = 0) -> None:
        await ask(self.domain.checkpoint_delete(name, flags))

    async def begin(self, xml: str, new: str | None = None, flags: int = 0) -> None:
        """Begin a backup, with a new checkpoint if a name is given."""
        checkpoint = checkpoint_xml(new) if new is not None else None
        await ask(self.domain.backup_begin(xml, checkpoint, flags))

    def pull_xml(self, disks: str = "", since: str | None = None) -> str:
        server = f"<server transport='unix' socket='{self.socket}'/>"
        return f"<domainbackup mode='pull'>{body_xml(disks, since)}{server}</domainbackup>"

    async def pull(self, disks: str = "", since: str | None = None, new: str | None = None) -> None:
        await self.begin(self.pull_xml(disks, since), new)

    async def push(self, target: Path, since: str | None = None, new: str | None = None) -> None:
        """Copy vda alone into a new qcow2 file."""
        await self.begin(push_xml(target, since), new)

    async def backup_dump(self) -> str:
        return await ask(self.domain.backup_get_xml_desc(0))

    async def stats(self, flags: int = 0) -> JobStats:
        return await ask(self.domain.get_job_stats(flags))

    async def abort(self) -> None:
        await ask(self.domain.abort_job())

    async def ended(self) -> dict[str, int | float | str]:
        """Wait for the end of a job that has not been waited for yet."""
        with trio.fail_after(PATIENCE):
            while not (found := [e for e in self.events if isinstance(e, DomainJobCompleted)]):
                await self.news.wait()
        self.events.remove(found[0])
        return values(found[0].params)

    async def ended_with(self, count: int) -> None:
        """Wait until so many events have been told in all."""
        with trio.fail_after(PATIENCE):
            while len(self.events) < count:
                await self.news.wait()

    async def finish(self) -> dict[str, int | float | str]:
        """End a pull and wait for it."""
        await self.abort()
        return await self.ended()


def checkpoint_xml(name: str, body: str = "") -> str:
    return f"<domaincheckpoint><name>{name}</name>{body}</domaincheckpoint>"


def body_xml(disks: str, since: str | None) -> str:
    start = f"<incremental>{since}</incremental>" if since is not None else ""
    return start + (f"<disks>{disks}</disks>" if disks else "")


def push_disk(target: Path, driver: str = "qcow2") -> str:
    return f"<disk name='vda' type='file'><target file='{target}'/><driver type='{driver}'/></disk>"


def push_xml(target: Path, since: str | None = None, driver: str = "qcow2") -> str:
    return f"<domainbackup>{body_xml(push_disk(target, driver), since)}</domainbackup>"


def values(
    params: "tuple[TypedParameter, ...] | list[TypedParameter]",
) -> dict[str, int | float | str]:
    return {param.field: param.value for param in params}
