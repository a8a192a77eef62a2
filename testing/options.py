"""What a server for tests can be given, and the daemon's settings made of it.

Whatever is put on the disk is below one folder, which goes with the server. Knows no thread.
"""

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final, TypedDict

from virtbackupd.drivers import DriverFactory, load_driver
from virtbackupd.drivers.clock import Clock, clock_from
from virtbackupd.drivers.errors import DriverError
from virtbackupd.drivers.profiles import find_profile
from virtbackupd.server.daemon import DaemonConfig, DriverChoice
from virtbackupd.server.listeners import (
    READ_ONLY_NAME,
    Listener,
    ListenError,
    close_all,
    listen_tcp,
    listen_unix,
)
from virtbackupd.server.transcript import LIMIT, Transcript
from virtbackupd.testing.toml_text import to_toml

World = Path | str | Mapping[str, object]
"""A file, its text, or the same as a dictionary."""
Rules = Path | str | Mapping[str, object] | Sequence[Mapping[str, object]]
"""A file of fault rules, its text, the same as a dictionary, or only the rules as a list."""

LONGEST_ADDRESS: Final = 107
"""Bytes of a Unix socket's path, sun_path without its end."""
DRIVERS: Final[Mapping[str, str]] = {"test": "memory", "qemu": "memory"}
LOOPBACK: Final = "127.0.0.1"
_PREFIX = "vb-"


class StartError(Exception):
    """The server cannot start; the text names what is in the way."""


class ServeOptions(TypedDict, total=False):
    """What `serve` and `open_server` can be given."""

    world: World | None
    """What there is at the start; by default the domain `test`."""
    faults: Rules | None
    profile: str
    """The release of libvirt to pretend to be."""
    clock: Clock | str
    """`real`, `stopped`, or the time at which it stands, as `serve --clock`."""
    drivers: Mapping[str, str]
    """Which driver answers which scheme; by default the in-memory one both test: and qemu:."""
    tcp: bool
    """Whether a loopback port is listened on as well."""
    control: bool
    """Whether the control endpoint answers on a loopback port, for programs in other languages."""
    transcript: int
    """How many calls and events are remembered."""


@dataclass(frozen=True, slots=True)
class Options:
    """The same with the defaults."""

    world: World | None = None
    faults: Rules | None = None
    profile: str = "newest"
    clock: Clock | str = "real"
    drivers: Mapping[str, str] = field(default_factory=lambda: DRIVERS)
    tcp: bool = False
    control: bool = False
    transcript: int = LIMIT


@dataclass(frozen=True, slots=True)
class Prepared:
    """Sockets listen, files are written: the daemon can be run."""

    folder: Path
    config: DaemonConfig
    transcript: Transcript


@contextmanager
def prepared(options: Options) -> Iterator[Prepared]:
    """StartError when something asked for cannot be had. At the end nothing is left."""
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_short_folder()))
    opened: list[Listener] = []
    try:
        yield _prepare(options, folder, opened)
    except (DriverError, ListenError) as error:
        raise StartError(str(error)) from error
    finally:
        close_all(opened)
        shutil.rmtree(folder, ignore_errors=True)


def _prepare(options: Options, folder: Path, opened: list[Listener]) -> Prepared:
    clock = options.clock if isinstance(options.clock, Clock) else clock_from(options.clock)
    transcript = Transcript(clock, options.transcript)
    state_dir = folder / "state"
    state_dir.mkdir()
    opened += listen_unix(folder)
    opened += listen_tcp(LOOPBACK, 0) if options.tcp else []
    listeners = tuple(opened)
    control = listen_tcp(LOOPBACK, 0) if options.control else []
    opened += control
    config = DaemonConfig(
        listeners,
        [DriverChoice(scheme, name, _factory(name)) for scheme, name in options.drivers.items()],
        state_dir,
        world_file(options.world, folder),
        clock=clock,
        profile=find_profile(options.profile),
        transcript=transcript,
        control=control,
        calm_collector=False,
    )
    return Prepared(folder, config, transcript)


@cache
def _factory(name: str) -> DriverFactory:
    """Looking through all that is installed takes longer than starting a server."""
    return load_driver(name)


def world_file(world: World | None, folder: Path) -> Path | None:
    """A file with the world, which is made in the folder unless it is one already."""
    if world is None or isinstance(world, Path):
        return world
    if isinstance(world, str) and not is_text(world):
        return Path(world)
    path = folder / "world.toml"
    path.write_text(world if isinstance(world, str) else to_toml(world), encoding="utf-8")
    return path


def is_text(given: str) -> bool:
    """Whether it is the text of a TOML file, and not the name of one."""
    return "\n" in given or "=" in given or "[[" in given


def _short_folder() -> Path:
    """Where sockets have addresses that fit; the usual folder for temporary files, if it can be."""
    usual = Path(tempfile.gettempdir())
    longest = usual / f"{_PREFIX}12345678" / READ_ONLY_NAME
    return usual if len(bytes(longest)) <= LONGEST_ADDRESS else Path("/tmp")  # noqa: S108 - short
