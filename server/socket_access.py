"""Who may open the Unix sockets: group and permissions as the configuration has them.

A socket is private until this has run. Knows no client.
"""

import grp
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from virtbackupd.server.config import ConfigError, Settings
from virtbackupd.server.listeners import Listener, ListenError

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_GROUP_PASSES = stat.S_IXGRP
_OTHERS_PASS = stat.S_IXOTH


def grant(listeners: Sequence[Listener], settings: Settings) -> None:
    """Set group and permissions of each socket with a path, and let whoever may into its folder."""
    group = find_group(settings.unix_sock_group)
    for listener in listeners:
        if listener.path is not None:
            text = (
                settings.unix_sock_ro_perms if listener.read_only else settings.unix_sock_rw_perms
            )
            grant_path(listener.path, text, group)


def grant_path(path: Path, permissions: str, group: int = -1) -> None:
    """`permissions` in octal; a group of -1 stays. ListenError."""
    mode = int(permissions, 8)
    try:
        if group != -1:
            os.chown(path, -1, group)
        path.chmod(mode)
        _open_folder(path.parent, mode, group)
    except OSError as error:
        raise ListenError(f"cannot set who may open {path}: {error.strerror}") from error


def _open_folder(folder: Path, mode: int, group: int) -> None:
    """Let pass who may open a socket in it; a folder that is open already stays as it is."""
    found = stat.S_IMODE(folder.stat().st_mode)
    wanted = found | (_GROUP_PASSES if mode & stat.S_IRWXG else 0)
    wanted |= _OTHERS_PASS if mode & stat.S_IRWXO else 0
    if wanted == found:
        return
    if group != -1 and not found & _OTHERS:
        os.chown(folder, -1, group)
    folder.chmod(wanted)


def find_group(name: str) -> int:
    """Its number, -1 for no name. ConfigError when there is no such group."""
    if not name:
        return -1
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise ConfigError(
            f"unix_sock_group: there is no group {name!r} here; create it or name another"
        ) from None
