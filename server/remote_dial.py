"""Ways to a server: a Unix socket, TCP, or TLS with libvirt's certificates.

Hands out a stream that is ready for the first call. Knows no frame.
"""

import os
import ssl
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, NamedTuple

import trio

from virtbackupd.server.remote_uri import RemoteUri

CONNECT_PATIENCE: Final = 20.0
"""Seconds for a connection, TLS included."""
_SYSTEM_CA: Final = Path("/etc/pki/CA/cacert.pem")
_SYSTEM_PKI: Final = Path("/etc/pki/libvirt")
_USER_PKI: Final = Path("~/.pki/libvirt")
_CONFIRMED: Final = b"\x01"
"""What libvirt sends inside TLS once it has accepted the client's certificate."""


class RemoteProblem(Exception):
    """Something is wrong with a server or the way to it; the text is one line for a person."""


class CannotConnect(RemoteProblem):
    """There is no connection to be had."""


class PkiFiles(NamedTuple):
    """The files of a TLS client."""

    ca: Path
    certificate: Path
    key: Path


async def dial(uri: RemoteUri, *, read_only: bool) -> trio.abc.Stream:
    """Raises CannotConnect."""
    try:
        with trio.fail_after(CONNECT_PATIENCE):
            if uri.transport == "unix":
                return await _unix(uri.sockets(read_only=read_only))
            stream = await trio.open_tcp_stream(uri.host, uri.port)
            return stream if uri.transport == "tcp" else await _encrypted(stream, uri)
    except trio.TooSlowError:
        raise CannotConnect(f"{uri.text}: no answer for {CONNECT_PATIENCE:.0f} s") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise CannotConnect(f"cannot connect to {uri.host}:{uri.port}: {reason}") from error
    except UnicodeError as error:
        raise CannotConnect(f"cannot connect to {uri.host}: no host can be called so") from error


async def _unix(paths: Sequence[Path]) -> trio.SocketStream:
    """The first that exists is the one; whether it answers is another question."""
    path = next((path for path in paths if path.exists()), None)
    if path is None:
        looked = ", ".join(map(str, paths))
        raise CannotConnect(
            f"no socket at {looked}: start the daemon, or name one with ?socket=PATH in the URI"
        )
    try:
        return await trio.open_unix_socket(path)
    except OSError as error:
        raise CannotConnect(f"cannot connect to {path}: {error.strerror}") from error


async def _encrypted(stream: trio.SocketStream, uri: RemoteUri) -> trio.abc.Stream:
    async with AsyncExitStack() as undo:
        undo.push_async_callback(trio.aclose_forcefully, stream)
        try:
            secured = trio.SSLStream(stream, _context(uri), server_hostname=uri.host)
            await secured.do_handshake()
            confirmed = bytes(await secured.receive_some(len(_CONFIRMED)))
        except (ssl.SSLError, trio.BrokenResourceError) as error:
            raise CannotConnect(f"{uri.host}:{uri.port}: {_tls_reason(error)}") from error
        if confirmed != _CONFIRMED:
            raise CannotConnect(f"{uri.host}:{uri.port} refuses this client's certificate")
        undo.pop_all()
    return secured


def _tls_reason(error: BaseException) -> str:
    cause = error.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"the server's certificate is not right: {cause.verify_message}"
    return f"TLS failed: {cause or error}"


def _context(uri: RemoteUri) -> ssl.SSLContext:
    files = pki_files(uri.options.get("pkipath"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not uri.verifies:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    try:
        context.load_verify_locations(files.ca)
        if files.certificate.exists():
            context.load_cert_chain(files.certificate, files.key)
    except (ssl.SSLError, OSError) as error:
        raise CannotConnect(
            f"cannot use the certificates {', '.join(map(str, files))}: {error}"
        ) from error
    return context


def pki_files(folder: str | None = None) -> PkiFiles:
    """By libvirt's rule: one folder if named, the system's for root, else the user's own if any."""
    if folder is not None:
        return _in_one(Path(folder))
    own = _in_one(_USER_PKI.expanduser())
    if os.getuid() != 0 and all(path.exists() for path in own):
        return own
    key = _SYSTEM_PKI / "private" / "clientkey.pem"
    return PkiFiles(_SYSTEM_CA, _SYSTEM_PKI / "clientcert.pem", key)


def _in_one(folder: Path) -> PkiFiles:
    names = ("cacert.pem", "clientcert.pem", "clientkey.pem")
    return PkiFiles(*(folder / name for name in names))
