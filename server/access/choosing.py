"""From settings to the access drivers that are asked, also when the settings are read again."""

from collections.abc import Sequence
from pathlib import Path

import trio

from virtbackupd.server.access.control import AccessDriver
from virtbackupd.server.access.rules_file import HeldRules, RulesError, read_rules
from virtbackupd.server.config import ConfigError, Settings
from virtbackupd.server.reloading import Hook


def access_drivers(settings: Settings) -> list[AccessDriver]:
    """None when nobody is to be asked. RulesError, or ConfigError where polkit cannot be had."""
    chosen: list[AccessDriver] = []
    if settings.access_rules:
        chosen.append(HeldRules(read_rules(Path(settings.access_rules))))
    if "polkit" in settings.access_drivers:
        from virtbackupd.server.access.polkit import open_polkit  # noqa: PLC0415 - rarely used

        chosen.append(open_polkit())
    return chosen


def reload_rules(drivers: Sequence[AccessDriver]) -> Hook:
    """From now on, for clients that are connected too, what the file says by then."""
    held = [each for each in drivers if isinstance(each, HeldRules)]

    async def hook(settings: Settings) -> None:
        if not held:
            return
        if not settings.access_rules:
            raise ConfigError("access_rules is not set any more: its rules stay until a new start")
        try:
            rules = await trio.to_thread.run_sync(read_rules, Path(settings.access_rules))
        except RulesError as error:
            raise ConfigError(f"the access rules in use stay: {error.message}") from error
        for each in held:
            each.rules = rules

    return hook
