"""Steps are told to whoever listens, and to nobody otherwise."""

import pytest

from virtbackupd.drivers import steps


def test_nobody_need_listen() -> None:
    steps.step("one")


def test_a_hook_hears_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    monkeypatch.setattr(steps, "hook", heard.append)
    steps.step("one")
    steps.step("two")
    assert heard == ["one", "two"]
