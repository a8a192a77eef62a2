"""What is prepared before the daemon runs, and what it says when it is ready."""

import gc
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from scripted_driver import open_scripted_driver

from virtbackupd.drivers.errors import NoConnection
from virtbackupd.server import startup
from virtbackupd.server.config import ConfigError, Settings
from virtbackupd.server.daemon import DaemonConfig
from virtbackupd.server.listeners import ListenError
from virtbackupd.server.startup import StartError, start


@pytest.fixture
def settings() -> Iterator[Settings]:
    with tempfile.TemporaryDirectory(prefix="vb-") as name:
        yield Settings(
            socket_dir=f"{name}/s",
            state_dir=f"{name}/st",
            tcp=["127.0.0.1:0"],
            drivers={"test": "scripted", "qemu": "scripted"},
        )


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[DaemonConfig]:
    """The configurations that `start` would have run; each says that it is ready and ends."""
    found: list[DaemonConfig] = []

    async def run(config: DaemonConfig, on_ready: object) -> None:
        found.append(config)
        assert callable(on_ready)
        on_ready()

    monkeypatch.setattr(startup, "run", run)
    monkeypatch.setattr(startup, "load_driver", lambda _name: open_scripted_driver)
    return found


def test_first_word_is_ready(
    settings: Settings, started: list[DaemonConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    start(settings)
    assert capsys.readouterr().out.startswith("ready")


@pytest.mark.parametrize(
    "uri",
    [
        "test+unix:///default?socket={}/libvirt-sock",
        "qemu+unix:///system?socket={}/libvirt-sock-ro",
    ],
)
def test_uris_are_there_to_paste(
    settings: Settings,
    started: list[DaemonConfig],
    capsys: pytest.CaptureFixture[str],
    uri: str,
) -> None:
    start(settings)
    assert uri.format(settings.socket_dir) in capsys.readouterr().out.split()


def test_picked_port_is_printed(
    settings: Settings, started: list[DaemonConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    start(settings)
    assert re.search(r"test\+tcp://127\.0\.0\.1:[1-9]\d*/default", capsys.readouterr().out)


def test_limits_come_from_the_settings(settings: Settings, started: list[DaemonConfig]) -> None:
    start(msgspec.structs.replace(settings, max_clients=7, keepalive_count=3))
    limits = started[0].limits
    assert (limits.max_clients, limits.keepalive.count) == (7, 3)


def test_state_directory_is_private(settings: Settings, started: list[DaemonConfig]) -> None:
    start(settings)
    assert started[0].state_dir.stat().st_mode & 0o777 == 0o700


def test_sockets_are_removed_in_the_end(settings: Settings, started: list[DaemonConfig]) -> None:
    start(settings)
    assert list(Path(settings.socket_dir).iterdir()) == []


def everywhere(settings: Settings) -> Settings:
    """With a Unix socket for each thing that can have one."""
    folder = Path(settings.socket_dir)
    places = {name: f"unix:{folder / name}" for name in ("control", "metrics")}
    return msgspec.structs.replace(settings, **places)


def test_a_refused_start_leaves_no_sockets(
    settings: Settings, started: list[DaemonConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Path] = []

    def refuse(*_: object) -> None:
        seen.extend(Path(settings.socket_dir).iterdir())
        raise ConfigError("no certificate")

    monkeypatch.setattr(startup, "open_tls", refuse)
    with pytest.raises(StartError, match="no certificate"):
        start(everywhere(settings))
    assert len(seen) == 5
    assert list(Path(settings.socket_dir).iterdir()) == []


def test_an_admin_socket_that_nobody_can_be_let_to_is_removed(
    settings: Settings, started: list[DaemonConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise ListenError("cannot set who may open it")

    monkeypatch.setattr(startup, "grant_path", refuse)
    with pytest.raises(StartError, match="cannot set who"):
        start(settings)
    assert list(Path(settings.socket_dir).iterdir()) == []


def test_a_refused_start_leaves_the_collector_on(settings: Settings) -> None:
    with pytest.raises(StartError):
        start(msgspec.structs.replace(settings, world="/nowhere.toml"))
    assert gc.isenabled()


def test_driver_that_refuses_to_open_is_one_line(
    settings: Settings, started: list[DaemonConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(_config: DaemonConfig, _on_ready: object) -> None:
        raise ExceptionGroup("nursery", [NoConnection("no hypervisor here")])

    monkeypatch.setattr(startup, "run", refuse)
    with pytest.raises(StartError, match=r"^no hypervisor here$"):
        start(settings)
