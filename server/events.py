"""From a driver's event to an event message for each callback of each client, in order.

A driver publishes at any time, also in the middle of a call. What it publishes is queued, and a
pump delivers it once the reply of the call has left. This module knows no socket: messages go to
the `Link` of a session's callback table.
"""

import logging
import struct
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import NamedTuple, Protocol

import trio

from virtbackupd.drivers import events
from virtbackupd.drivers.errors import InternalError, InvalidArgument, Origin
from virtbackupd.drivers.interface import Driver
from virtbackupd.protocol.message import event as event_frame
from virtbackupd.protocol.procedures import Procedure
from virtbackupd.protocol.schema import Schema
from virtbackupd.server.event_forms import FORMS, Family, Form, Subject, subject
from virtbackupd.server.limits import Limits
from virtbackupd.server.session import CAUSE, Link
from virtbackupd.server.translate import Wire

log = logging.getLogger(__name__)


class Registration(NamedTuple):
    """What one callback wants: events of one id, of one object or (`uuid` None) of all."""

    family: Family
    event_id: int | str
    uuid: bytes | None


class Gate(Protocol):
    """Lets events through to a client, or drops them."""

    def deliver(self, frame: bytes, about: Subject) -> None: ...


class CallbackTable:
    """The callbacks of one client, of both generations."""

    __slots__ = ("_driver", "_last_id", "_legacy", "_modern", "_router", "gate", "link")

    def __init__(self, router: "EventRouter", link: Link) -> None:
        self._router = router
        self.link = link
        self.gate: Gate | None = None
        """Where access is controlled, what decides about each event."""
        self._driver: Driver | None = None
        self._last_id = -1
        self._modern: dict[int, Registration] | None = None
        self._legacy: set[int] | None = None

    def attach(self, driver: Driver) -> None:
        """From now on the events of `driver` are meant."""
        self._driver = driver

    def register(self, wanted: Registration) -> int:
        """The callback's id; one client may not want the same twice."""
        modern = self._modern = self._modern if self._modern is not None else {}
        if wanted in modern.values():
            raise InvalidArgument(
                f"event {wanted.event_id} of this object already has a callback of this client",
                origin=Origin.NONE,
            )
        limits = self._router.limits
        if len(modern) >= limits.max_client_callbacks:
            limits.reached["max_client_callbacks"] += 1
            raise InternalError(
                f"one client may have {len(modern)} callbacks (max_client_callbacks); remove one"
                " first"
            )
        self._last_id += 1
        modern[self._last_id] = wanted
        self._listen()
        return self._last_id

    def deregister(self, family: Family, callback_id: int) -> None:
        found = (self._modern or {}).get(callback_id)
        if self._modern is None or found is None or found.family is not family:
            name = family.name.lower().replace("_", " ")
            raise InternalError(
                f"{name} event callback {callback_id} not registered", origin=Origin.RPC
            )
        del self._modern[callback_id]

    def register_legacy(self, event_id: int) -> None:
        legacy = self._legacy = self._legacy if self._legacy is not None else set()
        if event_id in legacy:
            raise InvalidArgument(
                f"event {event_id} already has a callback of this client", origin=Origin.NONE
            )
        legacy.add(event_id)
        self._listen()

    def deregister_legacy(self, event_id: int) -> None:
        if self._legacy is None or event_id not in self._legacy:
            raise InternalError(f"domain event {event_id} not registered", origin=Origin.RPC)
        self._legacy.remove(event_id)

    def wanting(self, family: Family, event_id: int, uuid: bytes) -> Iterator[int | None]:
        """The id of each callback that wants this event; None for one of the old generation."""
        if family is Family.DOMAIN and self._legacy and event_id in self._legacy:
            yield None
        for callback_id, wanted in (self._modern or {}).items():
            if wanted[:2] == (family, event_id) and wanted.uuid in {None, uuid}:
                yield callback_id

    def has(self, event_id: int, callback_id: int | None) -> bool:
        """Whether a callback that wanted an event is still there."""
        if callback_id is None:
            return self._legacy is not None and event_id in self._legacy
        return self._modern is not None and callback_id in self._modern

    def deliver(self, frame: bytes, about: Subject) -> None:
        """Send an event about an object to the client, if it may know of it."""
        if self.gate is None:
            self.link.deliver(frame)
        else:
            self.gate.deliver(frame, about)

    def close(self) -> None:
        self._modern = self._legacy = None
        if self._driver is not None:
            self._router.forget(self._driver, self)

    def _listen(self) -> None:
        if self._driver is not None:
            self._router.listen(self._driver, self)


class _Queued(NamedTuple):
    """A message for the callbacks that there were when it was published."""

    messages: "_Messages"
    recipients: list[tuple[CallbackTable, int | None]]
    body: Wire
    about: Subject


class EventFilter(Protocol):
    """Decides which events are told, how often and when."""

    def pass_on(self, event: events.Event, tell: Callable[[events.Event], None]) -> None: ...


class EventRouter:
    """Takes events of all drivers and hands them to the clients that want them."""

    def __init__(self, schema: Schema, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._messages = {
            form.modern: _Messages(schema, form) for forms in FORMS.values() for form in forms
        }
        self._tables: dict[int, dict[CallbackTable, None]] = {}
        self._queue: deque[_Queued] = deque()
        self._wake = trio.Event()
        self.dropped = 0
        self.observer: Callable[[list[int], Procedure, Wire], None] | None = None
        """Told what is delivered to which clients, by their numbers."""
        self.faults: EventFilter | None = None
        """Decides what becomes of each event; None tells all of them."""

    @property
    def waiting(self) -> int:
        """Events that are published and not delivered yet."""
        return len(self._queue)

    @contextmanager
    def subscribed(self, drivers: Mapping[str, Driver]) -> Iterator[None]:
        """Listen to each driver, once however many schemes it answers."""
        distinct = {id(driver): driver for driver in drivers.values()}
        with ExitStack() as stack:
            for driver in distinct.values():
                stack.enter_context(driver.events.subscribed(partial(self._publish, driver)))
            yield

    def listen(self, driver: Driver, table: CallbackTable) -> None:
        self._tables.setdefault(id(driver), {})[table] = None

    def forget(self, driver: Driver, table: CallbackTable) -> None:
        self._tables.get(id(driver), {}).pop(table, None)

    async def run(self) -> None:
        """Deliver for ever what is published outside of calls."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            self.flush()

    def flush(self) -> None:
        """Deliver all that waits. A client calls it when the replies of its calls have left."""
        while self._queue:
            queued = self._queue.popleft()
            queued.messages.send(queued.recipients, queued.body, queued.about)
            if self.observer is not None:
                clients = [table.link.number for table, _ in queued.recipients]
                self.observer(clients, queued.messages.procedure, queued.body)

    def _publish(self, driver: Driver, event: events.Event) -> None:
        if self.faults is None:
            self._tell(driver, event)
        else:
            self.faults.pass_on(event, partial(self._tell, driver))

    def _tell(self, driver: Driver, event: events.Event) -> None:
        cause = CAUSE.get()
        if cause is not None:
            cause.published()
        tables = self._tables.get(id(driver))
        if tables:
            for form in FORMS[type(event)]:
                self._enqueue(form, tables, event)

    def _enqueue(self, form: Form, tables: dict[CallbackTable, None], event: events.Event) -> None:
        body = form.body(event)
        about = subject(event)
        recipients = [
            (table, callback_id)
            for table in tables
            for callback_id in table.wanting(form.family, form.event_id, about.uuid)
        ]
        if body is None or not recipients:
            return
        if len(self._queue) >= self.limits.max_queued_events:
            self._drop()
            return
        self._queue.append(_Queued(self._messages[form.modern], recipients, body, about))
        self._wake.set()

    def _drop(self) -> None:
        if not self.dropped:
            log.error("more than %d events wait for delivery: dropping", len(self._queue))
        self.dropped += 1
        self.limits.reached["max_queued_events"] += 1


class _Messages:
    """The messages of one form. A body is encoded once for all callbacks."""

    def __init__(self, schema: Schema, form: Form) -> None:
        self._form = form
        self._modern = schema.by_name[form.modern]
        self._legacy = schema.by_name[form.legacy] if form.legacy else None
        self._nested = _is_nested(self._modern)

    @property
    def procedure(self) -> Procedure:
        """The message of the newer generation, which names the event for people."""
        return self._modern

    def send(
        self, recipients: list[tuple[CallbackTable, int | None]], body: Wire, about: Subject
    ) -> None:
        encoded = self._encode(body)
        for table, callback_id in recipients:
            if table.has(self._form.event_id, callback_id):
                table.deliver(self._frame(callback_id, encoded), about)

    def _encode(self, body: Wire) -> bytes:
        """The fields behind the callback id, which are the whole message of the old generation."""
        fields = (0, body) if self._nested else (0, *body)
        return self._modern.encode_message(fields)[_CALLBACK_ID.size :]

    def _frame(self, callback_id: int | None, encoded: bytes) -> bytes:
        if callback_id is not None:
            payload = _CALLBACK_ID.pack(callback_id) + encoded
            return event_frame(self._modern.program, self._modern.number, payload)
        if self._legacy is None:
            return b""
        return event_frame(self._legacy.program, self._legacy.number, encoded)


_CALLBACK_ID = struct.Struct(">i")


def _is_nested(procedure: Procedure) -> bool:
    """Newer messages of old events wrap the old message; the bytes are the same either way."""
    fields = procedure.message.fields if procedure.message else ()
    return len(fields) == 2 and fields[1].type_name.endswith("_msg")
