"""The calls of the administration interface, on a house of our own; no socket is involved."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from virtbackupd.drivers.enums import TypedParameterType
from virtbackupd.drivers.errors import DriverError, InvalidArgument, UnsupportedFlags
from virtbackupd.drivers.events import TypedParameter
from virtbackupd.protocol import schema
from virtbackupd.server.admin.calls import CALLS
from virtbackupd.server.admin.house import ClientLimits, House, Logging, Server
from virtbackupd.server.errors import NoClient, NoServer

UINT = int(TypedParameterType.UINT)


@dataclass
class Caller:
    """A connection that remembers why it was closed."""

    number: int
    since: float = 1_700_000_000.5
    transport: int = 1
    anonymous: bool = False
    ended: list[str] = field(default_factory=list)

    def facts(self) -> Sequence[TypedParameter]:
        return [TypedParameter("readonly", TypedParameterType.BOOLEAN, 1)]

    def give_up(self, reason: str) -> None:
        self.ended.append(reason)


@dataclass
class Site:
    """A house with one server of two clients, and what was done to it."""

    callers: list[Caller] = field(
        default_factory=lambda: [Caller(3), Caller(8, transport=0, anonymous=True)]
    )
    said: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        logging = Logging(
            lambda: "1:qemu 3:event",
            lambda: "3:stderr",
            lambda text: self.say("filters", text),
            lambda text: self.say("outputs", text),
        )
        self.house = House(11_010_000, logging, lambda seconds: self.say("timeout", seconds))
        self.server = Server(
            "libvirtd",
            lambda: self.callers,
            ClientLimits(10, 4),
            lambda limits: self.say("limits", (limits.clients, limits.anonymous)),
        )
        self.house.servers["libvirtd"] = self.server

    def say(self, what: str, value: object) -> None:
        self.said[what] = value

    def call(self, name: str, *args: object) -> Any:  # noqa: ANN401 - fields of a result
        """Through the wire's types in both directions."""
        procedure = schema.load_admin().by_name[name]
        decoded = procedure.decode_args(procedure.encode_args(args))
        result = CALLS[name](self.house, decoded)
        assert isinstance(result, tuple)
        return procedure.decode_ret(procedure.encode_ret(result))

    async def wait_for(self, name: str, *args: object) -> None:
        """A call that takes its time and answers nothing."""
        result = CALLS[name](self.house, args)
        assert not isinstance(result, tuple)
        assert await result == ()


@pytest.fixture
def site() -> Site:
    return Site()


SERVER = ("libvirtd",)


def test_every_procedure_has_a_function() -> None:
    assert CALLS.keys() == schema.load_admin().by_name.keys()


def test_servers_are_listed(site: Site) -> None:
    assert site.call("CONNECT_LIST_SERVERS", 1, 0) == ([SERVER], 1)


def test_servers_are_counted(site: Site) -> None:
    assert site.call("CONNECT_LIST_SERVERS", 0, 0) == ([], 1)


def test_a_server_is_looked_up(site: Site) -> None:
    assert site.call("CONNECT_LOOKUP_SERVER", "libvirtd", 0) == (SERVER,)


def test_an_unknown_server_is_named(site: Site) -> None:
    with pytest.raises(NoServer, match="no server named 'x'; there are: libvirtd"):
        site.call("CONNECT_LOOKUP_SERVER", "x", 0)


def test_clients_are_listed(site: Site) -> None:
    clients = [(SERVER, 3, 1_700_000_000, 1), (SERVER, 8, 1_700_000_000, 0)]
    assert site.call("SERVER_LIST_CLIENTS", SERVER, 1, 0) == (clients, 2)


def test_a_client_is_looked_up(site: Site) -> None:
    assert site.call("SERVER_LOOKUP_CLIENT", SERVER, 8, 0) == ((SERVER, 8, 1_700_000_000, 0),)


def test_an_unknown_client_is_named(site: Site) -> None:
    with pytest.raises(NoClient, match="no client with id 5"):
        site.call("SERVER_LOOKUP_CLIENT", SERVER, 5, 0)


def test_what_is_known_of_a_client(site: Site) -> None:
    client = (SERVER, 3, 0, 0)
    assert site.call("CLIENT_GET_INFO", client, 0) == ([("readonly", (6, 1))],)


def test_a_client_is_closed(site: Site) -> None:
    site.call("CLIENT_CLOSE", (SERVER, 3, 0, 0), 0)
    assert [len(caller.ended) for caller in site.callers] == [1, 0]


def test_limits_and_how_much_of_them_is_used(site: Site) -> None:
    (params,) = site.call("SERVER_GET_CLIENT_LIMITS", SERVER, 0)
    assert params == [
        ("nclients_max", (UINT, 10)),
        ("nclients", (UINT, 2)),
        ("nclients_unauth_max", (UINT, 4)),
        ("nclients_unauth", (UINT, 1)),
    ]


def test_a_limit_is_set_and_the_other_kept(site: Site) -> None:
    site.call("SERVER_SET_CLIENT_LIMITS", SERVER, [("nclients_max", (UINT, 7))], 0)
    assert site.said["limits"] == (7, 4)


@pytest.mark.parametrize(
    "params",
    [
        [("nclients_max", (UINT, 3))],
        [("nclients_unauth_max", (UINT, 11))],
        [("nclients", (UINT, 1))],
        [("nclients_max", (UINT, 7)), ("nclients_max", (UINT, 8))],
        [("nclients_max", (int(TypedParameterType.STRING), "7"))],
    ],
    ids=["below-anonymous", "anonymous-above", "not-a-limit", "twice", "text"],
)
def test_wrong_limits_are_refused_and_change_nothing(site: Site, params: list[object]) -> None:
    with pytest.raises(InvalidArgument):
        site.call("SERVER_SET_CLIENT_LIMITS", SERVER, params, 0)
    assert (site.server.limits.clients, site.server.limits.anonymous) == (10, 4)
    assert not site.said


def test_there_are_no_workers(site: Site) -> None:
    (params,) = site.call("SERVER_GET_THREADPOOL_PARAMETERS", SERVER, 0)
    assert {value for _, value in params} == {(UINT, 0)}


def test_a_pool_that_is_not_there_has_no_size(site: Site) -> None:
    with pytest.raises(InvalidArgument, match="no pool of workers"):
        site.call("SERVER_SET_THREADPOOL_PARAMETERS", SERVER, [], 0)


async def test_certificates_are_read_again(site: Site) -> None:

    async def update() -> None:
        site.say("tls", 1)

    site.server.update_tls = update
    await site.wait_for("SERVER_UPDATE_TLS_FILES", SERVER, 0)
    assert site.said == {"tls": 1}


async def test_without_tls_there_is_nothing_to_read_again(site: Site) -> None:
    with pytest.raises(InvalidArgument, match="does not listen for TLS"):
        await site.wait_for("SERVER_UPDATE_TLS_FILES", SERVER, 0)


def test_log_settings_are_shown_with_their_number(site: Site) -> None:
    assert site.call("CONNECT_GET_LOGGING_FILTERS", 0) == ("1:qemu 3:event", 2)
    assert site.call("CONNECT_GET_LOGGING_OUTPUTS", 0) == ("3:stderr", 1)


@pytest.mark.parametrize("given", ["1:qemu", None])
def test_log_settings_are_set(site: Site, given: str | None) -> None:
    site.call("CONNECT_SET_LOGGING_FILTERS", given, 0)
    site.call("CONNECT_SET_LOGGING_OUTPUTS", given, 0)
    assert site.said == {"filters": given or "", "outputs": given or ""}


def test_the_timeout_is_set(site: Site) -> None:
    site.call("CONNECT_SET_DAEMON_TIMEOUT", 90, 0)
    assert site.said == {"timeout": 90}


async def test_reading_certificates_again_takes_no_flags(site: Site) -> None:
    with pytest.raises(UnsupportedFlags):
        await site.wait_for("SERVER_UPDATE_TLS_FILES", SERVER, 1)


def test_a_timeout_beyond_all_clocks_is_refused(site: Site) -> None:
    with pytest.raises(InvalidArgument, match="more than"):
        site.call("CONNECT_SET_DAEMON_TIMEOUT", 1 << 31, 0)


def test_the_version(site: Site) -> None:
    assert site.call("CONNECT_GET_LIB_VERSION") == (11_010_000,)


FLAGGED = {
    "CONNECT_OPEN": (),
    "CONNECT_LIST_SERVERS": (1,),
    "CONNECT_LOOKUP_SERVER": ("libvirtd",),
    "SERVER_GET_THREADPOOL_PARAMETERS": (SERVER,),
    "SERVER_LIST_CLIENTS": (SERVER, 1),
    "SERVER_LOOKUP_CLIENT": (SERVER, 3),
    "CLIENT_GET_INFO": ((SERVER, 3, 0, 0),),
    "CLIENT_CLOSE": ((SERVER, 3, 0, 0),),
    "SERVER_GET_CLIENT_LIMITS": (SERVER,),
    "SERVER_SET_CLIENT_LIMITS": (SERVER, []),
    "CONNECT_GET_LOGGING_OUTPUTS": (),
    "CONNECT_GET_LOGGING_FILTERS": (),
    "CONNECT_SET_LOGGING_OUTPUTS": ("",),
    "CONNECT_SET_LOGGING_FILTERS": ("",),
    "CONNECT_SET_DAEMON_TIMEOUT": (1,),
}


@pytest.mark.parametrize("name", FLAGGED)
def test_unknown_flags_are_refused(site: Site, name: str) -> None:
    with pytest.raises(UnsupportedFlags, match=r"0x10"):
        site.call(name, *FLAGGED[name], 16)
    assert not site.said


@pytest.mark.parametrize("name", ["SERVER_LIST_CLIENTS", "SERVER_GET_CLIENT_LIMITS"])
def test_a_server_that_is_not_there(site: Site, name: str) -> None:
    with pytest.raises(DriverError, match="no server named"):
        site.call(name, ("x",), *FLAGGED[name][1:], 0)
