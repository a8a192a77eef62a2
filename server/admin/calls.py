"""THE TABLE of the administration interface: one function for each procedure.

Each takes the house and the decoded arguments and returns the fields of the result, or an awaitable
of them. Names of
parameters are those of libvirt-admin.h. Knows no socket.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from virtbackupd.drivers.enums import TypedParameterType
from virtbackupd.drivers.errors import InvalidArgument, UnsupportedFlags
from virtbackupd.drivers.events import TypedParameter
from virtbackupd.server.admin.house import Connected, House, Server
from virtbackupd.server.translate import Wire, typed_params

AdminCall = Callable[[House, Wire], Wire | Awaitable[Wire]]

MAX_CLIENTS: Final = "nclients_max"
MAX_ANONYMOUS: Final = "nclients_unauth_max"
_WORKERS: Final = (
    "minWorkers", "maxWorkers", "nWorkers", "freeWorkers", "prioWorkers", "jobQueueDepth",
)  # fmt: skip
_MOST_TIMEOUT: Final = 0x7FFFFFFF


def _open(_house: House, args: Wire) -> Wire:
    _no_flags(args[0], "virAdmConnectOpen")
    return ()


def _close(_house: House, _args: Wire) -> Wire:
    return ()


def _lib_version(house: House, _args: Wire) -> Wire:
    return (house.lib_version,)


# Servers
def _list_servers(house: House, args: Wire) -> Wire:
    need_results, flags = args
    _no_flags(flags, "virAdmConnectListServers")
    return [(name,) for name in house.servers] if need_results else [], len(house.servers)


def _lookup_server(house: House, args: Wire) -> Wire:
    name, flags = args
    _no_flags(flags, "virAdmConnectLookupServer")
    return ((house.server(name).name,),)


def _workers(house: House, args: Wire) -> Wire:
    """There are none: calls are served by one thread, and waiting ones by tasks of it."""
    server, flags = args
    _no_flags(flags, "virAdmServerGetThreadPoolParameters")
    house.server(server[0])
    return (typed_params([_uint(name, 0) for name in _WORKERS]),)


def _set_workers(house: House, args: Wire) -> Wire:
    house.server(args[0][0])
    raise InvalidArgument(
        "this daemon has no pool of workers, so its size cannot be set: calls do not wait for one"
    )


def _limits(house: House, args: Wire) -> Wire:
    server, flags = args
    _no_flags(flags, "virAdmServerGetClientLimits")
    found = house.server(server[0])
    connected = list(found.connected())
    figures = {
        MAX_CLIENTS: found.limits.clients,
        "nclients": len(connected),
        MAX_ANONYMOUS: found.limits.anonymous,
        "nclients_unauth": sum(client.anonymous for client in connected),
    }
    return (typed_params([_uint(name, value) for name, value in figures.items()]),)


def _set_limits(house: House, args: Wire) -> Wire:
    server, params, flags = args
    _no_flags(flags, "virAdmServerSetClientLimits")
    found = house.server(server[0])
    wanted = _numbers(params, (MAX_CLIENTS, MAX_ANONYMOUS))
    found.set_limits(
        wanted.get(MAX_CLIENTS, found.limits.clients),
        wanted.get(MAX_ANONYMOUS, found.limits.anonymous),
    )
    return ()


async def _update_tls(house: House, args: Wire) -> Wire:
    server, flags = args
    _no_flags(flags, "virAdmServerUpdateTlsFiles")
    found = house.server(server[0])
    if found.update_tls is None:
        raise InvalidArgument(f"server {found.name} does not listen for TLS: nothing to update")
    await found.update_tls()
    return ()


# Clients
def _list_clients(house: House, args: Wire) -> Wire:
    server, need_results, flags = args
    _no_flags(flags, "virAdmServerListClients")
    found = house.server(server[0])
    clients = [_client(found, client) for client in found.connected()]
    return clients if need_results else [], len(clients)


def _lookup_client(house: House, args: Wire) -> Wire:
    server, number, flags = args
    _no_flags(flags, "virAdmServerLookupClient")
    found = house.server(server[0])
    return (_client(found, found.client(number)),)


def _client_info(house: House, args: Wire) -> Wire:
    client, flags = args
    _no_flags(flags, "virAdmClientGetInfo")
    return (typed_params(_named(house, client).facts()),)


def _close_client(house: House, args: Wire) -> Wire:
    client, flags = args
    _no_flags(flags, "virAdmClientClose")
    _named(house, client).give_up("an administrator has closed it")
    return ()


# Logging and the life of the daemon
def _filters(house: House, args: Wire) -> Wire:
    _no_flags(args[0], "virAdmConnectGetLoggingFilters")
    return _settings(house.logging.filters())


def _outputs(house: House, args: Wire) -> Wire:
    _no_flags(args[0], "virAdmConnectGetLoggingOutputs")
    return _settings(house.logging.outputs())


def _set_filters(house: House, args: Wire) -> Wire:
    filters, flags = args
    _no_flags(flags, "virAdmConnectSetLoggingFilters")
    house.logging.set_filters(filters or "")
    return ()


def _set_outputs(house: House, args: Wire) -> Wire:
    outputs, flags = args
    _no_flags(flags, "virAdmConnectSetLoggingOutputs")
    house.logging.set_outputs(outputs or "")
    return ()


def _set_timeout(house: House, args: Wire) -> Wire:
    timeout, flags = args
    _no_flags(flags, "virAdmConnectSetDaemonTimeout")
    if timeout > _MOST_TIMEOUT:
        raise InvalidArgument(f"a time-out of {timeout} s is more than {_MOST_TIMEOUT} s")
    house.set_timeout(timeout)
    return ()


CALLS: Final[Mapping[str, AdminCall]] = {
    "CONNECT_OPEN": _open,
    "CONNECT_CLOSE": _close,
    "CONNECT_GET_LIB_VERSION": _lib_version,
    "CONNECT_LIST_SERVERS": _list_servers,
    "CONNECT_LOOKUP_SERVER": _lookup_server,
    "SERVER_GET_THREADPOOL_PARAMETERS": _workers,
    "SERVER_SET_THREADPOOL_PARAMETERS": _set_workers,
    "SERVER_LIST_CLIENTS": _list_clients,
    "SERVER_LOOKUP_CLIENT": _lookup_client,
    "CLIENT_GET_INFO": _client_info,
    "CLIENT_CLOSE": _close_client,
    "SERVER_GET_CLIENT_LIMITS": _limits,
    "SERVER_SET_CLIENT_LIMITS": _set_limits,
    "CONNECT_GET_LOGGING_OUTPUTS": _outputs,
    "CONNECT_GET_LOGGING_FILTERS": _filters,
    "CONNECT_SET_LOGGING_OUTPUTS": _set_outputs,
    "CONNECT_SET_LOGGING_FILTERS": _set_filters,
    "SERVER_UPDATE_TLS_FILES": _update_tls,
    "CONNECT_SET_DAEMON_TIMEOUT": _set_timeout,
}


def _no_flags(flags: int, function: str) -> None:
    if flags:
        raise UnsupportedFlags(f"unsupported flags (0x{flags:x}) in function {function}")


def _uint(name: str, value: int) -> TypedParameter:
    return TypedParameter(name, TypedParameterType.UINT, value)


def _numbers(params: Sequence[Any], known: Sequence[str]) -> dict[str, int]:
    """Typed parameters as they came: each once, of the right kind, and known."""
    found: dict[str, int] = {}
    for name, (kind, value) in params:
        if name not in known or name in found or kind != TypedParameterType.UINT:
            raise InvalidArgument(
                f"parameter {name!r} cannot be set so: once and as a number can {', '.join(known)}"
            )
        found[name] = value
    return found


def _client(server: Server, client: Connected) -> Wire:
    return ((server.name,), client.number, int(client.since), client.transport)


def _named(house: House, client: Wire) -> Connected:
    (server,), number, *_ = client
    return house.server(server).client(number)


def _settings(text: str) -> Wire:
    return text, len(text.split())
