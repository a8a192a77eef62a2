"""What a peer reaches before anybody knows who it is, each as a function of the bytes it sends.

Everything runs in this process and without sockets. Each function returns a signature of what
happened and raises on what must not happen: an exception that is not the peer's fault, a bug in the
log, a login that succeeds.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import trio
from certificates import make_pki
from fuzzing import Signature, Target, complaints, corpus, outline
from scramp import ScramClient
from scripted_driver import ScriptedDriver

from virtbackupd.drivers.clock import Clock
from virtbackupd.drivers.events import TypedParameter
from virtbackupd.protocol import client, message, refusals, schema
from virtbackupd.protocol.connection import ServerConnection
from virtbackupd.protocol.errors import ProtocolError, RemoteError
from virtbackupd.protocol.message import Call, CallWithFds, Incoming, StreamHole
from virtbackupd.server.admin.connection import AdminClient
from virtbackupd.server.admin.house import ClientLimits, House, Logging, Server
from virtbackupd.server.control_endpoint import ControlEndpoint
from virtbackupd.server.dispatch import Dispatcher
from virtbackupd.server.errors import AuthenticationFailed
from virtbackupd.server.events import CallbackTable, EventRouter
from virtbackupd.server.handlers import all_handlers
from virtbackupd.server.handlers.streams import StreamTable
from virtbackupd.server.http import HttpLimits, _Connection
from virtbackupd.server.identity import Identity
from virtbackupd.server.keepalive import KeepalivePolicy, KeepaliveTicker
from virtbackupd.server.limits import Limits
from virtbackupd.server.login import Login
from virtbackupd.server.poller import Poller
from virtbackupd.server.sasl import Brake, Sasl
from virtbackupd.server.services import Services
from virtbackupd.server.session import DriverTable, Link, Session, Stage
from virtbackupd.server.tls import (
    MessageCutter,
    RefusedError,
    TlsFiles,
    TlsRules,
    TlsServer,
)
from virtbackupd.server.transcript import Transcript
from virtbackupd.server.users import MECHANISM, UserFile, Users, make_credentials

CORPUS = Path(__file__).resolve().parents[1] / "fuzz" / "corpus"
DOMAIN = ("test", bytes(range(16)), 1)


def check(heard: list[str]) -> None:
    """Nothing may have been logged as a bug of ours."""
    if heard:
        said, heard[:] = heard[0], []
        raise AssertionError(said)


# Frames


def cut(connection: ServerConnection, data: bytes) -> tuple[list[Incoming], str]:
    """The messages up to the first error, and that error's outline."""
    try:
        return connection.receive_data(data), ""
    except ProtocolError as error:
        return [], outline(error)


def decoded(incoming: Incoming) -> Signature:
    """What a server does with a message before anybody is asked."""
    if isinstance(incoming, StreamHole):
        try:
            return incoming.length() > 0
        except ProtocolError as error:
            return outline(error)
    if not isinstance(incoming, Call | CallWithFds):
        return type(incoming).__name__
    found = refusals.resolve(schema.load(), incoming)
    refused = found if isinstance(found, RemoteError) else refusals.arguments(found, incoming)
    if isinstance(refused, RemoteError):
        message.error_reply(incoming, refused)
        return outline(refused.message)
    return incoming.procedure


@asynccontextmanager
async def frames() -> AsyncIterator[Target]:
    """Bytes into the connection core, and what comes out of it into the decoders."""

    async def probe(data: bytes) -> Signature:
        connection = ServerConnection()
        connection.authenticated = bool(len(data) & 1)
        half = len(data) // 2 if data[-1:] < b"\x80" else len(data)
        first, error = cut(connection, data[:half])
        rest, later = ([], "") if error else cut(connection, data[half:])
        return (*map(decoded, (first + rest)[:3]), error or later)

    yield probe


# Logins


class FreeBrake(Brake):
    """Makes nobody wait: guesses are what is wanted here."""

    def delay(self, _peer: str) -> float:
        return 0.0


class OneUser(UserFile):
    """Read once."""

    def __init__(self) -> None:
        super().__init__(Path("/nowhere"), lambda _reason: None)
        self._users = Users({"alice": make_credentials("correct horse")})

    def current(self) -> Users:
        return self._users


def free_sasl() -> Sasl:
    sasl = Sasl(OneUser())
    sasl.brake = FreeBrake()
    return sasl


@asynccontextmanager
async def sasl() -> AsyncIterator[Target]:
    """Two messages with a zero byte between them into the server's side of SCRAM.

    `NONCE` in the second stands for the nonce that the server has chosen.
    """
    shared = free_sasl()

    with complaints() as heard:

        async def probe(data: bytes) -> Signature:
            first, _, final = data.partition(b"\0")
            login = shared.login(Identity(uid=1))
            try:
                answer = (await login.start(MECHANISM, first)).data or b""
            except AuthenticationFailed:
                return "first"
            nonce = answer.partition(b"r=")[2].partition(b",")[0]
            try:
                step = await login.step(final.replace(b"NONCE", nonce))
            except AuthenticationFailed as error:
                return outline(error.__cause__)
            check(heard)
            if step.identity is not None:
                raise AssertionError("somebody came in without the password")
            return "asked again"

        yield probe


class NoLink:
    """The connection of a session that nobody reads from."""

    number = 1

    def authenticated(self) -> None:
        raise AssertionError("somebody came in without the password")


@asynccontextmanager
async def auth() -> AsyncIterator[Target]:
    """Frames of a client that has not logged in, through the dispatcher to its login."""
    shared = free_sasl()
    dispatcher = Dispatcher(schema.load(), all_handlers())
    router = EventRouter(schema.load(), Limits())
    drivers = DriverTable({"test": ScriptedDriver()})

    def session() -> Session:
        identity = Identity(uid=1)
        link = cast("Link", NoLink())
        callbacks, streams = CallbackTable(router, link), StreamTable(Limits())
        login = Login(sasl=shared.login(identity))
        return Session(link, drivers, callbacks, streams, identity=identity, login=login)

    async def answered(held: Session, call: Call | CallWithFds) -> Signature:
        answer = dispatcher.answer(held, call)
        reply = client.decode_frame(answer if isinstance(answer, bytes) else await answer)
        error = reply.error()
        return call.procedure if error is None else outline(error.message)

    with complaints() as heard:

        async def probe(data: bytes) -> Signature:
            held = session()
            messages, error = cut(ServerConnection(), data)
            calls = [each for each in messages if isinstance(each, Call | CallWithFds)]
            signature = (*[await answered(held, call) for call in calls[:4]], error)
            check(heard)
            if held.stage is not Stage.CONNECTED:
                raise AssertionError("a session without login went on")
            return signature

        yield probe


# Administration


@dataclass
class Caller:
    """A connection in the house."""

    number: int = 3
    since: float = 1.7e9
    transport: int = 1
    anonymous: bool = False

    def facts(self) -> list[TypedParameter]:
        return []

    def give_up(self, reason: str) -> None:
        """It stays, so that it can be closed again."""


def house() -> House:
    """Changes nothing outside."""
    found = House(
        1, Logging(lambda: "", lambda: "", lambda _: None, lambda _: None), lambda _: None
    )
    found.servers["libvirtd"] = Server(
        "libvirtd", lambda: [Caller()], ClientLimits(9, 2), lambda _: None
    )
    return found


@asynccontextmanager
async def admin() -> AsyncIterator[Target]:
    """Frames on the administration socket."""
    own = AdminClient(cast("trio.SocketStream", None), house(), 1, 0.0, [])

    async def answered(incoming: Incoming) -> Signature:
        data, last = await own._answer(incoming)
        if not data or not isinstance(incoming, Call):
            return last
        error = client.decode_frame(data).error()
        return outline(error.message) if error else (incoming.procedure, last)

    with complaints() as heard:

        async def probe(data: bytes) -> Signature:
            connection = ServerConnection()
            connection.authenticated = True
            messages, error = cut(connection, data)
            signature = (*[await answered(each) for each in messages[:4]], error)
            check(heard)
            return signature

        yield probe


# Transports in memory


class Scripted(trio.abc.Stream):
    """A peer that has sent its bytes in pieces, and has then left."""

    def __init__(self, data: bytes) -> None:
        half = len(data) // 2
        self._left = [piece for piece in (data[:half], data[half:]) if piece]
        self.sent = bytearray()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:  # noqa: ARG002 - as Stream
        return self._left.pop(0) if self._left else b""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += data

    async def wait_send_all_might_not_block(self) -> None:
        """It never blocks."""

    async def send_eof(self) -> None:
        """Nobody listens."""

    async def aclose(self) -> None:
        self._left.clear()


@contextmanager
def services() -> Iterator[Services]:
    driver = ScriptedDriver()
    limits = Limits()
    router = EventRouter(schema.load(), limits)
    poller = Poller()
    with poller._epoll:
        yield Services(
            Dispatcher(schema.load(), all_handlers()),
            DriverTable({"test": driver}),
            router,
            KeepaliveTicker(KeepalivePolicy(interval=5, count=5)),
            poller,
            limits,
            Clock(),
            transcript=Transcript(),
        )


@asynccontextmanager
async def http() -> AsyncIterator[Target]:
    """Bytes into the HTTP server, with the routes of the control endpoint behind it."""
    with services() as shared, complaints() as heard:
        router = ControlEndpoint(shared, anywhere=False).router

        async def probe(data: bytes) -> Signature:
            stream = Scripted(data)
            served = cast("trio.SocketStream", stream)
            await _Connection(served, router, HttpLimits()).serve()
            check(heard)
            if b" 500 " in stream.sent[:16]:
                raise AssertionError("an internal error")
            body = stream.sent.partition(b"\r\n\r\n")[2]
            return bytes(stream.sent[9:12]), outline(body.decode("latin-1"))

        yield probe


@asynccontextmanager
async def tls() -> AsyncIterator[Target]:
    """Bytes of somebody without a certificate; the confirmation byte must never be sent."""
    with TemporaryDirectory(prefix="vb-") as name:
        pki = make_pki(Path(name))
        server = TlsServer(TlsFiles(pki.ca, pki.cert, pki.key), TlsRules())

    async def probe(data: bytes) -> Signature:
        stream = trio.SSLStream(
            Scripted(data), server._context, server_side=True, https_compatible=True
        )
        try:
            await server._handshake(cast("trio.SSLStream[trio.SocketStream]", stream))
        except RefusedError as error:
            return outline(error)
        finally:
            await trio.aclose_forcefully(stream)
        raise AssertionError("somebody came in without a certificate")

    yield probe


@asynccontextmanager
async def cutter() -> AsyncIterator[Target]:
    """What leaves by TLS is what went in, in order, and no piece is empty."""

    async def probe(data: bytes) -> Signature:
        messages, out, sizes = MessageCutter(), bytearray(), set[int]()
        step = 1 + len(data) % 37
        for start in range(0, len(data), step):
            for piece in messages.cut(data[start : start + step]):
                assert piece, "an empty piece"
                sizes.add(len(piece).bit_length())
                out += piece
        assert out + messages._kept == data, "bytes were lost or made up"
        return tuple(sorted(sizes)), len(messages._kept)

    yield probe


TARGETS: dict[str, Callable[[], Any]] = {
    "frames": frames,
    "sasl": sasl,
    "auth": auth,
    "admin": admin,
    "http": http,
    "tls": tls,
    "cutter": cutter,
}
"""Asynchronous context managers, each with a `Target`."""


# Inputs to begin with


def _call(name: str, *args: object) -> bytes:
    return client.encode_call(schema.load().by_name[name], 1, args)


def _admin(name: str, *args: object) -> bytes:
    return client.encode_call(schema.load_admin().by_name[name], 1, args)


def _scram() -> tuple[bytes, bytes]:
    first = ScramClient([MECHANISM], "alice", "guessed").get_client_first().encode()
    return first, b"c=biws,r=NONCE,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts="


def _frames() -> list[bytes]:
    source = Call(0x20008086, 1, 208, 3, 0, b"")
    fds = client.Frame(0x20008086, 1, 443, 4, 3, 0, b"\0\0\0\2" + bytes(32))
    return [
        *_auth(),
        _call("CONNECT_OPEN", "test:///default", 0),
        _call("CONNECT_LIST_ALL_DOMAINS", 1, 3),
        _call("CONNECT_GET_ALL_DOMAIN_STATS", [DOMAIN, DOMAIN], 0, 0),
        _call("DOMAIN_BACKUP_BEGIN", DOMAIN, "<domainbackup/>", None, 0),
        _call("SECRET_SET_VALUE", (bytes(16), 1, "usage"), b"value", 0),
        message.ping(),
        message.stream_data(source, b"data"),
        message.stream_hole(source, 4096),
        message.stream_finish(source),
        client.encode_frame(fds) + b"\0\0",
    ]


def _auth() -> list[bytes]:
    first, final = _scram()
    calls = [
        _call("AUTH_LIST"),
        _call("AUTH_SASL_INIT"),
        _call("AUTH_SASL_START", MECHANISM, 0, first),
        _call("AUTH_SASL_STEP", 0, final),
        _call("AUTH_POLKIT"),
        _call("CONNECT_SUPPORTS_FEATURE", 10),
    ]
    return [*calls, calls[2] + calls[3], b"".join(calls)]


def _admins() -> list[bytes]:
    server, limit = ("libvirtd",), [("nclients_max", (2, 5))]
    return [
        _admin("CONNECT_OPEN", 0),
        _admin("CONNECT_LIST_SERVERS", 1, 0),
        _admin("CONNECT_LOOKUP_SERVER", "libvirtd", 0),
        _admin("SERVER_LIST_CLIENTS", server, 1, 0),
        _admin("CLIENT_GET_INFO", (server, 3, 0, 0), 0),
        _admin("SERVER_SET_CLIENT_LIMITS", server, limit, 0),
        _admin("CONNECT_SET_LOGGING_FILTERS", "1:qemu", 0),
        _admin("CONNECT_SET_DAEMON_TIMEOUT", 5, 0),
        _admin("CONNECT_CLOSE"),
    ]


def _requests() -> list[bytes]:
    host = b" HTTP/1.1\r\nHost: localhost\r\n"
    json = host + b"Content-Type: application/json\r\n"
    return [
        b"GET /healthz" + host + b"\r\n",
        b"GET /transcript?after=12" + host + b"\r\n",
        b"GET /domains" + host + b"Origin: http://example.org\r\n\r\n",
        b"POST /control/clock" + json + b"Content-Length: 2\r\n\r\n{}",
        b"POST /domains/test%2f/control/guest-write"
        + json
        + b'Content-Length: 14\r\n\r\n{"offset": 10}',
        b"POST /control/clock" + json + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"HEAD /openapi.json" + host + b"Expect: 100-continue\r\nConnection: close\r\n\r\n",
    ]


def _hellos() -> list[bytes]:
    """What a client of OpenSSL's sends first, for each version there is, and what else comes."""
    import ssl  # noqa: PLC0415 - for seeds alone

    found = [b"\0\0\0\x1c" * 7, b"GET / HTTP/1.1\r\n\r\n", b"\x80\x2e\x01\x00\x02"]
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.minimum_version = context.maximum_version = version
        sent = ssl.MemoryBIO()
        try:
            context.wrap_bio(ssl.MemoryBIO(), sent).do_handshake()
        except ssl.SSLWantReadError:
            found.append(sent.read())
    return found


SEEDS: dict[str, Callable[[], list[bytes]]] = {
    "frames": _frames,
    "sasl": lambda: [b"\0".join(_scram())],
    "auth": _auth,
    "admin": _admins,
    "http": _requests,
    "tls": _hellos,
    "cutter": lambda: [message.ping() * 3, *_auth()],
}


def seeds(name: str) -> list[bytes]:
    """What a good peer sends, and what has been found since."""
    return SEEDS[name]() + corpus(CORPUS / name)
