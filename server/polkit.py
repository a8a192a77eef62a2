"""Asks polkit, over the system bus, whether a local process may do something.

Each question has a connection for itself while it lasts, so that a person who thinks about a
password holds up nobody; a few are kept for the next questions. Knows no procedure.
"""

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

import trio
from jeepney import DBusAddress, HeaderFields, Message, MessageType, new_method_call
from jeepney.auth import BEGIN, Authenticator
from jeepney.bus import get_bus
from jeepney.bus_messages import message_bus
from jeepney.io.trio import DBusConnection

from virtbackupd.server.errors import AuthenticationFailed, AuthenticationUnavailable
from virtbackupd.server.identity import Identity

log = logging.getLogger(__name__)

MANAGE: Final = "org.libvirt.unix.manage"
MONITOR: Final = "org.libvirt.unix.monitor"
"""libvirt's own actions: all, and looking only."""

AUTHORITY: Final = DBusAddress(
    "/org/freedesktop/PolicyKit1/Authority",
    bus_name="org.freedesktop.PolicyKit1",
    interface="org.freedesktop.PolicyKit1.Authority",
)
SIGNATURE: Final = "(sa{sv})sa{ss}us"
"""The subject, the action, details, flags, and a name to cancel by, which is not used."""
ASK_THE_USER: Final = 1
"""AllowUserInteraction."""
BUS_DEADLINE: Final = 5.0
ANSWER_DEADLINE: Final = 10.0
PERSON_DEADLINE: Final = 110.0
"""Seconds that a password may take; then the client is told, before it is dropped."""
KEPT: Final = 4

_BROKEN: Final = (
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    trio.EndOfChannel,
)
"""What jeepney raises, and trio below it, for a bus that is not there or breaks off."""


class PolkitError(Exception):
    """There is no answer; the text says why."""


class Answer(NamedTuple):
    """As `CheckAuthorization` gives it."""

    authorized: bool
    challenge: bool
    """It would be granted to who gives a password, but nothing is there to ask for it."""
    details: Mapping[str, str]


class Asking(Protocol):
    """The part of the authority that a login needs."""

    async def ask(
        self,
        action: str,
        identity: Identity,
        details: Mapping[str, str] | None = None,
        *,
        interactive: bool = False,
    ) -> Answer: ...


class Polkit:
    """The authority of this machine."""

    def __init__(self, bus: str = "SYSTEM") -> None:
        """`bus` may be an address such as `unix:path=/run/bus`."""
        self._bus = bus
        self._kept: list[DBusConnection] = []

    def login(self, identity: Identity) -> "Login":
        return Login(self, identity)

    async def allows(
        self, action: str, identity: Identity, details: Mapping[str, str] | None = None
    ) -> bool:
        """Whether without asking anybody. PolkitError when there is no answer."""
        return (await self.ask(action, identity, details)).authorized

    async def ask(
        self,
        action: str,
        identity: Identity,
        details: Mapping[str, str] | None = None,
        *,
        interactive: bool = False,
    ) -> Answer:
        """PolkitError when there is no answer, or when the process is not known well enough."""
        question = _question(action, identity, details or {}, interactive=interactive)
        deadline = PERSON_DEADLINE if interactive else ANSWER_DEADLINE
        try:
            with trio.fail_after(deadline):
                return _answer(await self._reply(question))
        except trio.TooSlowError as error:
            raise PolkitError(f"polkit has not answered within {deadline:.0f} seconds") from error
        except _BROKEN as error:
            raise PolkitError(f"polkit cannot be asked over the system bus: {error}") from error

    async def _reply(self, question: Message) -> Message:
        """A kept connection may have broken since; a new one is given no second chance."""
        while self._kept:
            with suppress(*_BROKEN):
                async with self._used(self._kept.pop()) as connection:
                    return await _reply(connection, question)
        async with self._used(await self._open()) as connection:
            return await _reply(connection, question)

    @asynccontextmanager
    async def _used(self, connection: DBusConnection) -> AsyncIterator[DBusConnection]:
        """Keep it for the next question only when nothing went wrong."""
        with ExitStack() as end:
            end.callback(connection.socket.close)
            yield connection
            if len(self._kept) < KEPT:
                end.pop_all()
                self._kept.append(connection)

    async def _open(self) -> DBusConnection:
        with trio.fail_after(BUS_DEADLINE):
            return await _connect(self._bus)

    def close(self) -> None:
        """Let go of the kept connections."""
        while self._kept:
            self._kept.pop().socket.close()


@dataclass(slots=True)
class Login:
    """One client on a Unix socket that wants to be let in."""

    polkit: Asking
    identity: Identity
    _asking: bool = field(default=False, init=False)

    async def check(self) -> Identity:
        """AuthenticationFailed, or AuthenticationUnavailable when an agent would have helped.

        virsh starts an agent for its terminal when it is told the latter, and comes again.
        """
        if self._asking:
            log.warning("user %s may not come in: polkit is being asked already", self.identity.uid)
            raise AuthenticationFailed("authentication failed")
        action = MONITOR if self.identity.read_only else MANAGE
        self._asking = True
        try:
            answer = await self.polkit.ask(action, self.identity, interactive=True)
        except PolkitError as error:
            log.error("a client cannot log in: %s", error)
            raise AuthenticationFailed("authentication failed") from error
        finally:
            self._asking = False
        if answer.authorized:
            return self.identity
        log.warning(
            "user %s may not come in: polkit refuses %s to process %s",
            self.identity.uid, action, self.identity.pid,
        )  # fmt: skip
        if answer.challenge and "polkit.dismissed" not in answer.details:
            raise AuthenticationUnavailable(
                f"no polkit agent available to authenticate action '{action}'"
            )
        raise AuthenticationFailed("authentication failed")


def _question(
    action: str, identity: Identity, details: Mapping[str, str], *, interactive: bool
) -> Message:
    if identity.pid is None or identity.start_time is None or identity.uid is None:
        raise PolkitError("polkit answers for local processes only, and this one cannot be seen")
    process = {
        "pid": ("u", identity.pid),
        "start-time": ("t", identity.start_time),
        "uid": ("i", identity.uid),
    }
    flags = ASK_THE_USER if interactive else 0
    body = (("unix-process", process), action, dict(details), flags, "")
    return new_method_call(AUTHORITY, "CheckAuthorization", SIGNATURE, body)


async def _connect(bus: str) -> DBusConnection:
    """Jeepney's own function for this leaves the socket open when it is cancelled or fails."""
    stream = await trio.open_unix_socket(get_bus(bus))
    with ExitStack() as undo:
        undo.callback(stream.socket.close)
        authenticator = Authenticator()
        for line in authenticator:
            await stream.send_all(line)
            authenticator.feed(await _some(stream))
        await stream.send_all(BEGIN)
        connection = DBusConnection(stream.socket)
        await _reply(connection, message_bus.Hello())
        undo.pop_all()
    return connection


async def _some(stream: trio.SocketStream) -> bytes:
    """EOFError when nothing comes any more."""
    data = bytes(await stream.receive_some())
    if not data:
        raise EOFError("the bus has closed the connection")
    return data


async def _reply(connection: DBusConnection, question: Message) -> Message:
    serial = next(connection.outgoing_serial)
    await connection.send(question, serial=serial)
    while True:
        message = await connection.receive()
        if message.header.fields.get(HeaderFields.reply_serial) == serial:
            return message


def _answer(message: Message) -> Answer:
    if message.header.message_type is not MessageType.method_return:
        name = message.header.fields.get(HeaderFields.error_name, "an error")
        raise PolkitError(f"polkit answers {name}: {' '.join(map(str, message.body))}")
    if message.header.fields.get(HeaderFields.signature) != "(bba{ss})":
        raise PolkitError("polkit's answer is not of the form that is known here")
    authorized, challenge, details = message.body[0]
    return Answer(bool(authorized), bool(challenge), details)
