"""Reading the configuration again while the daemon runs: who wants to know is told, in turn.

Knows which keys hold at once, and neither the file nor what anybody makes of it.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, TypeAlias

import trio

from virtbackupd.server.config import ConfigError, Settings
from virtbackupd.server.keys import table
from virtbackupd.server.listeners import ListenError

log = logging.getLogger(__name__)

Hook: TypeAlias = Callable[[Settings], Awaitable[None]]
Tables: TypeAlias = Mapping[str, Mapping[str, object]]

AT_ONCE: Final = frozenset({
    "max_clients", "max_anonymous_clients", "admin_max_clients", "max_client_requests",
    "max_client_waiting_calls", "max_client_callbacks", "max_client_streams", "max_client_unread",
    "client_stall_timeout", "login_timeout", "keepalive_interval", "keepalive_count",
    "max_message", "max_queued_events", "max_jobs", "max_nbd_clients", "max_xml", "max_xml_depth",
    "ca_file", "cert_file", "key_file", "crl_file",
    "tls_no_sanity_certificate", "tls_no_verify_certificate", "tls_allowed_dn_list", "tls_priority",
    "sasl_allowed_username_list", "access_rules",
    "unix_sock_group", "unix_sock_rw_perms", "unix_sock_ro_perms", "unix_sock_admin_perms",
    "log_level", "log_filters", "log_outputs", "log_format", "audit_level", "audit_logging",
})  # fmt: skip
"""Keys that hold as soon as they have been read again."""


def tell_later(started: Settings) -> Hook:
    """Names the keys that have changed and can only hold from the next start."""

    async def hook(settings: Settings) -> None:
        held = {each.name for each in table(Settings) if not each.about.no_effect} - AT_ONCE
        changed = sorted(key for key in held if getattr(settings, key) != getattr(started, key))
        if changed:
            raise ConfigError(_later(changed))

    return hook


def tell_tables_later(started: Tables, latest: Callable[[], Tables]) -> Hook:
    """The same for the tables of drivers."""

    async def hook(_settings: Settings) -> None:
        now = latest()
        changed = [f"[{name}]" for name in {**started, **now} if started.get(name) != now.get(name)]
        if changed:
            raise ConfigError(_later(changed))

    return hook


def _later(changed: Sequence[str]) -> str:
    return f"what has changed in {', '.join(changed)} holds from a new start on"


class Reloading:
    """Hooks are called with the settings that hold from now on; what one refuses stays."""

    def __init__(self, load: Callable[[], Settings]) -> None:
        """`load` may block; it raises ConfigError."""
        self.hooks: list[Hook] = []
        self._load = load
        self._turn = trio.Lock()

    async def reload(self) -> list[str]:
        """What could not be done, also logged; empty when all went well."""
        async with self._turn:
            try:
                settings = await trio.to_thread.run_sync(self._load)
            except ConfigError as error:
                log.error("the configuration stays as it was: %s", error)
                return [str(error)]
            return [reason for hook in tuple(self.hooks) if (reason := await _told(hook, settings))]


async def _told(hook: Hook, settings: Settings) -> str:
    try:
        await hook(settings)
    except (ConfigError, ListenError, OSError, ValueError) as error:
        log.error("a part of the configuration stays as it was: %s", error)
        return str(error) or type(error).__name__
    return ""
