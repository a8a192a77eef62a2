"""TLS before the protocol: certificates, who may come in with which, and plain bytes behind it.

A client's connection is decrypted into a pair of local sockets, so that whoever serves it need not
know. Clients without TLS have no part in any of this. Of the protocol it knows where a message ends
and the one byte that libvirt sends when it has accepted a certificate.
"""

import errno
import logging
import re
import socket
import ssl
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

import trio

if TYPE_CHECKING:
    from virtbackupd.server.tls_priority import Priority

log = logging.getLogger(__name__)

HANDSHAKE_DEADLINE = 10.0
"""Seconds from being accepted to having shown a certificate."""
DISMISSAL_DEADLINE = 1.0
"""Seconds for a refused peer to close its side."""
FAREWELL_DEADLINE = 5.0
"""Seconds that the last bytes may take to leave when the client is served no longer."""
CHUNK = 65_536
LENGTH_SIZE = 4
"""Every message begins with its length, which counts itself."""
CONFIRMED = b"\x01"
"""Sent once the certificate is accepted; a client waits for it before it makes any call."""

_SHORT_NAMES = {
    "businessCategory": "businessCategory",
    "commonName": "CN",
    "countryName": "C",
    "domainComponent": "DC",
    "emailAddress": "EMAIL",
    "localityName": "L",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "stateOrProvinceName": "ST",
    "streetAddress": "street",
    "surname": "surName",
    "userId": "UID",
}
"""OpenSSL's long names as GnuTLS writes them; other names are the same in both."""
LONG_NAMES = {
    "0.9.2342.19200300.100.1.1": "userId",
    "0.9.2342.19200300.100.1.25": "domainComponent",
    "1.2.840.113549.1.9.1": "emailAddress",
    "2.5.4.10": "organizationName",
    "2.5.4.11": "organizationalUnitName",
    "2.5.4.12": "title",
    "2.5.4.13": "description",
    "2.5.4.15": "businessCategory",
    "2.5.4.17": "postalCode",
    "2.5.4.20": "telephoneNumber",
    "2.5.4.3": "commonName",
    "2.5.4.4": "surname",
    "2.5.4.41": "name",
    "2.5.4.42": "givenName",
    "2.5.4.43": "initials",
    "2.5.4.44": "generationQualifier",
    "2.5.4.46": "dnQualifier",
    "2.5.4.5": "serialNumber",
    "2.5.4.6": "countryName",
    "2.5.4.65": "pseudonym",
    "2.5.4.7": "localityName",
    "2.5.4.8": "stateOrProvinceName",
    "2.5.4.9": "streetAddress",
}
"""OpenSSL's long names by their number."""
_ESCAPED = re.compile(r'[,+"\\<>;]|^[# ]| $')
"""RFC 4514 section 2.4."""

Subject = Sequence[Sequence[tuple[str, str]]]


class TlsError(Exception):
    """TLS cannot be had; the text names the file, the cause and the remedy."""


class RefusedError(Exception):
    """A peer that may not come in."""


class LeftError(RefusedError):
    """A peer that broke off before anything could be said of it: a scanner, or a probe."""


class TlsFiles(NamedTuple):
    """Where the certificates are; the names are those of libvirtd.conf."""

    ca_file: Path
    cert_file: Path
    key_file: Path
    crl_file: Path | None = None


@dataclass(frozen=True, slots=True)
class TlsRules:
    """Whose certificates are taken, and which ciphers."""

    verify: bool = True
    allowed_dns: tuple[str, ...] | None = None
    """Patterns with `*` and `?`; None is everybody with a good certificate."""
    priority: "Priority | None" = None

    def check(self, dn: str | None) -> None:
        """RefusedError when this subject may not come in."""
        if not self.verify or self.allowed_dns is None:
            return
        if dn is None or not matches(dn, self.allowed_dns):
            raise RefusedError(f"{dn!r} is not in tls_allowed_dn_list")

    def check_cipher(self, cipher: str) -> None:
        """RefusedError when the session is protected by less than was asked for."""
        if self.priority is not None and cipher in self.priority.refused:
            raise RefusedError(f"{cipher} is not in tls_priority")


class Admitted(NamedTuple):
    """A TLS client: where its decrypted bytes come out, and the subject of its certificate."""

    socket: socket.socket
    dn: str | None


class TlsServer:
    """The certificates in use. Clients keep those that they came in with."""

    def __init__(self, files: TlsFiles, rules: TlsRules) -> None:
        """TlsError when the files cannot be used."""
        self.files = files
        self.rules = rules
        self._context = make_context(files, verify=rules.verify, priority=rules.priority)

    async def reload(self, files: TlsFiles, rules: TlsRules) -> None:
        """Take what the files hold now for clients to come; TlsError leaves all as it was."""
        self._context = await trio.to_thread.run_sync(
            lambda: make_context(files, verify=rules.verify, priority=rules.priority)
        )
        self.files, self.rules = files, rules

    @asynccontextmanager
    async def admitted(self, sock: socket.socket) -> AsyncIterator[Admitted]:
        """Serve what comes out within the block, and close it there.

        RefusedError before the block when the peer has no business here. `sock` is closed whatever
        happens.
        """
        wire = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        context = _Context(self._context)
        stream = trio.SSLStream(
            wire, cast("ssl.SSLContext", context), server_side=True, https_compatible=True
        )
        try:
            dn = await self._handshake(stream)
            ours, theirs = socket.socketpair()
            theirs.settimeout(0)
            near = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
            with ours:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_inward, stream, near)
                    nursery.start_soon(_outward, near, stream)
                    with theirs:
                        yield Admitted(theirs, dn)
                    nursery.cancel_scope.deadline = trio.current_time() + FAREWELL_DEADLINE
        except RefusedError:
            await _dismiss(wire, context.outgoing.read())
            raise
        finally:
            await trio.aclose_forcefully(stream)

    async def _handshake(self, stream: "trio.SSLStream[trio.SocketStream]") -> str | None:
        try:
            with trio.fail_after(HANDSHAKE_DEADLINE):
                await stream.do_handshake()
                self.rules.check_cipher(stream.cipher()[0])
                dn = distinguished_name(stream.getpeercert())
                self.rules.check(dn)
                await stream.send_all(CONFIRMED)
        except trio.BrokenResourceError as error:
            cause = error.__cause__
            spoke = isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError)
            kind = RefusedError if spoke else LeftError
            raise kind(f"the TLS handshake failed: {cause or error}") from error
        except trio.TooSlowError as error:
            raise RefusedError("the TLS handshake took too long") from error
        return dn


class _Context:
    """A context of which one can see what is still to be sent: Trio keeps the last alert back."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self.outgoing = ssl.MemoryBIO()

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool,
        server_hostname: str | None,
    ) -> ssl.SSLObject:
        self.outgoing = outgoing
        return self._context.wrap_bio(incoming, outgoing, server_side, server_hostname)


async def _dismiss(wire: trio.SocketStream, alert: bytes) -> None:
    """Say why, and let the peer say its last.

    After a reset, virsh is ended by a signal before it tells anything.
    """
    with (
        trio.move_on_after(DISMISSAL_DEADLINE),
        suppress(trio.BrokenResourceError, trio.ClosedResourceError),
    ):
        await wire.send_all(alert)
        await wire.send_eof()
        while await wire.receive_some(CHUNK):
            continue


async def _inward(stream: "trio.SSLStream[trio.SocketStream]", near: trio.SocketStream) -> None:
    """From the peer to whoever serves it; a peer that breaks off has left."""
    try:
        while data := await stream.receive_some(CHUNK):
            await near.send_all(data)
        await near.send_eof()
    except trio.BrokenResourceError as error:
        log.debug("a TLS connection broke: %s", error.__cause__ or error)
        _cut(near)
    except trio.ClosedResourceError:
        return


async def _outward(near: trio.SocketStream, stream: "trio.SSLStream[trio.SocketStream]") -> None:
    """From whoever serves the peer to the peer, and then goodbye."""
    messages = MessageCutter()
    try:
        while data := await near.receive_some(CHUNK):
            for piece in messages.cut(data):
                await stream.send_all(piece)
        await stream.aclose()
    except trio.BrokenResourceError as error:
        log.debug("a TLS connection broke: %s", error.__cause__ or error)
        _cut(near)


class MessageCutter:
    """Cuts what leaves where messages end: no record of TLS holds the end of one and more.

    libvirt's client, when it has what it waited for, sleeps until its socket is readable; the rest
    of a record it has read already, an event perhaps, would wait for the next keepalive.
    """

    def __init__(self) -> None:
        self._left = 0
        """Of the message that has begun."""
        self._kept = b""
        """The beginning of a length word."""

    def cut(self, chunk: bytes | bytearray) -> list[bytes]:
        data = self._kept + chunk
        at = min(self._left, len(data))
        pieces = [data[:at]] if at else []
        self._left -= at
        while not self._left and len(data) - at >= LENGTH_SIZE:
            end = at + max(LENGTH_SIZE, int.from_bytes(data[at : at + LENGTH_SIZE], "big"))
            pieces.append(data[at:end])
            self._left = max(0, end - len(data))
            at = min(end, len(data))
        self._kept = data[at:]
        return pieces


def _cut(near: trio.SocketStream) -> None:
    """Whoever serves the peer reads its end, and can write no more."""
    try:
        near.socket.shutdown(socket.SHUT_RDWR)
    except OSError as error:
        if error.errno != errno.ENOTCONN:
            raise


# Certificates


def make_context(
    files: TlsFiles, *, verify: bool = True, priority: "Priority | None" = None
) -> ssl.SSLContext:
    """TLS 1.2 and newer. TlsError when a file cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    # A resumed session would show a certificate that may have been revoked meanwhile.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    if priority is not None:
        priority.apply(context)
    _load_own(context, files)
    if verify:
        context.verify_mode = ssl.CERT_REQUIRED
        _load_trusted(context, files)
    return context


def _load_own(context: ssl.SSLContext, files: TlsFiles) -> None:
    _readable(files.cert_file, files.key_file)
    try:
        context.load_cert_chain(files.cert_file, files.key_file, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        raise _unusable(f"{files.cert_file} and {files.key_file}", error) from error


def check_sanity(files: TlsFiles) -> None:
    """Whether whoever trusts the authority would accept our certificate. TlsError if not.

    A client of our own shakes hands with us, in memory.
    """
    ours, theirs = ssl.MemoryBIO(), ssl.MemoryBIO()
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    _readable(files.ca_file)
    try:
        trusting.load_verify_locations(files.ca_file)
    except ssl.SSLError as error:
        raise _unusable(str(files.ca_file), error) from error
    server = make_context(files, verify=False).wrap_bio(theirs, ours, server_side=True)
    client = trusting.wrap_bio(ours, theirs)
    try:
        for side in (client, server, client, server):
            with suppress(ssl.SSLWantReadError):
                side.do_handshake()
    except ssl.SSLError as error:
        raise TlsError(
            f"no client would accept {files.cert_file}: {error}{_HINT}, and"
            " tls_no_sanity_certificate = 1 serves it all the same"
        ) from error


def _load_trusted(context: ssl.SSLContext, files: TlsFiles) -> None:
    for path in filter(None, (files.ca_file, files.crl_file)):
        _readable(path)
        try:
            context.load_verify_locations(path)
        except ssl.SSLError as error:
            raise _unusable(str(path), error) from error
    if files.crl_file is not None:
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF


def _no_password() -> str:
    raise ValueError("the key asks for a password, which a daemon has not got")


def _readable(*paths: Path) -> None:
    for path in paths:
        try:
            path.open("rb").close()
        except OSError as error:
            raise TlsError(f"cannot read {path}: {error.strerror}{_HINT}") from error


_HINT = "; `virtbackupd pki check` tells more"


def _unusable(what: str, error: Exception) -> TlsError:
    return TlsError(f"cannot use {what}: {error}{_HINT}")


# Names


def distinguished_name(certificate: object) -> str | None:
    """The subject as GnuTLS, and so libvirt, writes it: in the certificate's own order.

    `certificate` is as `getpeercert` returns it, which is empty for one that was not verified.
    """
    if not isinstance(certificate, dict) or not certificate:
        return None
    subject: Subject = certificate["subject"]
    return ",".join("+".join(_attribute(*pair) for pair in rdn) for rdn in subject)


def _attribute(name: str, value: str) -> str:
    return f"{_SHORT_NAMES.get(name, name)}={_ESCAPED.sub(_escape, value)}"


def _escape(found: re.Match[str]) -> str:
    return "\\" + found[0]


def matches(text: str, patterns: Iterable[str]) -> bool:
    """Whether the text is like one of the patterns, in which only `*` and `?` are special."""
    return any(_pattern(pattern).fullmatch(text) for pattern in patterns)


def _pattern(pattern: str) -> re.Pattern[str]:
    words = {"*": ".*", "?": "."}
    return re.compile("".join(words.get(c, re.escape(c)) for c in pattern), re.DOTALL)
