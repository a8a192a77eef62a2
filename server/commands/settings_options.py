"""The options that stand for settings, and the settings that file and options make together.

Each option has the name of a key of the configuration; `serve` and `config show` take the same.
Knows no command.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import click

from virtbackupd.server.config import ConfigError, parse_address
from virtbackupd.server.log_syntax import LEVEL_NAMES
from virtbackupd.server.settings_file import Loaded, load_settings


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


OPTIONS: Sequence[Callable[[Callable[..., None]], Callable[..., None]]] = (
    click.option(
        "--socket-dir",
        type=click.Path(file_okay=False),
        help="Folder of the sockets libvirt-sock and libvirt-sock-ro. Default: a folder"
        " virtbackupd in $XDG_RUNTIME_DIR, or /run/virtbackupd for root.",
    ),
    click.option(
        "--access-rules",
        type=click.Path(dir_okay=False),
        help="File of rules on who may do what on which domains. Default: whoever comes in may do"
        " everything.",
    ),
    click.option(
        "--tcp",
        multiple=True,
        metavar="HOST:PORT",
        callback=_addresses,
        help="Listen there too, without encryption; port 0 picks one and prints it. IPv6 addresses"
        " go in brackets. May be repeated.",
    ),
    click.option(
        "--tls",
        multiple=True,
        metavar="HOST:PORT",
        callback=_addresses,
        help="Listen there for TLS too; port 0 picks one and prints it. May be repeated.",
    ),
    click.option(
        "--state-dir",
        type=click.Path(file_okay=False),
        help="Folder of what outlives the daemon. Default: virtbackupd in $XDG_STATE_HOME, or"
        " /var/lib/virtbackupd for root.",
    ),
    click.option(
        "--driver",
        "drivers",
        multiple=True,
        metavar="SCHEME=NAME",
        callback=_choices,
        help="Which driver answers which URI scheme, e.g. qemu=memory to let the in-memory"
        " hypervisor answer qemu:///system. May be repeated; the first answers an empty URI."
        " Default: test=memory.",
    ),
    click.option(
        "--world",
        type=click.Path(dir_okay=False),
        help="File with the domains that the in-memory hypervisor starts with.",
    ),
    click.option(
        "--clock",
        metavar="real|stopped|TIME",
        help="What time the daemon goes by: the real one, or one that stands until it is moved, at"
        " this moment or at a TIME in seconds since 1970 or like 2026-01-31T12:00:00Z."
        " Default: real.",
    ),
    click.option(
        "--profile",
        help="The release of libvirt that the in-memory hypervisor pretends to be: 6.0, 7.6, 9.0,"
        " 11.10 or newest. Default: newest.",
    ),
    click.option(
        "--faults",
        type=click.Path(dir_okay=False),
        help="File with rules of what is to go wrong, and when; for tests of clients.",
    ),
    click.option(
        "--transcript",
        type=click.Path(dir_okay=False),
        help="Write each call with its outcome, and each event, to the end of this file as they"
        " occur: one JSON object on a line.",
    ),
    click.option(
        "--control",
        metavar="PORT|HOST:PORT|unix:PATH",
        help="Serve the control endpoint there: control commands over HTTP, as JSON. A port alone"
        " is one of 127.0.0.1, and 0 picks one and prints it. Default: nowhere.",
    ),
    click.option(
        "--control-anywhere",
        is_flag=True,
        help="Let --control, which has no passwords, listen where other machines reach it.",
    ),
    click.option(
        "--metrics",
        metavar="PORT|HOST:PORT|unix:PATH",
        help="Show metrics to Prometheus there, on this machine only. A port alone is one of"
        " 127.0.0.1, and 0 picks one and prints it. Default: nowhere.",
    ),
    click.option(
        "--env-file",
        type=click.Path(dir_okay=False),
        help="Write where the daemon answers to this file when it is ready, as NAME=value lines for"
        " a shell; removed when it stops.",
    ),
    click.option(
        "--advertise",
        metavar="HOST",
        help="Name or address by which others reach this machine, as in a container: backups that"
        " ask for every address, or for this one, listen on all and show this one.",
    ),
    click.option(
        "--config",
        type=click.Path(dir_okay=False, path_type=Path),
        help="File with settings, written like libvirtd.conf; options win over it.",
    ),
    click.option(
        "--listen",
        is_flag=True,
        help="Listen where listen_tls, listen_tcp and the ports of the file say, as libvirtd does.",
    ),
    click.option(
        "--timeout",
        type=click.IntRange(0),
        help="End after so many seconds without a client or a running domain. Default: never.",
    ),
    click.option("--log-level", type=click.Choice(LEVEL_NAMES), help="What to log. Default: info."),
)
"""As `--help` shows them."""


def takes_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command all the options; `gathered` makes settings of what it is called with."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def gathered(given: Mapping[str, object]) -> Loaded:
    """The settings of a command's options, of which `config` is the file; ConfigError."""
    options = {key: value for key, value in given.items() if value and key != "config"}
    file = given.get("config")
    return load_settings(file if isinstance(file, Path) else None, options)
