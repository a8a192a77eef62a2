"""Where the QEMU driver keeps its files, and what an administrator may set.

All folders are below one root, which is `qemu` in the daemon's state directory. Settings come from
the daemon's configuration and from `qemu.toml` in that folder, if it exists; an unknown key or a
wrong value is refused. Nothing here starts anything.
"""

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from virtbackupd.drivers.errors import ConfigUnsupported

SOCKET_PATH_LIMIT: Final = 107
"""Bytes in a Unix socket's address, without the final NUL."""
_LONGEST_SOCKET: Final = "monitor.sock"
_PASSABLE: Final = 0o711
_TLS_FOLDERS: Final = ("/etc/pki/libvirt-backup", "/etc/pki/qemu")


class _File(msgspec.Struct, forbid_unknown_fields=True):
    """The keys of `qemu.toml`, named as in libvirt's qemu.conf where that has them."""

    emulator: str | None = None
    user: str | None = None
    group: str | None = None
    backup_tls_x509_cert_dir: str | None = None
    backup_tls_x509_verify: bool = True
    backup_tls_x509_secret_uuid: str | None = None
    bitmap_granularity: int | None = None


@dataclass(frozen=True, slots=True)
class DomainPaths:
    """The files of one run of a domain."""

    folder: Path
    log: Path

    @property
    def monitor(self) -> Path:
        return self.folder / _LONGEST_SOCKET

    @property
    def agent(self) -> Path:
        """The host's end of the guest agent's channel."""
        return self.folder / "qga.sock"

    @property
    def pidfile(self) -> Path:
        return self.folder / "qemu.pid"


@dataclass(frozen=True, slots=True)
class Settings:
    """Fixed while the driver is open."""

    root: Path
    emulator: str
    """What runs a domain whose XML names none."""
    user: str | None = None
    """Who QEMU runs as; None is whoever runs the daemon."""
    group: str | None = None
    backup_tls_dir: Path | None = None
    backup_tls_verify: bool = True
    backup_tls_secret: str | None = None
    bitmap_granularity: int | None = None
    """Of new checkpoint bitmaps, in bytes; None is QEMU's default."""

    @property
    def definitions(self) -> Path:
        """One `NAME.xml` for each persistent domain."""
        return self.root / "definitions"

    @property
    def autostart(self) -> Path:
        """One link for each domain that starts with the daemon."""
        return self.root / "autostart"

    @property
    def status(self) -> Path:
        """One `NAME.xml` for each running domain: the live definition and all that a restart of
        the daemon needs.
        """
        return self.root / "run"

    @property
    def saves(self) -> Path:
        """One `NAME.save` for each managed save image."""
        return self.root / "save"

    @property
    def nvram(self) -> Path:
        return self.root / "nvram"

    def checkpoints(self, name: str) -> Path:
        """The folder with one `CHECKPOINT.xml` for each checkpoint of a domain."""
        return self.root / "checkpoint" / name

    def snapshots(self, name: str) -> Path:
        """The folder with one `SNAPSHOT.xml` for each snapshot of a domain."""
        return self.root / "snapshot" / name

    def log(self, name: str) -> Path:
        return self.root / "log" / f"{name}.log"

    def run_paths(self, domain_id: int, name: str) -> DomainPaths:
        """The name is cut where a socket's address would grow too long."""
        lib = self.root / "lib"
        fixed = len(os.fsencode(lib / f"domain-{domain_id}-" / _LONGEST_SOCKET))
        short = os.fsencode(name)[: max(0, SOCKET_PATH_LIMIT - fixed)].decode(errors="ignore")
        return DomainPaths(lib / f"domain-{domain_id}-{short}", self.log(name))

    def make_folders(self) -> None:
        """Create what is missing; the root must leave room for the addresses of sockets."""
        if len(os.fsencode(self.root / "lib" / "domain-99999-" / _LONGEST_SOCKET)) > (
            SOCKET_PATH_LIMIT
        ):
            raise ConfigUnsupported(
                f"the state directory {self.root.parent} is too long for the sockets below it:"
                " choose a shorter one"
            )
        # QEMU may run as somebody else, who must reach what lies in these.
        for name in ("", "checkpoint", "log", "lib", self.nvram.name):
            _make_passable(self.root / name)
        for folder in (self.definitions, self.autostart, self.status, self.saves):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def _make_passable(folder: Path) -> None:
    """Whatever the umask, which is strict in a service."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(_PASSABLE)


def load_settings(root: Path, given: Mapping[str, object] | None = None) -> Settings:
    """Settings of the daemon's configuration, over those of `qemu.toml`, over defaults. Blocks."""
    path = root / "qemu.toml"
    found = _read(path) if path.exists() else {}
    _checked(found, str(path))
    file = _checked({**found, **(given or {})}, "[qemu]")
    return Settings(
        root=root,
        emulator=file.emulator or default_emulator(),
        user=file.user,
        group=file.group,
        backup_tls_dir=_tls_folder(file.backup_tls_x509_cert_dir),
        backup_tls_verify=file.backup_tls_x509_verify,
        backup_tls_secret=file.backup_tls_x509_secret_uuid,
        bitmap_granularity=file.bitmap_granularity,
    )


def default_emulator() -> str:
    """The emulator of the host's own architecture."""
    machine = platform.machine().lower()
    arch = {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine or "x86_64")
    return f"/usr/bin/qemu-system-{arch}"


def _read(path: Path) -> dict[str, object]:
    try:
        return msgspec.toml.decode(path.read_bytes(), type=dict[str, object])
    except (msgspec.DecodeError, ValueError, OSError) as error:
        raise ConfigUnsupported(f"{path}: {error}") from None


def _checked(values: Mapping[str, object], place: str) -> _File:
    try:
        file = msgspec.convert(values, _File)
    except msgspec.ValidationError as error:
        raise ConfigUnsupported(f"{place}: {error}") from None
    _check_granularity(place, file.bitmap_granularity)
    return file


def _tls_folder(chosen: str | None) -> Path | None:
    if chosen is not None:
        return Path(chosen)
    return next((Path(folder) for folder in _TLS_FOLDERS if Path(folder).is_dir()), None)


def _check_granularity(place: str, size: int | None) -> None:
    # QEMU takes powers of two from a sector to 2 GiB.
    if size is not None and (size.bit_count() != 1 or not 512 <= size <= 1 << 31):
        raise ConfigUnsupported(
            f"{place}: bitmap_granularity is {size}, allowed are powers of two from 512 to 2 GiB"
        )
