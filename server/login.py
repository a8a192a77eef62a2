"""What a socket asks of its clients before it knows them, and who answers for it.

A `Login` is one client's; it ends with the client known. Knows no procedure and no driver.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple, Protocol

from virtbackupd.server.identity import Identity, Transport


class Scheme(IntEnum):
    """`remote_auth_type`; the names in lower case are those of libvirtd.conf."""

    NONE = 0
    SASL = 1
    POLKIT = 2


class Step(NamedTuple):
    """What a login says to the client: None differs from no bytes."""

    data: bytes | None
    identity: Identity | None = None
    """Who the client is; with it the login is complete."""


class SaslLogin(Protocol):
    """The server's side of one client's login. All raise AuthenticationFailed."""

    @property
    def name(self) -> str:
        """Who the client says it is, as far as it has said so."""

    def mechanisms(self) -> str:
        """Those on offer, with commas between them."""

    async def start(self, mechanism: str, data: bytes | None) -> Step:
        """The first message, or none."""

    async def step(self, data: bytes | None) -> Step:
        """What follows."""


class PolkitLogin(Protocol):
    """Asks the authority about the process at the other end."""

    async def check(self) -> Identity: ...


class SaslServer(Protocol):
    """Makes logins."""

    def login(self, identity: Identity) -> SaslLogin: ...

    def allow(self, names: Sequence[str] | None) -> None:
        """Let in, from now on, whose name fits one of these patterns; None is everybody."""


class PolkitServer(Protocol):
    """Makes logins."""

    def login(self, identity: Identity) -> PolkitLogin: ...

    def close(self) -> None: ...


class Login(NamedTuple):
    """What has to be done first: at most one of the two. None of them: nothing."""

    sasl: SaslLogin | None = None
    polkit: PolkitLogin | None = None

    @property
    def scheme(self) -> Scheme:
        if self.sasl is not None:
            return Scheme.SASL
        return Scheme.NONE if self.polkit is None else Scheme.POLKIT


NO_LOGIN = Login()


class NoServerError(Exception):
    """A socket asks for a login that there is nothing for: nobody may come in."""


@dataclass(frozen=True, slots=True)
class Authentication:
    """What there is to log in with."""

    sasl: SaslServer | None = None
    polkit: PolkitServer | None = None

    def login(self, scheme: Scheme, identity: Identity) -> Login:
        """As with libvirtd, polkit is not asked about root, which could change its rules."""
        if scheme is Scheme.NONE or (scheme is Scheme.POLKIT and identity.uid == 0):
            return NO_LOGIN
        if scheme is Scheme.SASL and self.sasl is not None:
            return Login(sasl=self.sasl.login(identity))
        if scheme is Scheme.POLKIT and self.polkit is not None:
            return Login(polkit=self.polkit.login(identity))
        raise NoServerError(f"nothing is set up for clients to log in by {scheme.name.lower()}")

    def close(self) -> None:
        """Nobody logs in any more."""
        if self.polkit is not None:
            self.polkit.close()


def private(identity: Identity) -> bool:
    """Whether nobody can listen in on the way."""
    return identity.transport is not Transport.TCP
