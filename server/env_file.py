"""The file that tells scripts where a daemon answers: NAME=value lines that a shell can source.

It is there as long as the daemon is ready. Knows no option and starts nothing.
"""

import logging
import os
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from virtbackupd.server.control_address import control_uris
from virtbackupd.server.listeners import Listener

log = logging.getLogger(__name__)

_URI_NAMES = {
    "read-write": "VIRTBACKUPD_URI",
    "read-only": "VIRTBACKUPD_READONLY_URI",
    "tcp": "VIRTBACKUPD_TCP_URI",
    "tls": "VIRTBACKUPD_TLS_URI",
}
"""By the word that the banner has for a socket."""


class EnvFile:
    """One file; it is removed only by the daemon that wrote it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._text: str | None = None

    def prepare(self) -> None:
        """Remove what a dead daemon left, so that nobody takes it for ours.

        OSError when the file could not be written later.
        """
        self.path.unlink(missing_ok=True)
        tempfile.TemporaryFile(dir=self.path.parent).close()

    def write(self, variables: Mapping[str, str]) -> None:
        """Whoever waits for the file finds all of it; that it cannot be written is logged."""
        try:
            self._write(variables)
        except OSError as error:
            log.error("cannot write %s: %s", self.path, error.strerror)

    def _write(self, variables: Mapping[str, str]) -> None:
        text = "".join(f"{name}={shlex.quote(value)}\n" for name, value in variables.items())
        fresh = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        fresh.write_text(text)
        fresh.replace(self.path)
        self._text = text

    def remove(self) -> None:
        """Safe to repeat, and when another daemon has written the file since."""
        text, self._text = self._text, None
        if text is None:
            return
        try:
            if self.path.read_text() == text:
                self.path.unlink()
        except FileNotFoundError:
            pass
        except OSError as error:
            log.warning("cannot remove %s: %s", self.path, error.strerror)


def variables(
    uris: Sequence[tuple[str, str]],
    endpoints: Mapping[str, Sequence[Listener]],
    advertised: str = "",
) -> dict[str, str]:
    """What a client has to know; `uris` have the banner's word for their socket before them.

    `endpoints` speak HTTP and are listed by their variable. Of sockets alike the first counts.
    `advertised` takes the place of "every address".
    """
    found: dict[str, str] = {}
    for note, uri in uris:
        found.setdefault(_URI_NAMES[note], _reachable(uri, advertised))
    if "VIRTBACKUPD_URI" in found:
        found["LIBVIRT_DEFAULT_URI"] = found["VIRTBACKUPD_URI"]
    for name, listeners in endpoints.items():
        if listeners:
            found[name] = _reachable(control_uris(listeners)[0], advertised)
    found["VIRTBACKUPD_PID"] = str(os.getpid())
    return dict(sorted(found.items()))


def _reachable(uri: str, advertised: str) -> str:
    """A URI of "every address" with an address that means something to others."""
    for everywhere in ("//0.0.0.0:", "//[::]:"):
        uri = uri.replace(everywhere, f"//{_in_uri(advertised or 'localhost')}:", 1)
    return uri


def _in_uri(host: str) -> str:
    return f"[{host}]" if ":" in host else host
