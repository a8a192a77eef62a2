"""What the settings ask of clients, told where nobody can meet it, and read again."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from scramp import ScramClient

from virtbackupd.server.config import Settings
from virtbackupd.server.errors import AuthenticationFailed
from virtbackupd.server.identity import Identity
from virtbackupd.server.listeners import Listener, close_all, listen_tcp, listen_tls
from virtbackupd.server.login import SaslServer
from virtbackupd.server.security import open_logins, reload_logins, with_schemes
from virtbackupd.server.users import MECHANISM, changing, make_credentials

PASSWORD = "correct horse"
LOCAL = Identity(uid=1000)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    with changing(tmp_path / "users") as users:
        users.known["alice"] = make_credentials(PASSWORD)
    return Settings(auth_tcp="sasl", auth_tls="sasl", sasl_users=str(tmp_path / "users"))


@pytest.fixture
def listeners() -> Iterator[list[Listener]]:
    found = listen_tcp("127.0.0.1", 0)
    yield found
    close_all(found)


def test_sasl_without_encryption_is_warned_about(
    settings: Settings, listeners: list[Listener], caplog: pytest.LogCaptureFixture
) -> None:
    open_logins(with_schemes(listeners, settings), settings)
    (told,) = caplog.messages
    assert told.startswith(f"nobody can log in at 127.0.0.1:{listeners[0].port}: auth_tcp")


def test_sasl_by_tls_is_not(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    listeners = listen_tls("127.0.0.1", 0)
    try:
        open_logins(with_schemes(listeners, settings), settings)
    finally:
        close_all(listeners)
    assert caplog.messages == []


async def comes_in(sasl: SaslServer | None) -> bool:
    assert sasl is not None
    login, client = sasl.login(LOCAL), ScramClient([MECHANISM], "alice", PASSWORD)
    first = await login.start(MECHANISM, client.get_client_first().encode())
    client.set_server_first((first.data or b"").decode())
    try:
        await login.step(client.get_client_final().encode())
    except AuthenticationFailed:
        return False
    return True


async def test_names_that_may_log_in_are_read_again(
    settings: Settings, listeners: list[Listener], autojump_clock: object
) -> None:
    logins = open_logins(with_schemes(listeners, settings), settings)
    assert await comes_in(logins.sasl)
    await reload_logins(logins)(Settings(sasl_allowed_username_list=["bob"]))
    assert not await comes_in(logins.sasl)
