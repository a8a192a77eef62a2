"""virsh: monitor, agent, clock and console, as a guest would answer them."""

import json
import os
import pty
import re
import select
import subprocess
import time

import pytest
from virsh_guest import CONDITION_DEADLINE, Guest

DRIVERS = ("memory", "qemu")


def _qmp(guest: Guest, command: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(guest.virsh("qemu-monitor-command", command))
    return found


def test_monitor_status(guest: Guest) -> None:
    answer = _qmp(guest, '{"execute": "query-status"}')["return"]
    assert isinstance(answer, dict)
    assert (answer["status"], answer["running"]) == ("running", True)


def test_monitor_takes_a_bare_command_name(guest: Guest) -> None:
    assert "return" in _qmp(guest, "query-status")


def test_monitor_pretty(guest: Guest) -> None:
    text = guest.virsh("qemu-monitor-command", "--pretty", '{"execute": "query-status"}')
    assert len(text.splitlines()) > 1
    assert "return" in json.loads(text)


def test_monitor_tells_of_unknown_commands(guest: Guest) -> None:
    error = _qmp(guest, '{"execute": "query-nope"}')["error"]
    assert isinstance(error, dict)
    assert error["class"] == "CommandNotFound"


def test_human_monitor_status(guest: Guest) -> None:
    assert guest.monitor("info status") == "VM status: running"


def test_human_monitor_tells_of_unknown_commands(guest: Guest) -> None:
    assert "unknown command" in guest.monitor("nope")


def test_human_monitor_lists_disks(guest: Guest) -> None:
    assert "vda.qcow2 (qcow2)" in guest.monitor("info block")


@pytest.mark.only("memory")
def test_guest_reads_what_it_wrote(guest: Guest) -> None:
    assert "wrote 65536/65536 bytes at offset 0" in guest.monitor(
        'qemu-io vda "write -P 0xab 0 64k"'
    )
    assert "verification failed" not in guest.monitor('qemu-io vda "read -P 0xab 0 64k"').lower()


@pytest.mark.only("memory")
def test_guest_notices_a_wrong_pattern(guest: Guest) -> None:
    guest.monitor('qemu-io vda "write -P 0xab 0 64k"')
    assert "Pattern verification failed" in guest.monitor('qemu-io vda "read -P 0xcd 0 64k"')


@pytest.mark.parametrize("command", ["write -z 0 64k", "discard 0 64k"])
def test_guest_can_clear(guest: Guest, command: str) -> None:
    guest.monitor('qemu-io vda "write -P 0xab 0 64k"')
    guest.monitor(f'qemu-io vda "{command}"')
    assert "verification failed" not in guest.monitor('qemu-io vda "read -P 0 0 64k"').lower()


def test_guest_cannot_write_on_an_unknown_disk(guest: Guest) -> None:
    assert "vdq" in guest.monitor('qemu-io vdq "write 0 64k"')


def test_guest_cannot_write_beyond_the_end(guest: Guest) -> None:
    size = guest.virsh("domblkinfo", "vda").split()[1]
    assert "wrote" not in guest.monitor(f'qemu-io vda "write {size} 64k"')


@pytest.mark.only("memory")
def test_agent_ping(guest: Guest) -> None:
    assert json.loads(guest.virsh("qemu-agent-command", '{"execute":"guest-ping"}')) == {
        "return": {}
    }


@pytest.mark.parametrize("options", [["--timeout", "5"], ["--async"], ["--block"], ["--pretty"]])
@pytest.mark.only("memory")
def test_agent_ping_options(guest: Guest, options: list[str]) -> None:
    answer = guest.virsh("qemu-agent-command", *options, '{"execute":"guest-ping"}')
    assert json.loads(answer) == {"return": {}}


def _without_agent(spare: Guest) -> Guest:
    document = spare.virsh("dumpxml", "--inactive")
    spare.define(re.sub(r"<channel.*?</channel>", "", document, flags=re.DOTALL))
    spare.virsh("start")
    return spare


AGENT_COMMANDS = ["domfsfreeze", "domfsthaw", "guestinfo", "domtime"]


@pytest.mark.parametrize("command", [*AGENT_COMMANDS, "qemu-agent-command guest-ping"])
@pytest.mark.only("memory")
def test_agent_commands_need_an_agent(spare: Guest, command: str) -> None:
    answer = _without_agent(spare).virsh(*command.split(), status=1)
    assert "error: argument unsupported: " in answer


@pytest.mark.only("memory")
def test_freeze_and_thaw_count_file_systems(guest: Guest) -> None:
    frozen = re.search(r"Froze (\d+) filesystem", guest.virsh("domfsfreeze"))
    thawed = re.search(r"Thawed (\d+) filesystem", guest.virsh("domfsthaw"))
    assert frozen
    assert thawed
    assert int(frozen[1]) == int(thawed[1]) > 0


@pytest.mark.only("memory")
def test_guestinfo(guest: Guest) -> None:
    assert "os.id" in guest.virsh("guestinfo", "--os")


@pytest.mark.parametrize("option", ["--hostname", "--timezone", "--filesystem"])
@pytest.mark.only("memory")
def test_guestinfo_group(guest: Guest, option: str) -> None:
    assert ":" in guest.virsh("guestinfo", option)


@pytest.mark.only("memory")
def test_domtime(guest: Guest) -> None:
    found = re.fullmatch(r"Time: (\d+)", guest.virsh("domtime"))
    assert found
    assert abs(int(found[1]) - time.time()) < 60


@pytest.mark.only("memory")
def test_domtime_pretty(guest: Guest) -> None:
    assert re.search(r"\d{4}-\d\d-\d\d", guest.virsh("domtime", "--pretty"))


def test_console_of_an_inactive_domain(spare: Guest) -> None:
    assert "domain is not running" in spare.virsh("console", status=1)


class Terminal:
    """`virsh console` on a pseudo-terminal."""

    def __init__(self, guest: Guest) -> None:
        self._end, other = pty.openpty()
        command = ["virsh", "-c", guest.uri, "console", guest.name]
        self._process = subprocess.Popen(command, stdin=other, stdout=other, stderr=other)
        os.close(other)
        self._seen = b""

    def read_until(self, text: bytes) -> None:
        deadline = time.monotonic() + CONDITION_DEADLINE
        while text not in self._seen:
            ready = select.select([self._end], [], [], max(0.0, deadline - time.monotonic()))[0]
            assert ready, f"console showed only {self._seen!r}"
            self._seen += os.read(self._end, 4096)

    def type(self, text: bytes) -> None:
        self._seen = b""
        os.write(self._end, text)

    def close(self) -> int:
        """Send the escape character and wait for virsh to leave."""
        self.type(b"\x1d")
        try:
            return self._process.wait(CONDITION_DEADLINE)
        finally:
            self._process.kill()
            self._process.wait()
            os.close(self._end)


@pytest.mark.only("memory")
def test_console_echoes_and_is_left_with_the_escape(guest: Guest) -> None:
    terminal = Terminal(guest)
    terminal.read_until(b" login: ")
    terminal.type(b"hello\r")
    terminal.read_until(b"hello")
    assert terminal.close() == 0


@pytest.mark.only("memory")
def test_console_can_be_opened_again(guest: Guest) -> None:
    for _ in range(2):
        terminal = Terminal(guest)
        terminal.read_until(b" login: ")
        assert terminal.close() == 0
    assert guest.virsh("domstate") == "running"
