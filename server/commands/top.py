"""`virtbackupd top`: domains and jobs, on a live screen, as text or as JSON."""

import json
import sys
from collections.abc import Callable
from functools import partial

import click

from virtbackupd.server.commands.asking import ask
from virtbackupd.server.remote_uri import default_uri
from virtbackupd.server.watch.follow import follow, look_once
from virtbackupd.server.watch.jobs import Report
from virtbackupd.server.watch.tables import as_data, as_lines

MIN_INTERVAL = 0.1
MAX_INTERVAL = 3600.0


@click.command()
@click.option("-c", "--connect", "uri", metavar="URI", help="Which server to ask. Default: "
              "$LIBVIRT_DEFAULT_URI, or test:///default.")  # fmt: skip
@click.option("-r", "--readonly", is_flag=True, help="Connect read-only.")
@click.option("--once", is_flag=True, help="Look once and end.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one line for each look.")
@click.option(
    "--interval",
    type=click.FloatRange(MIN_INTERVAL, MAX_INTERVAL),
    default=1.0,
    show_default=True,
    help="Seconds between looks.",
)
def top(uri: str | None, readonly: bool, once: bool, as_json: bool, interval: float) -> None:
    """Show domains, their running jobs with rates and remaining time, and how jobs have ended.

    On a terminal this is a live screen, which q or Ctrl-C ends; elsewhere a table for each look.
    The server may go away and come back meanwhile.
    """
    uri = uri or default_uri()
    show = _print_json if as_json else _print_lines
    if once:
        show(ask(partial(look_once, uri, read_only=readonly)))
    elif not as_json and sys.stdin.isatty() and sys.stdout.isatty():
        _screen(uri, interval, read_only=readonly)
    else:
        _print_all(uri, interval, show, read_only=readonly)


def _screen(uri: str, interval: float, *, read_only: bool) -> None:
    from virtbackupd.server.watch.screen import run_screen  # noqa: PLC0415 - rich takes a while

    ask(partial(run_screen, uri, interval, read_only=read_only))


def _print_all(
    uri: str, interval: float, show: Callable[[Report], None], *, read_only: bool
) -> None:
    ask(partial(follow, uri, interval, show, read_only=read_only))


def _print_json(report: Report) -> None:
    click.echo(json.dumps(as_data(report)))


def _print_lines(report: Report) -> None:
    click.echo("\n".join(as_lines(report)))
