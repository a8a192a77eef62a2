"""From settings to the access drivers that are asked."""

from pathlib import Path

from virtbackupd.server.access.control import AccessDriver
from virtbackupd.server.access.rules_file import read_rules
from virtbackupd.server.config import Settings


def access_drivers(settings: Settings) -> list[AccessDriver]:
    """None when nobody is to be asked. RulesError, or ConfigError where polkit cannot be had."""
    chosen: list[AccessDriver] = []
    if settings.access_rules:
        chosen.append(read_rules(Path(settings.access_rules)))
    if "polkit" in settings.access_drivers:
        from virtbackupd.server.access.polkit import open_polkit  # noqa: PLC0415 - rarely used

        chosen.append(open_polkit())
    return chosen
