"""The front that decrypts: who is let in, what passes, and how it ends."""

import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from certificates import EXPIRED, SERVER, Authority, Pki, Signed, make_pki

from virtbackupd.server import tls as tls_module
from virtbackupd.server.tls import (
    CONFIRMED,
    Admitted,
    LeftError,
    MessageCutter,
    RefusedError,
    TlsError,
    TlsFiles,
    TlsRules,
    TlsServer,
    check_sanity,
    distinguished_name,
    make_context,
    matches,
)

Stream = trio.SSLStream[trio.SocketStream]
PATIENCE = 60.0


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return make_pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def good(pki: Pki) -> Path:
    return pki.client("good", pki.authority.sign("good"))


def files(pki: Pki) -> TlsFiles:
    return TlsFiles(pki.ca, pki.cert, pki.key)


def client_context(folder: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=folder / "cacert.pem")
    context.load_cert_chain(folder / "clientcert.pem", folder / "clientkey.pem")
    return context


@asynccontextmanager
async def admitted(
    server: TlsServer, folder: Path, *, hangs: bool = False
) -> AsyncIterator[tuple[Admitted, Stream]]:
    """Both ends of a connection whose certificate was taken.

    A peer that hangs stays there until it is served no longer.
    """
    ours, theirs = socket.socketpair()
    wire = trio.SocketStream(trio.socket.from_stdlib_socket(theirs))
    stream = trio.SSLStream(
        wire, client_context(folder), server_hostname="localhost", https_compatible=True
    )
    entered: list[Admitted] = []
    leave, left = trio.Event(), trio.Event()

    async def serve(task_status: trio.TaskStatus[None]) -> None:
        async with server.admitted(ours) as found:
            entered.append(found)
            task_status.started()
            await leave.wait()
        left.set()

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.do_handshake)
            await nursery.start(serve)
            assert await stream.receive_some(1) == CONFIRMED
            yield entered[0], stream
            leave.set()
            if hangs:
                await left.wait()
            await trio.aclose_forcefully(stream)


async def refused(server: TlsServer, talk: Callable[[socket.socket], object]) -> str:
    """Why whoever talks like this is not let in."""
    ours, theirs = socket.socketpair()
    with theirs:
        talk(theirs)
        with pytest.raises(RefusedError) as told, trio.fail_after(PATIENCE):
            async with server.admitted(ours):
                pass
    return str(told.value)


async def test_bytes_pass_both_ways(pki: Pki, good: Path) -> None:
    async with admitted(TlsServer(files(pki), TlsRules()), good) as (inside, stream):
        near = trio.socket.from_stdlib_socket(inside.socket)
        await stream.send_all(b"question")
        assert await near.recv(100) == b"question"
        await near.send(b"\0\0\0\x08word")
        assert await stream.receive_some(100) == b"\0\0\0\x08word"


async def test_subject_of_the_certificate_is_known(pki: Pki, good: Path) -> None:
    async with admitted(TlsServer(files(pki), TlsRules()), good) as (inside, _):
        assert inside.dn == "C=GB,ST=London,O=Example\\, Inc,CN=good"


async def test_peer_that_leaves_is_seen_to_leave(pki: Pki, good: Path) -> None:
    async with admitted(TlsServer(files(pki), TlsRules()), good) as (inside, stream):
        await trio.aclose_forcefully(stream)
        assert await trio.socket.from_stdlib_socket(inside.socket).recv(1) == b""


async def test_last_words_arrive(pki: Pki, good: Path) -> None:
    async with admitted(TlsServer(files(pki), TlsRules()), good) as (inside, stream):
        await trio.socket.from_stdlib_socket(inside.socket).send(b"\0\0\0\x05!")
        inside.socket.close()
        assert await stream.receive_some(100) == b"\0\0\0\x05!"
        assert await stream.receive_some(100) == b""


async def test_peer_that_does_not_read_holds_up_who_writes_to_it(pki: Pki, good: Path) -> None:
    async with admitted(TlsServer(files(pki), TlsRules()), good) as (inside, _):
        near = trio.socket.from_stdlib_socket(inside.socket)
        sent = 0
        with trio.move_on_after(1):
            while sent < 64_000_000:
                sent += await near.send(b"\0\0\1\0" * 16_384)
        assert sent < 64_000_000


async def test_farewell_to_a_peer_that_does_not_read_has_an_end(
    pki: Pki, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_module, "FAREWELL_DEADLINE", 0.1)
    async with admitted(TlsServer(files(pki), TlsRules()), good, hangs=True) as (inside, _):
        near = trio.socket.from_stdlib_socket(inside.socket)
        with trio.move_on_after(0.2):
            while True:
                await near.send(b"\0\0\1\0" * 16_384)


async def test_plain_bytes_are_no_handshake(pki: Pki) -> None:
    server = TlsServer(files(pki), TlsRules())
    assert "handshake failed" in await refused(server, lambda sock: sock.sendall(b"\0\0\0\x1c" * 9))


async def test_peer_that_leaves_at_once_is_not_said_to_have_tried(pki: Pki) -> None:
    """Whatever looks whether the port is open would fill the audit log."""
    ours, theirs = socket.socketpair()
    theirs.close()
    with pytest.raises(LeftError), trio.fail_after(PATIENCE):
        async with TlsServer(files(pki), TlsRules()).admitted(ours):
            raise AssertionError("let in")


async def test_peer_that_speaks_and_is_refused_has_tried(pki: Pki) -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall(b"GET / HTTP/1.1\r\n\r\n")
    theirs.shutdown(socket.SHUT_WR)
    with theirs, pytest.raises(RefusedError) as told, trio.fail_after(PATIENCE):
        async with TlsServer(files(pki), TlsRules()).admitted(ours):
            raise AssertionError("let in")
    assert not isinstance(told.value, LeftError)


async def test_refused_peer_reads_an_end_and_no_reset(
    pki: Pki, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes of its that nobody has read would make a reset of it."""
    monkeypatch.setattr(tls_module, "DISMISSAL_DEADLINE", PATIENCE)
    ours, theirs = socket.socketpair()
    server = TlsServer(files(pki), TlsRules())
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(theirs))
    async with stream, trio.open_nursery() as nursery:
        nursery.start_soon(sent_away, server, ours)
        with trio.fail_after(PATIENCE):
            await stream.send_all(bytes(100_000))
            assert await stream.receive_some() == b""
            await stream.send_eof()


async def test_refused_client_is_told_why(pki: Pki) -> None:
    """TLS 1.3 tells it after the handshake, as an alert."""
    folder = pki.client("expired", pki.authority.sign("expired", validity=EXPIRED))
    ours, theirs = socket.socketpair()
    wire = trio.SocketStream(trio.socket.from_stdlib_socket(theirs))
    context = client_context(folder)
    stream = trio.SSLStream(wire, context, server_hostname="localhost", https_compatible=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sent_away, TlsServer(files(pki), TlsRules()), ours)
        with trio.fail_after(PATIENCE), pytest.raises(trio.BrokenResourceError) as told:
            await stream.receive_some(1)
        await trio.aclose_forcefully(stream)
    assert "CERTIFICATE_EXPIRED" in str(told.value.__cause__)


async def test_alert_that_is_not_read_holds_up_nobody(
    pki: Pki, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_module, "DISMISSAL_DEADLINE", 0.05)
    server = TlsServer(files(pki), TlsRules())
    assert "handshake failed" in await refused(server, lambda sock: sock.sendall(b"GET / HTTP/1.1"))


async def sent_away(server: TlsServer, sock: socket.socket) -> None:
    with pytest.raises(RefusedError):
        async with server.admitted(sock):
            raise AssertionError("let in")


async def test_peer_that_says_nothing_is_not_waited_for(
    pki: Pki, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_module, "HANDSHAKE_DEADLINE", 0.05)
    assert "too long" in await refused(TlsServer(files(pki), TlsRules()), lambda _: None)


async def test_reload_takes_what_the_files_hold_by_then(
    pki: Pki, good: Path, tmp_path: Path
) -> None:
    other = make_pki(tmp_path)
    server = TlsServer(files(other), TlsRules())
    await server.reload(files(pki), TlsRules())
    async with admitted(server, good) as (inside, _):
        assert inside.dn


async def test_reload_that_fails_changes_nothing(pki: Pki, good: Path, tmp_path: Path) -> None:
    server = TlsServer(files(pki), TlsRules())
    with pytest.raises(TlsError, match="cannot read"):
        await server.reload(TlsFiles(pki.ca, tmp_path / "nothing", pki.key), TlsRules(verify=False))
    assert server.rules == TlsRules()
    async with admitted(server, good) as (inside, _):
        assert inside.dn


def test_missing_file_is_named(pki: Pki, tmp_path: Path) -> None:
    with pytest.raises(TlsError, match=f"{tmp_path}/gone: No such file"):
        make_context(TlsFiles(tmp_path / "gone", pki.cert, pki.key))


def test_key_that_does_not_belong_is_refused(pki: Pki, good: Path) -> None:
    with pytest.raises(TlsError, match="pki check"):
        make_context(TlsFiles(pki.ca, pki.cert, good / "clientkey.pem"))


def test_good_server_is_sane(pki: Pki) -> None:
    check_sanity(files(pki))


def insane(pki: Pki, signed: Signed, folder: Path) -> None:
    signed.write(folder / "cert", folder / "key")
    with pytest.raises(TlsError, match="no client would accept"):
        check_sanity(TlsFiles(pki.ca, folder / "cert", folder / "key"))


def test_expired_server_is_not_sane(pki: Pki, tmp_path: Path) -> None:
    insane(pki, pki.authority.sign("localhost", SERVER, validity=EXPIRED), tmp_path)


def test_server_with_a_client_s_certificate_is_not_sane(pki: Pki, tmp_path: Path) -> None:
    insane(pki, pki.authority.sign("localhost"), tmp_path)


def test_server_of_a_foreign_authority_is_not_sane(pki: Pki, tmp_path: Path) -> None:
    insane(pki, Authority("Foreign").sign("localhost", SERVER), tmp_path)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [("*", "anything"), ("C=GB,*,CN=a?", "C=GB,O=x,CN=ab"), ("a[b]", "a[b]"), ("", "")],
)
def test_pattern_fits(pattern: str, text: str) -> None:
    assert matches(text, [pattern])


@pytest.mark.parametrize(
    ("pattern", "text"), [("a?", "a"), ("a", "ab"), ("a[b]", "ab"), ("A", "a")]
)
def test_pattern_does_not_fit(pattern: str, text: str) -> None:
    assert not matches(text, [pattern])


def test_empty_list_of_names_lets_nobody_in() -> None:
    with pytest.raises(RefusedError):
        TlsRules(allowed_dns=()).check("CN=a")


def test_several_values_of_one_part_are_joined() -> None:
    subject = ((("commonName", "a"), ("userId", "u")), (("domainComponent", "example"),))
    assert distinguished_name({"subject": subject}) == "CN=a+UID=u,DC=example"


def test_special_characters_are_escaped() -> None:
    subject = ((("commonName", ' a,b+"c" '),),)
    assert distinguished_name({"subject": subject}) == 'CN=\\ a\\,b\\+\\"c\\"\\ '


FRAMES = [b"\0\0\0\x08abcd", b"\0\0\0\x04", b"\0\0\0\x06xy"]


def test_each_message_leaves_alone() -> None:
    assert MessageCutter().cut(b"".join(FRAMES)) == FRAMES


def test_message_that_comes_in_pieces_leaves_in_pieces() -> None:
    cutter = MessageCutter()
    assert cutter.cut(FRAMES[0][:6]) == [FRAMES[0][:6]]
    assert cutter.cut(FRAMES[0][6:] + FRAMES[1]) == [FRAMES[0][6:], FRAMES[1]]


def test_no_byte_is_lost_however_it_is_cut() -> None:
    cutter, data = MessageCutter(), b"".join(FRAMES)
    pieces = [piece for byte in data for piece in cutter.cut(bytes([byte]))]
    assert b"".join(pieces) == data
