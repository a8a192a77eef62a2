"""libvirt's URIs as the client side reads them: which socket to connect to, and what to open there.

Only text is taken apart here and files are looked for; nothing is connected.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, cast
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

from virtbackupd.server.config import default_socket_dir
from virtbackupd.server.listeners import READ_ONLY_NAME, SOCKET_NAME

ENVIRONMENT: Final = "LIBVIRT_DEFAULT_URI"
"""What stock clients connect to when no URI is given."""
FALLBACK: Final = "test:///default"
PORTS: Final = {"tcp": 16509, "tls": 16514}
SYSTEM_FOLDER: Final = Path("/var/run/libvirt")
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9.-]*)(?:\+([A-Za-z0-9]+))?")
_FOR_THE_CLIENT: Final = frozenset(
    {"socket", "mode", "auth", "name", "authfile", "pkipath", "no_verify", "no_sanity", "no_tty",
     "tls_priority", "command", "netcat", "keyfile", "sshauth", "known_hosts",
     "known_hosts_verify", "proxy"}
)  # fmt: skip
"""Parameters that a stock client keeps; all others go to the server."""

Transport = Literal["unix", "tcp", "tls"]


class UriError(Exception):
    """A URI does not say what to connect to; the text says what is wrong and what to write."""


@dataclass(frozen=True, slots=True)
class RemoteUri:
    """A URI taken apart."""

    text: str
    scheme: str
    transport: Transport
    opened: str
    """What the server is asked to open: the URI without all that is about the way there."""
    host: str = ""
    port: int = 0
    user: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    """Parameters that are meant for the client."""

    @property
    def verifies(self) -> bool:
        """Whether the server's certificate has to be right."""
        return self.options.get("no_verify", "0") in {"", "0"}

    def sockets(self, *, read_only: bool) -> list[Path]:
        """Unix sockets to look for, in this order."""
        if chosen := self.options.get("socket"):
            return [Path(chosen)]
        name = READ_ONLY_NAME if read_only else SOCKET_NAME
        return [folder / name for folder in self._folders()] + self._modular(read_only=read_only)

    def _folders(self) -> Iterator[Path]:
        yield default_socket_dir()
        runtime = os.environ.get("XDG_RUNTIME_DIR")
        if not self._is_session:
            yield SYSTEM_FOLDER
        elif runtime:
            yield Path(runtime) / "libvirt"

    def _modular(self, *, read_only: bool) -> list[Path]:
        """The socket of the hypervisor's own daemon, where there is no libvirtd."""
        name = f"virt{self.scheme}d-sock{'-ro' if read_only else ''}"
        return [] if self._is_session else [SYSTEM_FOLDER / name]

    @property
    def _is_session(self) -> bool:
        return urlsplit(self.opened).path == "/session"


def default_uri() -> str:
    return os.environ.get(ENVIRONMENT) or FALLBACK


def parse_uri(text: str) -> RemoteUri:
    """Raises UriError."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise UriError(f"{text!r} is not a URI: {error}") from None
    found = _SCHEME.fullmatch(parts.scheme)
    if found is None:
        raise UriError(f"{text!r} is not a URI: write one like qemu:///system or {FALLBACK}")
    scheme, named = found[1], found[2]
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    transport = _transport(text, named or ("tls" if parts.hostname else "unix"))
    if transport != "unix" and not parts.hostname:
        raise UriError(f"{text!r} names no host: write one like {scheme}+{transport}://HOST/system")
    return RemoteUri(
        text,
        scheme,
        transport,
        options.get("name", _opened(scheme, parts, options)),
        parts.hostname or "",
        port or PORTS.get(transport, 0),
        parts.username,
        {key: value for key, value in options.items() if key in _FOR_THE_CLIENT},
    )


def _transport(text: str, name: str) -> Transport:
    if name not in {"unix", "tcp", "tls"}:
        raise UriError(
            f"{text!r}: transport {name!r} is not known here; use unix, tcp or tls, and for a"
            " distant Unix socket one that ssh -L forwards"
        )
    return cast("Transport", name)


def _opened(scheme: str, parts: SplitResult, options: Mapping[str, str]) -> str:
    """`remote` stands for whatever the server takes for its default."""
    if scheme == "remote":
        return ""
    rest = {key: value for key, value in options.items() if key not in _FOR_THE_CLIENT}
    query = f"?{urlencode(rest)}" if rest else ""
    return f"{scheme}://{parts.path or '/'}{query}"
