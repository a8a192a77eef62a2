"""Our own client over TLS: whom it trusts, and how it tells what is wrong."""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from certificates import Authority, Pki, make_pki

from virtbackupd.protocol import message, schema
from virtbackupd.protocol.client import FrameReader
from virtbackupd.protocol.message import Call
from virtbackupd.server.remote import connected
from virtbackupd.server.remote_dial import CannotConnect

ANSWERS: dict[str, tuple[object, ...]] = {
    "AUTH_LIST": ([0],),
    "CONNECT_OPEN": (),
    "CONNECT_GET_HOSTNAME": ("there",),
}


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """A server's files and a client's, of one authority."""
    made = make_pki(tmp_path_factory.mktemp("pki"))
    made.client("right", made.authority.sign("client"))
    made.client("trusts another", made.authority.sign("client"), Authority("Another"))
    return made


async def answer(stream: trio.abc.Stream) -> None:
    """The calls of a client that comes in."""
    known = schema.load().by_number
    reader = FrameReader()
    while chunk := await stream.receive_some():
        for frame in reader.receive_data(bytes(chunk)):
            procedure = known[frame.program, frame.procedure]
            call = Call(frame.program, 1, frame.procedure, frame.serial, 0, frame.payload)
            reply = procedure.encode_ret(ANSWERS[procedure.name])
            await stream.send_all(message.reply(call, reply))


async def accept(stream: trio.abc.Stream) -> None:
    await stream.send_all(b"\x01")
    await answer(stream)


async def refuse(stream: trio.abc.Stream) -> None:
    """Read on, as libvirt does not close before the client has seen the byte."""
    await stream.send_all(b"\x00")


@asynccontextmanager
async def tls_server(
    pki: Pki, behave: Callable[[trio.abc.Stream], Awaitable[None]]
) -> AsyncIterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki.cert, pki.key)
    context.load_verify_locations(pki.ca)
    context.verify_mode = ssl.CERT_REQUIRED

    async def serve(stream: trio.SocketStream) -> None:
        secured = trio.SSLStream(stream, context, server_side=True)
        try:
            await secured.do_handshake()
            await behave(secured)
        except trio.BrokenResourceError:
            await trio.aclose_forcefully(secured)

    async with _listening(serve) as port:
        yield port


@asynccontextmanager
async def _listening(
    serve: Callable[[trio.SocketStream], Awaitable[None]],
) -> AsyncIterator[int]:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


def uri(port: int, folder: Path, more: str = "") -> str:
    return f"test+tls://127.0.0.1:{port}/default?pkipath={folder}{more}"


async def refusal(where: str) -> str:
    with pytest.raises(CannotConnect) as caught:
        async with connected(where):
            raise AssertionError
    return str(caught.value)


async def test_both_sides_trust_each_other(pki: Pki) -> None:
    async with tls_server(pki, accept) as port, connected(uri(port, pki.root / "right")) as remote:
        assert await remote.call("CONNECT_GET_HOSTNAME") == ("there",)


async def test_a_server_of_another_authority_is_not_trusted(pki: Pki) -> None:
    async with tls_server(pki, accept) as port:
        told = await refusal(uri(port, pki.root / "trusts another"))
    assert f"127.0.0.1:{port}: the server's certificate is not right: " in told


async def test_any_server_will_do_when_asked_for(pki: Pki) -> None:
    where = pki.root / "trusts another"
    async with tls_server(pki, accept) as port, connected(uri(port, where, "&no_verify=1")):
        pass


async def test_a_client_that_is_refused_is_told(pki: Pki) -> None:
    async with tls_server(pki, refuse) as port:
        assert "refuses this client's certificate" in await refusal(uri(port, pki.root / "right"))


async def test_certificates_that_are_not_there_are_named(pki: Pki, tmp_path: Path) -> None:
    async with tls_server(pki, accept) as port:
        assert f"{tmp_path}/cacert.pem" in await refusal(uri(port, tmp_path))


async def test_a_server_without_tls_is_told(pki: Pki) -> None:
    async def speak_plainly(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"this is no handshake")

    async with _listening(speak_plainly) as port:
        assert "TLS failed" in await refusal(uri(port, pki.root / "right"))
