"""Reading the configuration again: everybody is told, and one refusal is nobody else's."""

import pytest

from virtbackupd.server.config import ConfigError, Settings
from virtbackupd.server.reloading import Reloading


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
