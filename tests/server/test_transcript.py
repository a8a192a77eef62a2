"""What a transcript says of calls and events, and what it keeps to itself."""

import json
import stat
from base64 import b64encode
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import libvirt
import libvirt_qemu
import pytest
import trio
from binding import Recorder, connected, error_code, wait_until
from daemon_process import running_daemon

from virtbackupd.protocol import schema
from virtbackupd.server.transcript import Entry, Transcript
from virtbackupd.server.transcript_file import QUEUED, written
from virtbackupd.testing import Server, serve

PROCEDURES = schema.load().by_name
DOMAIN = ("web", bytes(16), 3)
SECRET = "correct horse battery staple"
SECRET_XML = "<secret><usage type='volume'><volume>/images/vda</volume></usage></secret>"


@pytest.fixture
def server() -> Iterator[Server]:
    with serve() as found:
        yield found


@pytest.fixture
def connection(server: Server) -> Iterator[libvirt.virConnect]:
    with connected(server.uri) as found:
        server.transcript.clear()
        yield found


def last(server: Server) -> Entry:
    return server.transcript.entries()[-1]


def test_call_is_told_with_its_arguments_and_result(
    server: Server, connection: libvirt.virConnect
) -> None:
    connection.lookupByName("test").checkpointCreateXML(
        "<domaincheckpoint><name>monday</name></domaincheckpoint>"
    )
    entry = last(server)
    assert entry.name == "virDomainCheckpointCreateXML"
    assert entry.domain == "test"
    assert "<name>monday</name>" in entry.arguments
    assert entry.result == "checkpoint=monday"
    assert entry.code == 0


def test_refusal_is_told_with_code_and_message(
    server: Server, connection: libvirt.virConnect
) -> None:
    assert error_code(lambda: connection.lookupByName("none")) == libvirt.VIR_ERR_NO_DOMAIN
    assert last(server).code == libvirt.VIR_ERR_NO_DOMAIN
    assert "'none'" in last(server).result


def test_call_that_waits_is_told_when_it_is_answered(
    server: Server, connection: libvirt.virConnect
) -> None:
    machine = connection.lookupByName("test")
    machine.destroy()
    machine.create()
    assert "virDomainCreate(dom=test) = ok" in server.transcript.text()


def test_event_is_told_with_those_who_got_it(
    server: Server, connection: libvirt.virConnect
) -> None:
    recorder = Recorder()
    connection.domainEventRegisterAny(
        None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, recorder, "lifecycle"
    )
    connection.lookupByName("test").suspend()
    recorder.wait(1)
    events = [entry for entry in server.transcript.entries() if entry.event]
    assert [(entry.clients, entry.domain) for entry in events] == [((1,), "test")]


def test_clients_are_told_apart(server: Server) -> None:
    with connected(server.uri) as one, connected(server.uri) as two:
        server.transcript.clear()
        one.getType()
        two.getType()
    assert [entry.clients for entry in server.transcript.entries()[:2]] == [(1,), (2,)]


def test_value_of_a_secret_is_hidden(server: Server, connection: libvirt.virConnect) -> None:
    secret = connection.secretDefineXML(SECRET_XML)
    secret.setValue(SECRET.encode())
    assert last(server).arguments == "(hidden)"
    assert secret.value() == SECRET.encode()
    assert last(server).result == "(hidden)"


def test_password_in_an_agent_command_is_hidden(
    server: Server, connection: libvirt.virConnect
) -> None:
    password = b64encode(SECRET.encode()).decode()
    command = {"execute": "guest-set-user-password", "arguments": {"password": password}}
    machine = connection.lookupByName("test")
    with suppress(libvirt.libvirtError):  # whether this agent knows the command does not matter
        libvirt_qemu.qemuAgentCommand(machine, json.dumps(command), 5, 0)
    assert "guest-set-user-passw... (hidden)" in last(server).arguments
    assert password not in server.transcript.text()


def test_long_argument_is_cut_short(server: Server, connection: libvirt.virConnect) -> None:
    error_code(lambda: connection.lookupByName("x" * 5000))
    assert len(last(server).arguments) < 200


def test_call_that_cannot_be_decoded_is_told() -> None:
    transcript = Transcript()
    transcript.end(transcript.begin(1, PROCEDURES["DOMAIN_LOOKUP_BY_NAME"], None), 38, "no")
    assert transcript.entries()[0].arguments == "(cannot be decoded)"


def test_oldest_entries_go_first() -> None:
    transcript = Transcript(limit=2)
    for _ in range(3):
        transcript.delivered([1], PROCEDURES["DOMAIN_EVENT_CALLBACK_REBOOT"], (DOMAIN,))
    assert [entry.number for entry in transcript.entries()] == [2, 3]


def test_entries_behind_a_number_can_be_asked_for() -> None:
    transcript = Transcript()
    for _ in range(3):
        transcript.delivered([1], PROCEDURES["DOMAIN_EVENT_CALLBACK_REBOOT"], (DOMAIN,))
    assert [entry.number for entry in transcript.entries(after=2)] == [3]


def test_call_without_an_answer_is_told_as_such() -> None:
    transcript = Transcript()
    transcript.begin(4, PROCEDURES["DOMAIN_SUSPEND"], (DOMAIN,))
    assert transcript.text().startswith("[4] virDomainSuspend(dom=web) has no answer yet")


# The file


def test_daemon_writes_its_transcript_as_it_goes(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    with (
        running_daemon(tmp_path / "d", "--transcript", str(path)) as daemon,
        connected(daemon.uri) as connection,
    ):
        connection.lookupByName("test")
        wait_until(lambda: "virDomainLookupByName" in path.read_text(), "the line is written")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[-1]["name"] == "virConnectClose"
    assert [line["number"] for line in lines] == list(range(1, len(lines) + 1))


def test_transcript_is_for_the_daemon_s_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    with running_daemon(tmp_path / "d", "--transcript", str(path)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_entries_beyond_the_bound_are_left_out_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    transcript = Transcript(limit=1)
    async with written(transcript, tmp_path / "calls.jsonl"):
        for _ in range(QUEUED + 5):
            transcript.delivered([1], PROCEDURES["DOMAIN_EVENT_CALLBACK_REBOOT"], (DOMAIN,))
    assert "the transcript lacks 4 calls" in caplog.text
    assert len((tmp_path / "calls.jsonl").read_text().splitlines()) == QUEUED


async def test_full_disk_ends_the_file_and_not_the_daemon(caplog: pytest.LogCaptureFixture) -> None:
    transcript = Transcript()
    async with written(transcript, Path("/dev/full")):
        transcript.delivered([1], PROCEDURES["DOMAIN_EVENT_CALLBACK_REBOOT"], (DOMAIN,))
        with trio.fail_after(60):
            while "the transcript ends" not in caplog.text:  # noqa: ASYNC110 - nobody is told
                await trio.sleep(0.01)
    assert transcript.count == 1


def test_file_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError, match="did not get ready"),
        running_daemon(tmp_path / "d", "--transcript", str(tmp_path / "none" / "calls.jsonl")),
    ):
        pytest.fail("it started")
    assert "cannot write" in (tmp_path / "d" / "daemon.log").read_text()
