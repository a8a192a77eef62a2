"""The control channel as tests in any language reach it: through the monitor, and over HTTP."""

import base64
import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import libvirt
import pytest
from binding import connected, error_code, monitor_line
from daemon_process import Daemon, running_daemon, serve_command
from documents import checkpoint_xml, pull_xml, unix_server
from libvirt_qemu import qemuMonitorCommand
from tools import copy_export, dirty_ranges, nbd_read, unix_uri

VDA = "<disk name='vda'/>"
CLUSTER = 65536
DATA = base64.b64encode(b"precious").decode()
OPERATION_DENIED = 29

Control = Callable[..., Any]
"""Sends a control command on the domain `test` and returns its result, or fails."""


class Refused(Exception):
    """A control command was refused."""


@dataclass
class Endpoint:
    """The control endpoint of a daemon."""

    uri: str

    def ask(self, path: str, arguments: dict[str, Any] | None = None) -> Any:  # noqa: ANN401 - JSON
        body = None if arguments is None else json.dumps(arguments).encode()
        request = urllib.request.Request(
            self.uri + path, body, {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                return json.load(reply)
        except urllib.error.HTTPError as error:
            with error:
                raise Refused(json.load(error)["error"]["message"]) from None


@pytest.fixture(scope="module")
def controlled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with running_daemon(tmp_path_factory.mktemp("c"), "--control", "0") as daemon:
        yield daemon


@pytest.fixture(scope="module")
def endpoint(controlled: Daemon) -> Endpoint:
    """As it is announced behind the first line of the banner."""
    assert controlled.process.stdout is not None
    for line in controlled.process.stdout:
        words = line.split()
        if words[0] == "control":
            return Endpoint(words[1])
    raise AssertionError("the control endpoint is not announced")


@pytest.fixture
def running(controlled: Daemon, endpoint: Endpoint) -> Iterator[libvirt.virDomain]:
    """The default world's domain, as it was at the start."""
    endpoint.ask("/control/world-reset", {})
    with connected(controlled.qemu_uri) as connection:
        yield connection.lookupByName("test")


@pytest.fixture(params=["monitor", "http"])
def control(
    request: pytest.FixtureRequest, endpoint: Endpoint, running: libvirt.virDomain
) -> Control:
    def through_monitor(name: str, **arguments: object) -> Any:  # noqa: ANN401 - as JSON says it
        command = {"execute": f"x-virtbackupd-{name}", "arguments": arguments}
        answer = json.loads(qemuMonitorCommand(running, json.dumps(command), 0))
        if "error" in answer:
            raise Refused(answer["error"]["desc"])
        return answer["return"]

    def through_http(name: str, **arguments: object) -> Any:  # noqa: ANN401 - as JSON says it
        return endpoint.ask(f"/domains/test/control/{name}", arguments)

    return through_monitor if request.param == "monitor" else through_http


def test_a_guest_writes_and_reads(control: Control) -> None:
    assert control("guest-write", disk="vda", offset="1 MiB", data=DATA) == {"written": 8}
    assert control("guest-read", disk="vda", offset=1 << 20, length=8)["data"] == DATA


def test_only_changed_blocks_were_read_and_nothing_was_lost(
    control: Control, running: libvirt.virDomain, short_dir: Path
) -> None:
    uri = unix_uri(short_dir / "nbd")
    server = unix_server(short_dir / "nbd")
    running.backupBegin(pull_xml(server, short_dir), checkpoint_xml("c1", disks=VDA))
    restored = copy_export(uri, short_dir / "restored")
    running.abortJob()
    assert control("compare", disk="vda", path=str(restored))["identical"]
    control("guest-write", disk="vda", offset="8 MiB", length="128k", seed=3)
    found = control("changed-ranges", disk="vda", since="c1")
    assert found["ranges"] == [{"offset": 8 << 20, "length": 2 * CLUSTER}]
    assert not control("compare", disk="vda", path=str(restored))["identical"]

    running.backupBegin(pull_xml(server, short_dir, incremental="c1"), None)
    control("nbd-reads-clear")
    changed = dirty_ranges(uri)
    with restored.open("r+b") as file:
        for offset, length in changed:
            file.seek(offset)
            file.write(nbd_read(uri, offset, length))
    assert control("nbd-reads", disk="vda")["ranges"] == found["ranges"]
    assert control("reads-outside-changes", disk="vda")["bytes"] == 0
    nbd_read(uri, 0, CLUSTER)
    assert control("reads-outside-changes", disk="vda")["bytes"] == CLUSTER
    running.abortJob()
    assert control("compare", disk="vda", path=str(restored))["identical"]


def test_a_command_that_waits(control: Control) -> None:
    assert len(control("checksum", disk="vdb")["sha256"]) == 64


def test_unknown_commands_list_the_known(control: Control) -> None:
    with pytest.raises(Refused, match=r"known are: .*guest-write"):
        control("dance")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({}, "missing required field `disk`"),
        ({"disk": "vda", "offset": 0, "length": 1, "byte": "x"}, r"at `\$\.byte`"),
        ({"disk": "vda", "offset": 0, "colour": 1}, "unknown field `colour`"),
        ({"disk": "vda", "offset": "64 MiB", "length": 1, "byte": 1}, "capacity"),
    ],
)
def test_wrong_arguments(control: Control, arguments: dict[str, Any], complaint: str) -> None:
    with pytest.raises(Refused, match=complaint):
        control("guest-write", **arguments)


def test_every_command_answers_through_both(
    control: Control, endpoint: Endpoint, running: libvirt.virDomain
) -> None:
    listed = json.loads(qemuMonitorCommand(running, '{"execute": "query-commands"}', 0))
    prefix = "x-virtbackupd-"
    names = [entry["name"] for entry in listed["return"] if entry["name"].startswith(prefix)]
    described = [path.rpartition("/")[2] for path in endpoint.ask("/openapi.json")["paths"]]
    assert {name.removeprefix(prefix) for name in names} <= set(described)
    refusals: list[str] = []
    for name in names:
        try:
            control(name.removeprefix(prefix))
        except Refused as refused:
            refusals.append(str(refused))
    control("clock-start")
    assert [text for text in refusals if "bug of its own" in text] == []
    assert 0 < len(refusals) < len(names)


def test_a_line_for_humans(running: libvirt.virDomain) -> None:
    answer = monitor_line(running, "x-virtbackupd guest-zero disk=vda offset=1M length=64k")
    assert json.loads(answer) == {"written": CLUSTER}


def test_a_read_only_client_controls_nothing(
    controlled: Daemon, running: libvirt.virDomain
) -> None:
    command = '{"execute": "x-virtbackupd-clock-stop"}'
    with connected(controlled.read_only_uri, read_only=True) as connection:
        domain = connection.lookupByUUIDString(running.UUIDString())
        assert error_code(lambda: qemuMonitorCommand(domain, command, 0)) == OPERATION_DENIED


def test_what_has_no_domain(endpoint: Endpoint) -> None:
    assert endpoint.ask("/domains")["domains"][0]["name"] == "test"
    assert endpoint.ask("/control/clock", {})["mode"] == "running"


def test_an_endpoint_for_everybody_has_to_be_asked_for(short_dir: Path) -> None:
    done = subprocess.run(
        serve_command(short_dir, ["--control", "0.0.0.0:0"]),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "ask for it with --control-anywhere" in done.stderr
