"""Logins by SASL: the exchange, what a client learns of a failure, and who has to wait."""

import random
from pathlib import Path

import pytest
import trio
from scramp import ScramClient

from virtbackupd.server import sasl as sasl_module
from virtbackupd.server.errors import AuthenticationFailed
from virtbackupd.server.identity import Identity, Transport
from virtbackupd.server.sasl import ATTEMPTS, PEERS, Brake, Sasl, ScramLogin, open_sasl
from virtbackupd.server.users import MECHANISM, changing, make_credentials

PASSWORD = "correct horse"
LOCAL = Identity(uid=1000)


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sasl") / "users"
    with changing(path) as found:
        found.known["alice"] = make_credentials(PASSWORD)
    return path


@pytest.fixture
def sasl(users: Path) -> Sasl:
    return open_sasl(users)


@pytest.fixture
def login(sasl: Sasl, monkeypatch: pytest.MonkeyPatch) -> ScramLogin:
    """Of a local client; waits are short."""
    monkeypatch.setattr(sasl_module, "FIRST_DELAY", 0.001)
    return sasl.login(LOCAL)


async def exchange(login: ScramLogin, name: str, password: str) -> Identity | None:
    client = ScramClient([MECHANISM], name, password)
    first = await login.start(MECHANISM, client.get_client_first().encode())
    client.set_server_first((first.data or b"").decode())
    last = await login.step(client.get_client_final().encode())
    client.set_server_final((last.data or b"").decode())
    return last.identity


async def refusal(login: ScramLogin, name: str = "alice", password: str = "guessed") -> str:
    with pytest.raises(AuthenticationFailed) as told:
        await exchange(login, name, password)
    return str(told.value)


async def test_right_password_is_who_it_says(login: ScramLogin) -> None:
    identity = await exchange(login, "alice", PASSWORD)
    assert identity == LOCAL.logged_in("alice")


async def test_first_message_may_come_later(login: ScramLogin) -> None:
    client = ScramClient([MECHANISM], "alice", PASSWORD)
    assert await login.start(MECHANISM, None) == (None, None)
    first = await login.step(client.get_client_first().encode())
    client.set_server_first((first.data or b"").decode())
    assert (await login.step(client.get_client_final().encode())).identity


async def test_wrong_password_is_refused(login: ScramLogin) -> None:
    assert await refusal(login) == "authentication failed"


async def test_unknown_user_meets_the_same_exchange(login: ScramLogin) -> None:
    assert await refusal(login, name="nobody") == await refusal(login)


async def test_name_that_is_not_on_the_list_is_refused(users: Path, autojump_clock: object) -> None:
    login = open_sasl(users, ["bob*"]).login(LOCAL)
    assert await refusal(login, password=PASSWORD) == "authentication failed"


async def test_name_that_fits_the_list_comes_in(users: Path) -> None:
    assert await exchange(open_sasl(users, ["al?ce"]).login(LOCAL), "alice", PASSWORD)


async def test_another_mechanism_is_refused(login: ScramLogin) -> None:
    with pytest.raises(AuthenticationFailed):
        await login.start("PLAIN", b"\0alice\0" + PASSWORD.encode())


async def test_step_without_start_is_refused(login: ScramLogin) -> None:
    with pytest.raises(AuthenticationFailed):
        await login.step(b"n,,n=alice,r=abc")


async def test_failed_login_can_begin_again(login: ScramLogin) -> None:
    await refusal(login)
    assert await exchange(login, "alice", PASSWORD)


async def test_failed_login_cannot_go_on(login: ScramLogin) -> None:
    await refusal(login)
    with pytest.raises(AuthenticationFailed):
        await login.step(b"")


async def test_connection_has_so_many_attempts(login: ScramLogin) -> None:
    for _ in range(ATTEMPTS):
        await refusal(login)
    assert await refusal(login, password=PASSWORD) == "authentication failed"


async def test_two_logins_of_one_connection_do_not_overlap(
    login: ScramLogin, monkeypatch: pytest.MonkeyPatch
) -> None:
    await refusal(login)
    monkeypatch.setattr(sasl_module, "FIRST_DELAY", sasl_module.LONGEST_DELAY)
    first = ScramClient([MECHANISM], "alice", PASSWORD).get_client_first().encode()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(login.start, MECHANISM, first)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(AuthenticationFailed):
            await login.start(MECHANISM, first)
        nursery.cancel_scope.cancel()


async def test_plain_tcp_is_refused_before_a_name_is_said(sasl: Sasl) -> None:
    login = sasl.login(Identity(Transport.TCP, address="127.0.0.1:1"))
    with pytest.raises(AuthenticationFailed):
        login.mechanisms()
    with pytest.raises(AuthenticationFailed):
        await login.start(MECHANISM, None)


def test_tls_and_unix_clients_are_offered_scram(sasl: Sasl) -> None:
    offered = {sasl.login(Identity(kind)).mechanisms() for kind in (Transport.TLS, Transport.UNIX)}
    assert offered == {MECHANISM}


async def test_failures_make_the_next_login_of_the_peer_wait(
    sasl: Sasl, autojump_clock: object
) -> None:
    await refusal(sasl.login(LOCAL))
    began = trio.current_time()
    await exchange(sasl.login(LOCAL), "alice", PASSWORD)
    assert trio.current_time() > began


async def test_failures_make_no_other_peer_wait(sasl: Sasl, autojump_clock: object) -> None:
    await refusal(sasl.login(LOCAL))
    assert sasl.brake.delay("user 1001") == 0


def test_waits_grow_and_have_a_bound() -> None:
    brake = Brake(lambda: 0.0)
    delays = []
    for _ in range(12):
        brake.failed("peer")
        delays.append(brake.delay("peer"))
    assert delays == sorted(delays)
    assert delays[0] < delays[1] < delays[-1] == delays[-2]


def test_success_forgets_failures() -> None:
    brake = Brake(lambda: 0.0)
    brake.failed("peer")
    brake.succeeded("peer")
    assert brake.delay("peer") == 0


def test_time_forgets_failures() -> None:
    now = [0.0]
    brake = Brake(lambda: now[0])
    brake.failed("peer")
    now[0] = 61.0
    assert brake.delay("peer") == 0


def test_so_many_peers_are_remembered() -> None:
    brake = Brake(lambda: 0.0)
    for number in range(PEERS + 1):
        brake.failed(str(number))
    assert (brake.delay("0"), brake.delay("1") > 0) == (0, True)


async def test_garbage_ends_in_a_refusal(sasl: Sasl, autojump_clock: object) -> None:
    """Whatever the bytes: no other exception, and nobody is let in."""
    rng = random.Random(7)
    first = b"n,,n=alice,r=fyko+d2lbbFgONRv9qkxdawL"
    final = b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts="
    for _ in range(300):
        login = sasl.login(Identity(uid=rng.getrandbits(32)))
        for message in (mutated(rng, first), mutated(rng, final)):
            await refused_or_asked(login, message)


def mutated(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice([0, 1, 1, 2, 8])):
        at = rng.randrange(len(changed))
        changed[at : at + rng.randrange(3)] = rng.choice([b"=", b",", b"", rng.randbytes(3)])
    return bytes(changed)


async def refused_or_asked(login: ScramLogin, message: bytes) -> None:
    try:
        found = await (login.step(message) if login.name else login.start(MECHANISM, message))
    except AuthenticationFailed:
        return
    assert found.identity is None
