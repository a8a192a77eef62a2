"""`virtbackupd serve`: options to a running daemon, and one clear line when that cannot be.

Knows no frame, no socket and no driver.
"""

import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import msgspec

from virtbackupd.server.commands.failing import fail
from virtbackupd.server.config import (
    LOG_LEVELS,
    ConfigError,
    Settings,
    parse_address,
    read_settings,
)
from virtbackupd.server.startup import StartError, start

INTERRUPTED = 130
"""The exit code of a program that SIGINT ended before it could stop in order."""


def _addresses(
    _context: click.Context, _parameter: click.Parameter, values: Sequence[str]
) -> Sequence[str]:
    for value in values:
        try:
            parse_address(value)
        except ConfigError as error:
            raise click.BadParameter(str(error)) from error
    return values


def _choices(
    _context: click.Context, _parameter: click.Parameter, values: Sequence[str]
) -> dict[str, str]:
    found: dict[str, str] = {}
    for value in values:
        scheme, _, name = value.partition("=")
        if not (scheme and name):
            raise click.BadParameter(f"{value!r} is not SCHEME=NAME, such as test=memory")
        found[scheme] = name
    return found


@click.command()
@click.option(
    "--socket-dir",
    type=click.Path(file_okay=False),
    help="Folder of the sockets libvirt-sock and libvirt-sock-ro. Default: a folder virtbackupd in "
    "$XDG_RUNTIME_DIR, or /run/virtbackupd for root.",
)
@click.option(
    "--tcp",
    multiple=True,
    metavar="HOST:PORT",
    callback=_addresses,
    help="Listen there too, without encryption; port 0 picks one and prints it. IPv6 addresses go "
    "in brackets. May be repeated.",
)
@click.option(
    "--state-dir",
    type=click.Path(file_okay=False),
    help="Folder of what outlives the daemon. Default: virtbackupd in $XDG_STATE_HOME, or "
    "/var/lib/virtbackupd for root.",
)
@click.option(
    "--driver",
    "drivers",
    multiple=True,
    metavar="SCHEME=NAME",
    callback=_choices,
    help="Which driver answers which URI scheme, e.g. qemu=memory to let the in-memory hypervisor "
    "answer qemu:///system. May be repeated; the first answers an empty URI. Default: test=memory.",
)
@click.option(
    "--world",
    type=click.Path(dir_okay=False),
    help="File with the domains that the in-memory hypervisor starts with.",
)
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File with settings, written like libvirtd.conf; options win over it.",
)
@click.option("--log-level", type=click.Choice(LOG_LEVELS), help="What to log. Default: info.")
def serve(
    socket_dir: str | None,
    tcp: Sequence[str],
    state_dir: str | None,
    drivers: Mapping[str, str],
    world: str | None,
    config: Path | None,
    log_level: str | None,
) -> None:
    """Run the daemon in the foreground until SIGTERM or SIGINT."""
    given = {
        "socket_dir": socket_dir,
        "tcp": list(tcp),
        "state_dir": state_dir,
        "drivers": drivers,
        "world": world,
        "log_level": log_level,
    }
    try:
        settings, warnings = read_settings(config) if config else (Settings(), [])
        settings = msgspec.structs.replace(settings, **{k: v for k, v in given.items() if v})
        _start_logging(settings.log_level)
        for warning in warnings:
            logging.getLogger(__name__).warning("%s", warning)
        _run(settings)
    except ConfigError as error:
        fail(str(error))


def _run(settings: Settings) -> None:
    try:
        start(settings)
    except StartError as error:
        fail(str(error))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _start_logging(level: str) -> None:
    logging.basicConfig(
        stream=sys.stderr,
        level=level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
