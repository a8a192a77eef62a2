"""Questions to polkit: what is asked, what the answers mean, and what happens without any."""

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from polkit_authority import PATIENCE, PolkitAuthority, Verdict, authority, bus
from trio.testing import MockClock
from waiting import until

from virtbackupd.server import polkit as polkit_module
from virtbackupd.server.errors import AuthenticationFailed, AuthenticationUnavailable
from virtbackupd.server.identity import Identity
from virtbackupd.server.login import Authentication, Scheme
from virtbackupd.server.polkit import MANAGE, MONITOR, Polkit, PolkitError

SOMEBODY = Identity(pid=4242, start_time=99, uid=1000, gid=1000)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PolkitAuthority]:
    with authority(tmp_path_factory.mktemp("bus")) as made:
        yield made


@pytest.fixture
def judge(running: PolkitAuthority) -> PolkitAuthority:
    running.verdicts.clear()
    running.questions.clear()
    return running


@pytest.fixture
async def polkit(judge: PolkitAuthority) -> AsyncIterator[Polkit]:
    made = Polkit(judge.address)
    yield made
    made.close()


async def test_granted_action_lets_in(judge: PolkitAuthority, polkit: Polkit) -> None:
    judge.verdicts[MANAGE] = Verdict(authorized=True)
    assert await polkit.login(SOMEBODY).check() == SOMEBODY


async def test_subject_is_the_process_with_its_start_and_user(
    judge: PolkitAuthority, polkit: Polkit
) -> None:
    await polkit.ask(MANAGE, SOMEBODY)
    process = {"pid": ("u", 4242), "start-time": ("t", 99), "uid": ("i", 1000)}
    assert judge.questions[0].subject == ("unix-process", process)


async def test_read_only_socket_asks_for_less(judge: PolkitAuthority, polkit: Polkit) -> None:
    judge.verdicts[MONITOR] = Verdict(authorized=True)
    await polkit.login(replace(SOMEBODY, read_only=True)).check()
    assert [question.action for question in judge.questions] == [MONITOR]


async def test_refused_action_does_not_let_in(polkit: Polkit) -> None:
    with pytest.raises(AuthenticationFailed, match="authentication failed"):
        await polkit.login(SOMEBODY).check()


async def test_missing_agent_is_told(judge: PolkitAuthority, polkit: Polkit) -> None:
    judge.verdicts[MANAGE] = Verdict(authorized=False, challenge=True)
    with pytest.raises(AuthenticationUnavailable, match=MANAGE):
        await polkit.login(SOMEBODY).check()


async def test_dismissed_dialogue_is_a_refusal(judge: PolkitAuthority, polkit: Polkit) -> None:
    details = {"polkit.dismissed": "true"}
    judge.verdicts[MANAGE] = Verdict(authorized=False, challenge=True, details=details)
    with pytest.raises(AuthenticationFailed):
        await polkit.login(SOMEBODY).check()


async def test_login_may_ask_a_person_and_a_call_may_not(
    judge: PolkitAuthority, polkit: Polkit
) -> None:
    judge.verdicts[MANAGE] = Verdict(authorized=True)
    await polkit.login(SOMEBODY).check()
    await polkit.allows(MANAGE, SOMEBODY)
    assert [question.flags for question in judge.questions] == [1, 0]


async def test_one_connection_asks_one_question_at_a_time(
    judge: PolkitAuthority, polkit: Polkit
) -> None:
    """Each may open a dialogue in front of somebody."""
    judge.verdicts[MANAGE] = None
    login = polkit.login(SOMEBODY)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(login.check)
        await until(lambda: judge.questions)
        with pytest.raises(AuthenticationFailed):
            await login.check()
        nursery.cancel_scope.cancel()
    assert len(judge.questions) == 1


async def test_next_question_follows_the_answer(judge: PolkitAuthority, polkit: Polkit) -> None:
    login = polkit.login(SOMEBODY)
    for _ in range(2):
        with pytest.raises(AuthenticationFailed):
            await login.check()
    assert len(judge.questions) == 2


async def test_details_are_passed_on(judge: PolkitAuthority, polkit: Polkit) -> None:
    await polkit.allows("org.libvirt.api.domain.read", SOMEBODY, {"domain_name": "a"})
    assert judge.questions[0].details == {"domain_name": "a"}


async def test_connection_is_used_again(judge: PolkitAuthority, polkit: Polkit) -> None:
    judge.verdicts[MANAGE] = Verdict(authorized=True)
    assert [await polkit.allows(MANAGE, SOMEBODY) for _ in range(3)] == [True] * 3
    assert len(polkit._kept) == 1


async def test_many_ask_at_once(judge: PolkitAuthority, polkit: Polkit) -> None:
    judge.verdicts[MANAGE] = Verdict(authorized=True)
    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(polkit.allows, MANAGE, SOMEBODY)
    assert len(judge.questions) == 8


async def test_silence_has_an_end(
    judge: PolkitAuthority, polkit: Polkit, mock_clock: MockClock
) -> None:
    judge.verdicts[MANAGE] = None

    async def ask() -> None:
        with pytest.raises(PolkitError, match="not answered"):
            await polkit.allows(MANAGE, SOMEBODY)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        while not judge.questions:
            await trio.lowlevel.checkpoint()
        mock_clock.jump(polkit_module.ANSWER_DEADLINE + 1)
    assert not polkit._kept


@asynccontextmanager
async def asked(folder: Path, reason: str) -> AsyncIterator[socket.socket]:
    """The bus's side of a connection, whose bytes are read; in the end there is no answer."""

    async def ask() -> None:
        with pytest.raises(PolkitError, match=reason):
            await Polkit(f"unix:path={folder / 'bus'}").allows(MANAGE, SOMEBODY)

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "bus"))
        listening.listen()
        listening.settimeout(PATIENCE)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            peer, _ = await trio.to_thread.run_sync(listening.accept)
            peer.settimeout(PATIENCE)
            with peer:
                await trio.to_thread.run_sync(peer.recv, 4096)
                yield peer


async def test_bus_that_says_nothing_is_let_go(tmp_path: Path, mock_clock: MockClock) -> None:
    async with asked(tmp_path, "not answered") as peer:
        mock_clock.jump(polkit_module.BUS_DEADLINE + 1)
        assert await trio.to_thread.run_sync(peer.recv, 4096) == b""


async def test_bus_that_hangs_up_is_no_answer(tmp_path: Path, mock_clock: MockClock) -> None:
    async with asked(tmp_path, "has closed the connection") as peer:
        peer.close()


async def test_bus_that_is_not_there_lets_nobody_in(tmp_path: Path) -> None:
    with pytest.raises(AuthenticationFailed):
        await Polkit(f"unix:path={tmp_path / 'nothing'}").login(SOMEBODY).check()


async def test_bus_without_polkit_lets_nobody_in(tmp_path: Path) -> None:
    with bus(tmp_path) as address:
        polkit = Polkit(address)
        with pytest.raises(PolkitError, match="ServiceUnknown"):
            await polkit.allows(MANAGE, SOMEBODY)
        polkit.close()


async def test_kept_connection_that_broke_is_made_anew(tmp_path: Path) -> None:
    with authority(tmp_path) as judge:
        judge.verdicts[MANAGE] = Verdict(authorized=True)
        polkit = Polkit(judge.address)
        assert await polkit.allows(MANAGE, SOMEBODY)
        polkit._kept[0].socket.shutdown(2)
        assert await polkit.allows(MANAGE, SOMEBODY)
        polkit.close()


async def test_process_that_cannot_be_seen_is_refused(polkit: Polkit) -> None:
    with pytest.raises(PolkitError, match="cannot be seen"):
        await polkit.allows(MANAGE, replace(SOMEBODY, start_time=None))


def test_root_is_not_asked_about() -> None:
    login = Authentication().login(Scheme.POLKIT, replace(SOMEBODY, uid=0))
    assert login.scheme is Scheme.NONE
