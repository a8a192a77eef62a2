"""Reading the configuration again: everybody is told, and one refusal is nobody else's."""

from dataclasses import fields

import pytest

from virtbackupd.drivers.limits import DriverLimits
from virtbackupd.server.config import ConfigError, Settings
from virtbackupd.server.keys import table
from virtbackupd.server.limits import Limits
from virtbackupd.server.reloading import AT_ONCE, Reloading, tell_later, tell_tables_later


async def test_hooks_get_the_new_settings() -> None:
    found: list[Settings] = []
    reloading = Reloading(lambda: Settings(max_clients=7))

    async def hook(settings: Settings) -> None:
        found.append(settings)

    reloading.hooks.append(hook)
    assert await reloading.reload() == []
    assert found[0].max_clients == 7


async def test_file_that_is_wrong_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def load() -> Settings:
        raise ConfigError("line 3 is wrong")

    async def hook(_settings: Settings) -> None:
        raise AssertionError("not to be called")

    reloading = Reloading(load)
    reloading.hooks.append(hook)
    assert await reloading.reload() == ["line 3 is wrong"]
    assert "the configuration stays as it was: line 3 is wrong" in caplog.text


async def test_refusal_of_one_hook_is_told_and_the_others_run() -> None:
    ran: list[str] = []

    async def refuses(_settings: Settings) -> None:
        raise ConfigError("no certificate")

    async def works(_settings: Settings) -> None:
        ran.append("works")

    reloading = Reloading(Settings)
    reloading.hooks += [refuses, works]
    assert await reloading.reload() == ["no certificate"]
    assert ran == ["works"]


async def test_changes_that_need_a_new_start_are_named() -> None:
    hook = tell_later(Settings())
    with pytest.raises(ConfigError, match=r"changed in auth_tcp, tcp holds from a new start on"):
        await hook(Settings(auth_tcp="sasl", tcp=["127.0.0.1:0"]))


async def test_changed_tables_of_drivers_are_named() -> None:
    tables = {"qemu": {"user": "one"}, "memory": {}}
    hook = tell_tables_later({"qemu": {"user": "one"}}, lambda: tables)
    with pytest.raises(ConfigError, match=r"changed in \[memory\] holds"):
        await hook(Settings())
    del tables["memory"]
    await hook(Settings())


async def test_changes_that_hold_at_once_or_never_are_not() -> None:
    await tell_later(Settings())(Settings(max_clients=7, access_rules="/new", max_workers=7))


def test_every_key_that_holds_at_once_is_a_key() -> None:
    assert {key.name for key in table(Settings)} >= AT_ONCE


def test_every_limit_that_is_taken_over_holds_at_once() -> None:
    copied = {each.name for each in (*fields(Limits), *fields(DriverLimits))}
    other_names = {"keepalive": {"keepalive_interval", "keepalive_count"}}
    read_once = {"reached", "max_control_clients"}
    assert copied - read_once - other_names.keys() <= AT_ONCE
    assert AT_ONCE.issuperset(*other_names.values())
