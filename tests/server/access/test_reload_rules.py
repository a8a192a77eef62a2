"""Rules that are read again hold at once; a file that is wrong leaves those that hold."""

from pathlib import Path

import pytest

from virtbackupd.server.access.choosing import access_drivers, reload_rules
from virtbackupd.server.access.control import CONNECTION, AccessDriver
from virtbackupd.server.access.permissions import permission
from virtbackupd.server.config import ConfigError, Settings
from virtbackupd.server.identity import Identity

ALICE = Identity(sasl_name="alice")


def rules_for(name: str) -> str:
    return f'[[rules]]\nwho = {{ sasl = "{name}" }}\nmay = ["read"]\n'


def write(settings: Settings, text: str) -> None:
    Path(settings.access_rules).write_text(text)


def reads(driver: AccessDriver) -> object:
    return driver.allows(ALICE, permission("connect:read"), CONNECTION)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "rules.toml").write_text(rules_for("alice"))
    return Settings(access_rules=str(tmp_path / "rules.toml"))


async def test_new_rules_hold(settings: Settings) -> None:
    (driver,) = access_drivers(settings)
    assert reads(driver) is True
    write(settings, rules_for("bob"))
    await reload_rules([driver])(settings)
    assert reads(driver) is False


async def test_wrong_file_leaves_the_old_rules(settings: Settings) -> None:
    (driver,) = access_drivers(settings)
    write(settings, "[[rules]]\nmay = ['fly']\n")
    with pytest.raises(ConfigError, match=r"rules in use stay: .*rules.toml:2: .*'fly'"):
        await reload_rules([driver])(settings)
    assert reads(driver) is True


async def test_rules_are_not_given_up_by_a_reload(settings: Settings) -> None:
    (driver,) = access_drivers(settings)
    with pytest.raises(ConfigError, match="its rules stay"):
        await reload_rules([driver])(Settings())
    assert reads(driver) is True
