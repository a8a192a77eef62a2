"""Logging in to a server that asks for it: SCRAM with what libvirt's auth.conf says, or polkit.

Speaks through whatever makes calls; knows no socket. A password goes nowhere but into the exchange.
"""

import configparser
import os
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, NamedTuple

from virtbackupd.server.remote_dial import CannotConnect
from virtbackupd.server.remote_uri import RemoteUri

NONE, SASL, POLKIT = 0, 1, 2
"""remote_auth_type."""
MECHANISMS: Final = ("SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1")
"""The best one first."""
MAX_ITERATIONS: Final = 1_000_000
"""Of PBKDF2, which a server could make last for hours."""
_ITERATIONS: Final = re.compile(r"(?:^|,)i=(\d+)(?:,|$)")
_VARIABLE: Final = "LIBVIRT_AUTH_FILE"
_SYSTEM_FILE: Final = Path("/etc/libvirt/auth.conf")

Caller = Callable[..., Awaitable[tuple[object, ...]]]
"""Makes a call by its name and arguments."""


class Credentials(NamedTuple):
    """Who logs in."""

    user: str
    password: str


async def log_in(call: Caller, uri: RemoteUri) -> None:
    """Raises CannotConnect where this side cannot log in; the server's refusals pass through."""
    (schemes,) = await call("AUTH_LIST")
    if not isinstance(schemes, list) or NONE in schemes or not schemes:
        return
    if schemes[0] == POLKIT:
        await call("AUTH_POLKIT")
    elif schemes[0] == SASL:
        await _sasl(call, uri)
    else:
        raise CannotConnect(f"{uri.text} asks for an authentication that is unknown: {schemes[0]}")


async def _sasl(call: Caller, uri: RemoteUri) -> None:
    """RFC 5802; the transport protects the session, the mechanism does not."""
    if uri.transport == "tcp":
        raise CannotConnect(
            f"{uri.text} asks for SASL, which protects nothing over plain TCP here: use TLS"
        )
    (offered,) = await call("AUTH_SASL_INIT")
    known = [name for name in MECHANISMS if name in str(offered).split(",")]
    if not known:
        raise CannotConnect(f"{uri.text} offers {offered}; known here are {', '.join(MECHANISMS)}")
    await _scram(call, uri, known[0], find_credentials(uri))


async def _scram(call: Caller, uri: RemoteUri, mechanism: str, who: Credentials) -> None:
    from scramp import ScramClient, ScramException  # noqa: PLC0415 - rarely used

    client = ScramClient([mechanism], who.user, who.password)
    first = client.get_client_first().encode()
    complete, _, data = await call("AUTH_SASL_START", mechanism, 0, first)
    try:
        client.set_server_first(_first(uri, data))
        final = client.get_client_final().encode()
        complete, _, data = await call("AUTH_SASL_STEP", 0, final)
        client.set_server_final(_text(uri, data))
    except ScramException as error:
        raise CannotConnect(f"{uri.text} does not prove that it knows {who.user}") from error
    if not complete:
        # Some servers want to be told that their proof was right.
        (complete, *_) = await call("AUTH_SASL_STEP", 1, b"")
    if not complete:
        raise CannotConnect(f"{uri.text} does not end the login")


def _first(uri: RemoteUri, data: object) -> str:
    text = _text(uri, data)
    found = _ITERATIONS.search(text)
    if found is None or int(found[1]) > MAX_ITERATIONS:
        raise CannotConnect(f"{uri.text} asks for more than {MAX_ITERATIONS} iterations")
    return text


def _text(uri: RemoteUri, data: object) -> str:
    if isinstance(data, bytes):
        try:
            return data.decode()
        except UnicodeDecodeError:
            pass
    raise CannotConnect(f"{uri.text} sends a login step that is no text")


def find_credentials(uri: RemoteUri) -> Credentials:
    """From the first auth.conf there is, by libvirt's rule; a user in the URI must be that one."""
    path = _auth_file(uri)
    host = uri.host or "localhost"
    found = None if path is None else _read(path, host)
    if found is None or uri.user not in (None, found.user):
        raise CannotConnect(
            f"{uri.text} asks for a user and password: write them for host {host!r} into "
            f"{path or _user_file()}, as libvirt's manual on auth.conf says"
        )
    return found


def _auth_file(uri: RemoteUri) -> Path | None:
    """One that is named is the only one."""
    if named := uri.options.get("authfile") or os.environ.get(_VARIABLE):
        return Path(named)
    return next((path for path in (_user_file(), _SYSTEM_FILE) if path.exists()), None)


def _user_file() -> Path:
    folder = os.environ.get("XDG_CONFIG_HOME")
    return (Path(folder) if folder else Path("~/.config").expanduser()) / "libvirt" / "auth.conf"


def _read(path: Path, host: str) -> Credentials | None:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        # The text of a parser's complaint may quote a password.
        raise CannotConnect(f"cannot read {path}: {type(error).__name__}") from None
    for section in (f"auth-libvirt-{host}", "auth-libvirt-default"):
        name = parser.get(section, "credentials", fallback=None)
        if name is not None:
            return _credentials(parser, f"credentials-{name}")
    return None


def _credentials(parser: configparser.ConfigParser, section: str) -> Credentials | None:
    user = parser.get(section, "username", fallback=None)
    password = parser.get(section, "password", fallback=None)
    return None if user is None or password is None else Credentials(user, password)
