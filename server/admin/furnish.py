"""Fills the house of the administration socket with what this daemon has, and serves it.

The only module here that knows the rest of the server.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from virtbackupd.drivers.enums import TypedParameterType
from virtbackupd.drivers.errors import InvalidArgument, OperationFailed
from virtbackupd.drivers.events import TypedParameter
from virtbackupd.server.admin.house import ClientLimits, Connected, House, Logging, Server
from virtbackupd.server.admin.listening import SERVER_NAME, AdminServer
from virtbackupd.server.client import Client
from virtbackupd.server.config import Settings
from virtbackupd.server.identity import Identity, Transport
from virtbackupd.server.listeners import Listener
from virtbackupd.server.logs import Logs
from virtbackupd.server.reception import Reception
from virtbackupd.server.services import Services
from virtbackupd.server.tls import TlsError, TlsServer

MAIN: Final = "libvirtd"
"""What clients of libvirtd, which name it in their commands, call the server of machines."""

_TRANSPORTS: Final = {Transport.UNIX: 0, Transport.TCP: 1, Transport.TLS: 2}
"""virClientTransport."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A client of the main server, as an administrator sees it. Satisfies `Connected`."""

    client: Client

    @property
    def number(self) -> int:
        return self.client.number

    @property
    def since(self) -> float:
        return self.client.since

    @property
    def transport(self) -> int:
        return _TRANSPORTS[self.client.identity.transport]

    @property
    def anonymous(self) -> bool:
        return self.client.anonymous

    def facts(self) -> Sequence[TypedParameter]:
        """Names of virt-admin's `client-info`."""
        known = dict(_facts(self.client.identity))
        read_only = TypedParameter(
            "readonly", TypedParameterType.BOOLEAN, int(self.client.read_only)
        )
        return [read_only, *(_parameter(name, known[name]) for name in known)]

    def give_up(self, reason: str) -> None:
        self.client.cut(reason)


async def serve_admin(
    listener: Listener,
    shared: Services,
    reception: Reception,
    lib_version: int,
    tls: TlsServer | None,
) -> None:
    """Accept on the administration socket until cancelled."""
    update_tls = None if tls is None else partial(_read_again, tls)
    house = House(lib_version, _logging(shared.logs), partial(_set_timeout, shared))
    house.servers[MAIN] = _main_server(shared, reception, update_tls)
    admin = AdminServer(house, shared.clock, shared.limits.reached)
    own = ClientLimits(shared.limits.admin_max_clients, 0)
    admin.entry(Server(SERVER_NAME, tuple, own, _nothing_else))
    if shared.reloading is not None:
        shared.reloading.hooks.append(partial(_show_limits, house))
    await admin.serve(listener.socket)


async def _show_limits(house: House, settings: Settings) -> None:
    """Those of a configuration that was read again, which hold by now."""
    main, own = house.servers[MAIN].limits, house.servers[SERVER_NAME].limits
    main.clients, main.anonymous = settings.max_clients, settings.max_anonymous_clients
    own.clients = settings.admin_max_clients


async def _read_again(tls: TlsServer) -> None:
    try:
        await tls.reload(tls.files, tls.rules)
    except TlsError as error:
        raise OperationFailed(str(error)) from None


def _main_server(
    shared: Services, reception: Reception, update_tls: Callable[[], Awaitable[None]] | None
) -> Server:
    limits = shared.limits

    def changed(wanted: ClientLimits) -> None:
        limits.max_clients, limits.max_anonymous_clients = wanted.clients, wanted.anonymous
        shared.admission.reconsider()

    def connected() -> Sequence[Connected]:
        return [Caller(client) for client in reception.clients]

    held = ClientLimits(limits.max_clients, limits.max_anonymous_clients)
    return Server(MAIN, connected, held, changed, update_tls)


def _nothing_else(_limits: ClientLimits) -> None:
    """The limits of this server are looked at whenever somebody connects."""


def _set_timeout(shared: Services, seconds: int) -> None:
    shared.idle.timeout = float(seconds)


def _logging(logs: Logs | None) -> Logging:
    if logs is None:
        return Logging(str, str, _no_logging, _no_logging)
    return Logging(
        lambda: logs.filters,
        lambda: logs.outputs,
        partial(_set, logs.set_filters),
        partial(_set, logs.set_outputs),
    )


def _no_logging(_text: str) -> None:
    raise OperationFailed("the program that this daemon is a part of does the logging")


def _set(change: Callable[[str], None], text: str) -> None:
    try:
        change(text)
    except ValueError as error:
        raise InvalidArgument(str(error)) from None
    except OSError as error:
        raise OperationFailed(str(error)) from None


def _facts(identity: Identity) -> Iterator[tuple[str, int | str]]:
    known = {
        "sock_addr": identity.address or None,
        "sasl_user_name": identity.sasl_name,
        "tls_x509_dname": identity.dn,
        "unix_user_id": identity.uid,
        "unix_user_name": identity.user,
        "unix_group_id": identity.gid,
        "unix_process_id": identity.pid,
    }
    return ((name, value) for name, value in known.items() if value is not None)


def _parameter(name: str, value: int | str) -> TypedParameter:
    kind = TypedParameterType.INT if isinstance(value, int) else TypedParameterType.STRING
    return TypedParameter(name, kind, value)
