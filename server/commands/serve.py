"""`virtbackupd serve`: options to a running daemon, and one clear line when that cannot be.

Knows no frame, no socket and no driver.
"""

import logging
import sys
from collections.abc import Mapping

import click

from virtbackupd.server.commands.failing import fail
from virtbackupd.server.commands.settings_options import gathered, takes_settings
from virtbackupd.server.config import ConfigError, Settings
from virtbackupd.server.logs import LogOutputError, Logs, follow, open_logs
from virtbackupd.server.reloading import Reloading, tell_tables_later
from virtbackupd.server.settings_file import Loaded
from virtbackupd.server.startup import StartError, start

log = logging.getLogger(__name__)

INTERRUPTED = 130
"""The exit code of a program that SIGINT ended before it could stop in order."""


@click.command()
@takes_settings
def serve(**given: object) -> None:
    """Run the daemon in the foreground until SIGTERM or SIGINT."""
    try:
        loaded = gathered(given)
        logs = open_logs(loaded.settings)
    except (ConfigError, LogOutputError) as error:
        fail(str(error))
    try:
        _tell(loaded)
        logs.flush()
        _run(loaded, logs, given)
    finally:
        logs.close()


def _tell(loaded: Loaded) -> None:
    _warn(loaded)
    for remark in loaded.remarks:
        log.info("%s", remark)


def _warn(loaded: Loaded) -> None:
    for warning in loaded.warnings:
        log.warning("%s", warning)


def _run(loaded: Loaded, logs: Logs, given: Mapping[str, object]) -> None:
    latest = loaded

    def load() -> Settings:
        nonlocal latest
        latest = gathered(given)
        _warn(latest)
        return latest.settings

    reloading = Reloading(load)
    reloading.hooks += [follow(logs), tell_tables_later(loaded.tables, lambda: latest.tables)]
    try:
        start(loaded.settings, loaded.tables, logs=logs, reloading=reloading)
    except StartError as error:
        fail(str(error))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
