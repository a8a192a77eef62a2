"""Logins by SASL: SCRAM-SHA-256 (RFC 5802, RFC 7677), the server's side.

A client is told nothing but that it failed: whether there is such a user, whether the name or the
password was wrong, or whether the name may not come in, is for the log. Knows no frame.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import trio
from scramp import ScramException, ScramMechanism
from scramp.core import ScramServer

from virtbackupd.server.errors import AuthenticationFailed
from virtbackupd.server.identity import Identity
from virtbackupd.server.login import Step, private
from virtbackupd.server.tls import matches
from virtbackupd.server.users import MECHANISM, UserFile, Users

log = logging.getLogger(__name__)

ATTEMPTS: Final = 3
"""Failed logins of one connection; after that it is answered no more, only refused."""
FIRST_DELAY: Final = 0.1
"""Seconds before the next login of a peer that has failed once; twice as much each time."""
LONGEST_DELAY: Final = 4.0
FORGIVEN: Final = 60.0
"""Seconds without failure after which a peer has no past."""
PEERS: Final = 1024
"""Peers whose failures are remembered; the oldest is forgotten first."""


class Brake:
    """Slows down who keeps guessing: all connections of the same peer together."""

    def __init__(self, now: Callable[[], float] = trio.current_time) -> None:
        self._now = now
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def delay(self, peer: str) -> float:
        """Seconds that a login of this peer has to wait."""
        count, last = self._failures.get(peer, (0, 0.0))
        if not count or self._now() > last + FORGIVEN:
            return 0.0
        return min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(count - 1, 8))

    def failed(self, peer: str) -> None:
        count = self._failures.pop(peer, (0, 0.0))[0] if self.delay(peer) else 0
        self._failures[peer] = (count + 1, self._now())
        if len(self._failures) > PEERS:
            self._failures.popitem(last=False)

    def succeeded(self, peer: str) -> None:
        self._failures.pop(peer, None)


class ScramLogin:
    """The login of one client, from the first message to the last."""

    def __init__(self, sasl: "Sasl", identity: Identity) -> None:
        self._sasl = sasl
        self._identity = identity
        self._server: ScramServer | None = None
        self._first = False
        """Whether the client's first message is still to come."""
        self.name = ""
        self._failures = 0
        self._busy = False

    def mechanisms(self) -> str:
        if not private(self._identity):
            raise self._refused(
                "no mechanism here encrypts what follows; connect by TLS or a Unix socket"
            )
        return MECHANISM

    async def start(self, mechanism: str, data: bytes | None) -> Step:
        """Begins anew whatever was under way. AuthenticationFailed."""
        if not private(self._identity) or mechanism != MECHANISM or self._busy:
            raise self._refused(f"it cannot begin a login by {mechanism!r:.40} now")
        if self._failures >= ATTEMPTS:
            raise self._refused(f"{self._failures} logins of this connection have failed")
        self._busy = True
        try:
            await trio.sleep(self._sasl.brake.delay(_peer(self._identity)))
            users = await trio.to_thread.run_sync(self._sasl.users.current)
        finally:
            self._busy = False
        self._server = ScramMechanism(MECHANISM).make_server(self._credentials(users))
        self._first = True
        return Step(None) if data is None else await self.step(data)

    async def step(self, data: bytes | None) -> Step:
        """AuthenticationFailed ends the login."""
        server = self._server
        if server is None or self._busy:
            raise self._refused("there is no login that it could go on with")
        try:
            return self._answer(server, (data or b"").decode())
        except (ScramException, UnicodeDecodeError) as error:
            self._server = None
            raise await self._failed(str(error)) from error

    def _answer(self, server: ScramServer, text: str) -> Step:
        if self._first:
            self._first = False
            server.set_client_first(text)
            return Step(str(server.get_server_first()).encode())
        server.set_client_final(text)
        if not self._sasl.may(self.name):
            raise ScramException("sasl_allowed_username_list has no such name")
        self._server = None
        self._sasl.brake.succeeded(_peer(self._identity))
        last = str(server.get_server_final()).encode()
        return Step(last, self._identity.logged_in(self.name))

    def _credentials(self, users: Users) -> Callable[[str], tuple[object, ...]]:
        def find(name: str) -> tuple[object, ...]:
            self.name = name
            return tuple(users.find(name))

        return find

    async def _failed(self, reason: str) -> AuthenticationFailed:
        """The answer takes as long as the next login would have to wait."""
        self._failures += 1
        peer = _peer(self._identity)
        self._sasl.brake.failed(peer)
        self._busy = True
        try:
            await trio.sleep(self._sasl.brake.delay(peer))
        finally:
            self._busy = False
        return self._refused(reason)

    def _refused(self, reason: str) -> AuthenticationFailed:
        self._server = None
        name = f" as {self.name!r:.80}" if self.name else ""
        log.warning("%s cannot log in%s: %s", _peer(self._identity), name, reason)
        return AuthenticationFailed("authentication failed")


class Sasl:
    """What all logins share."""

    def __init__(self, users: UserFile, allowed: Sequence[str] | None = None) -> None:
        """`allowed` are patterns of names; None is everybody in the file."""
        self.users = users
        self.brake = Brake()
        self.allow(allowed)

    def allow(self, names: Sequence[str] | None) -> None:
        self._allowed = None if names is None else tuple(names)

    def login(self, identity: Identity) -> ScramLogin:
        return ScramLogin(self, identity)

    def may(self, name: str) -> bool:
        return self._allowed is None or matches(name, self._allowed)


def open_sasl(path: Path, allowed: Sequence[str] | None = None) -> Sasl:
    """A file that is of no use is told of, now and when somebody logs in."""
    users = UserFile(path, lambda reason: log.warning("nobody can log in by SASL: %s", reason))
    users.current()
    return Sasl(users, allowed)


def _peer(identity: Identity) -> str:
    """Who is made to wait together: a user of this machine, or another machine."""
    if identity.uid is not None:
        return f"user {identity.uid}"
    return identity.address.rpartition(":")[0] or "somebody"
