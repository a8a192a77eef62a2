"""From settings to what guards the sockets: certificates, logins, and which socket wants which.

Knows the configuration's keys, and no client.
"""

import logging
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from virtbackupd.server.config import ConfigError, Settings
from virtbackupd.server.identity import Transport
from virtbackupd.server.listeners import Listener
from virtbackupd.server.login import Authentication, PolkitServer, SaslServer, Scheme
from virtbackupd.server.reloading import Hook
from virtbackupd.server.tls import TlsError, TlsFiles, TlsRules, TlsServer, check_sanity

if TYPE_CHECKING:
    from virtbackupd.server.tls_priority import Priority

log = logging.getLogger(__name__)

SYSTEM_FILES = TlsFiles(
    Path("/etc/pki/CA/cacert.pem"),
    Path("/etc/pki/libvirt/servercert.pem"),
    Path("/etc/pki/libvirt/private/serverkey.pem"),
    Path("/etc/pki/CA/cacrl.pem"),
)


SYSTEM_CLIENT_FILES = TlsFiles(
    Path("/etc/pki/CA/cacert.pem"),
    Path("/etc/pki/libvirt/clientcert.pem"),
    Path("/etc/pki/libvirt/private/clientkey.pem"),
)


def user_files(side: str = "server") -> TlsFiles:
    """Where libvirt looks first for whoever is not root."""
    folder = Path.home() / ".pki" / "libvirt"
    names = ("cacert.pem", f"{side}cert.pem", f"{side}key.pem")
    return TlsFiles(*(folder / name for name in names))


def default_files() -> TlsFiles:
    """The user's own when all are there, else the system's."""
    return _found(user_files()) or SYSTEM_FILES


def client_files() -> TlsFiles:
    """What libvirt's client of this user takes."""
    return _found(user_files("client")) or SYSTEM_CLIENT_FILES


def _found(own: TlsFiles) -> TlsFiles | None:
    there = os.getuid() != 0 and all(path is None or path.exists() for path in own)
    return own if there else None


def tls_files(settings: Settings) -> TlsFiles:
    """What the keys name, and the defaults for the rest. A list of revoked ones need not exist."""
    default = default_files()
    crl = default.crl_file if default.crl_file and default.crl_file.exists() else None
    return TlsFiles(
        Path(settings.ca_file) if settings.ca_file else default.ca_file,
        Path(settings.cert_file) if settings.cert_file else default.cert_file,
        Path(settings.key_file) if settings.key_file else default.key_file,
        Path(settings.crl_file) if settings.crl_file else crl,
    )


def checked_files(settings: Settings) -> TlsFiles:
    """The same, which make sense together unless the settings do not care. TlsError."""
    files = tls_files(settings)
    if not settings.tls_no_sanity_certificate:
        check_sanity(files)
    return files


def tls_rules(settings: Settings) -> TlsRules:
    names = settings.tls_allowed_dn_list
    return TlsRules(
        not settings.tls_no_verify_certificate,
        None if names is None else tuple(names),
        _priority(settings.tls_priority),
    )


def _priority(text: str) -> "Priority | None":
    if not text:
        return None
    from virtbackupd.server.tls_priority import parse_priority  # noqa: PLC0415 - rarely used

    return parse_priority(text)


def with_schemes(listeners: Sequence[Listener], settings: Settings) -> list[Listener]:
    """Each with the way to log in that the settings ask for."""
    return [replace(each, scheme=_scheme(each, settings)) for each in listeners]


def open_tls(listeners: Sequence[Listener], settings: Settings) -> TlsServer | None:
    """None when no socket wants it. ConfigError when the certificates are of no use."""
    if not any(each.tls for each in listeners):
        return None
    try:
        return TlsServer(checked_files(settings), tls_rules(settings))
    except TlsError as error:
        raise ConfigError(f"TLS is to be served, but {error}") from error


def open_logins(listeners: Sequence[Listener], settings: Settings) -> Authentication:
    """What the sockets ask their clients to log in with. ConfigError when it cannot be had."""
    wanted = {each.scheme for each in listeners}
    for each in listeners:
        if each.scheme is Scheme.SASL and not each.secure:
            log.warning(
                "nobody can log in at %s:%s: auth_tcp asks for sasl, which is refused where nothing"
                " encrypts; use TLS",
                each.host, each.port,
            )  # fmt: skip
    return Authentication(
        sasl=_sasl(settings) if Scheme.SASL in wanted else None,
        polkit=_polkit() if Scheme.POLKIT in wanted else None,
    )


def reload_tls(tls: TlsServer) -> Hook:
    """For clients to come, what the files and keys say by then."""

    async def hook(settings: Settings) -> None:
        try:
            files = await trio.to_thread.run_sync(checked_files, settings)
            await tls.reload(files, tls_rules(settings))
        except TlsError as error:
            raise ConfigError(f"the certificates in use stay as they were: {error}") from error

    return hook


def reload_logins(authentication: Authentication) -> Hook:
    """For logins to come, the names that may log in by then."""

    async def hook(settings: Settings) -> None:
        if authentication.sasl is not None:
            authentication.sasl.allow(settings.sasl_allowed_username_list)

    return hook


def _sasl(settings: Settings) -> SaslServer:
    from virtbackupd.server.sasl import open_sasl  # noqa: PLC0415 - rarely used

    return open_sasl(users_path(settings), settings.sasl_allowed_username_list)


def _polkit() -> PolkitServer:
    from virtbackupd.server.polkit import Polkit  # noqa: PLC0415 - rarely used

    return Polkit()


def users_path(settings: Settings) -> Path:
    """The file of those who may log in by SASL."""
    from virtbackupd.server.users import default_path  # noqa: PLC0415 - rarely used

    return Path(settings.sasl_users) if settings.sasl_users else default_path()


def _scheme(listener: Listener, settings: Settings) -> Scheme:
    return Scheme[_KEYS[_transport(listener), listener.read_only](settings).upper()]


def _transport(listener: Listener) -> Transport:
    if listener.socket.family == socket.AF_UNIX:
        return Transport.UNIX
    return Transport.TLS if listener.tls else Transport.TCP


_KEYS: dict[tuple[Transport, bool], Callable[[Settings], str]] = {
    (Transport.UNIX, False): lambda settings: settings.auth_unix_rw,
    (Transport.UNIX, True): lambda settings: settings.auth_unix_ro,
    (Transport.TCP, False): lambda settings: settings.auth_tcp,
    (Transport.TLS, False): lambda settings: settings.auth_tls,
}
