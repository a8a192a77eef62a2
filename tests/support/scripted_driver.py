"""A hypervisor that does what a test of the server tells it: no rules, no disks, no time.

A real subclass of the driver interface. What the server needs of an answer is here, nothing else.
"""

# ruff: noqa: ARG002 - signatures are those of the interface

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import trio

from virtbackupd.drivers.errors import NoConnection, NoDomain
from virtbackupd.drivers.events import (
    DomainLifecycle,
    DomainRef,
    EventBus,
    TypedParameter,
)
from virtbackupd.drivers.interface import (
    ConsoleStream,
    Domain,
    DomainStatsRecord,
    Driver,
    DriverOptions,
)

UUID = bytes(range(16))
OTHER_UUID = bytes(range(16, 32))


class EchoConsole(ConsoleStream):
    """Says back what is typed; its output ends when an empty line is typed."""

    def __init__(self) -> None:
        self._typed, self._echo = trio.open_memory_channel[bytes](10)
        self.closed = False

    async def receive(self) -> bytes:
        return await self._echo.receive()

    def send_nowait(self, data: bytes) -> None:
        self._typed.send_nowait(b"" if data == b"\n" else data)

    def close(self) -> None:
        self.closed = True


class ScriptedDomain(Domain):
    """`suspend` waits for `proceed`; `resume` publishes and then waits for it."""

    def __init__(self, driver: "ScriptedDriver", name: str, uuid: bytes) -> None:
        self._driver = driver
        self.ref = DomainRef(name, uuid, 1)
        self.destroyed = 0
        self.flags_seen: list[int] = []
        self.consoles: list[EchoConsole] = []

    def get_autostart(self) -> int:
        return 1

    def get_xml_desc(self, flags: int) -> str:
        self.flags_seen.append(flags)
        return f"<domain>{self.ref.name}</domain>"

    def get_state(self, flags: int) -> tuple[int, int]:
        return 1, 1

    def get_os_type(self) -> str:
        raise RuntimeError("this is the bug the test asks for")

    def get_security_label(self) -> tuple[bytes, int]:
        return b"label", 1

    def block_stats_flags(self, path: str, flags: int) -> Sequence[TypedParameter]:
        self.flags_seen.append(flags)
        return [TypedParameter("rd_bytes", 3, 7), TypedParameter("name", 7, path)]

    def list_all_checkpoints(self, flags: int) -> list[str]:
        return ["one", "two"]

    def checkpoint_lookup_by_name(self, name: str, flags: int) -> str:
        return name

    def checkpoint_list_all_children(self, name: str, flags: int) -> list[str]:
        return [f"child of {name}"]

    async def suspend(self) -> None:
        self._driver.waiting += 1
        await self._driver.proceed.wait()

    async def resume(self) -> None:
        self._driver.publish_lifecycle(self.ref)
        await self._driver.proceed.wait()

    def create(self) -> None:
        self._driver.publish_lifecycle(self.ref)

    def create_with_flags(self, flags: int) -> DomainRef:
        return self.ref

    async def destroy(self) -> None:
        await trio.lowlevel.checkpoint()
        self.destroyed += 1

    def open_console(self, dev_name: str | None, flags: int) -> ConsoleStream:
        self.consoles.append(EchoConsole())
        return self.consoles[-1]


class ScriptedDriver(Driver):
    """Two domains, `test` and `other`."""

    def __init__(self) -> None:
        self.events = EventBus()
        self.test = ScriptedDomain(self, "test", UUID)
        self.other = ScriptedDomain(self, "other", OTHER_UUID)
        self.proceed = trio.Event()
        self.waiting = 0

    def publish_lifecycle(self, domain: DomainRef) -> None:
        self.events.publish(DomainLifecycle(domain, 2, 0))

    def check_path(self, scheme: str, path: str) -> None:
        if path not in {"/default", "/system"}:
            raise NoConnection(f"{scheme}:///default is all there is, not {path}")

    def get_type(self) -> str:
        return "SCRIPTED"

    def get_hostname(self) -> str:
        return "x" * 5_000_000

    def get_capabilities(self) -> str:
        return "x" * 4_000_000

    def domain_by_uuid(self, uuid: bytes) -> Domain:
        for domain in (self.test, self.other):
            if domain.ref.uuid == uuid:
                return domain
        raise NoDomain(f"no domain has UUID {uuid.hex()}")

    def domain_lookup_by_name(self, name: str) -> DomainRef:
        for domain in (self.test, self.other):
            if domain.ref.name == name:
                return domain.ref
        raise NoDomain(f"no domain is called {name!r}")

    def list_all_domains(self, flags: int) -> Sequence[DomainRef]:
        return [self.test.ref, self.other.ref]

    def domain_create_xml(self, xml_desc: str, flags: int) -> DomainRef:
        return self.other.ref

    def get_all_domain_stats(
        self, domains: Sequence[bytes], stats: int, flags: int
    ) -> Sequence[DomainStatsRecord]:
        return [DomainStatsRecord(self.test.ref, [TypedParameter("state.state", 1, 1)])]


@asynccontextmanager
async def open_scripted_driver(_options: DriverOptions) -> AsyncIterator[Driver]:
    """What a driver table would hold."""
    yield ScriptedDriver()
