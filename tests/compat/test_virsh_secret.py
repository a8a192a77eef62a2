"""virsh secret-*: definition, value, list filters, refusals and events."""

import re
import select
import subprocess
from collections.abc import Callable

import pytest
from daemon_process import Daemon
from virsh_guest import run_virsh

DRIVERS = ("memory", "qemu")

Virsh = Callable[..., str]
VALUE = "aGVsbG8="


@pytest.fixture
def define(daemon: Daemon) -> Callable[[str, str], str]:
    """Defines a secret for a volume path and returns its UUID."""

    def call(attributes: str = "ephemeral='no' private='no'", volume: str = "/x/y") -> str:
        usage = f"<usage type='volume'><volume>{volume}</volume></usage>"
        path = daemon.root / "secret.xml"
        path.write_text(f"<secret {attributes}><description>d1</description>{usage}</secret>")
        answer = run_virsh(daemon.uri, "secret-define", str(path))
        found = re.fullmatch(r"Secret (\S+) created", answer)
        assert found, answer
        return found[1]

    return call


Define = Callable[..., str]


def test_defined_secret_is_listed_with_its_usage(virsh: Virsh, define: Define) -> None:
    uuid = define()
    assert virsh("secret-list").splitlines()[2].split() == [uuid, "volume", "/x/y"]


def test_document_comes_back(virsh: Virsh, define: Define) -> None:
    uuid = define()
    assert virsh("secret-dumpxml", uuid).splitlines() == [
        "<secret ephemeral='no' private='no'>",
        f"  <uuid>{uuid}</uuid>",
        "  <description>d1</description>",
        "  <usage type='volume'>",
        "    <volume>/x/y</volume>",
        "  </usage>",
        "</secret>",
    ]


def test_value_is_absent_at_first(virsh: Virsh, define: Define) -> None:
    assert "error: Secret not found: " in virsh("secret-get-value", define(), status=1)


def test_value_comes_back(virsh: Virsh, define: Define) -> None:
    uuid = define()
    virsh("secret-set-value", uuid, "--base64", VALUE)
    assert virsh("secret-get-value", uuid) == VALUE
    assert virsh("secret-get-value", uuid, "--plain") == "hello"


def test_value_from_a_file(virsh: Virsh, define: Define, daemon: Daemon) -> None:
    uuid = define()
    (daemon.root / "value").write_bytes(b"\0binary\xff")
    virsh("secret-set-value", uuid, "--file", str(daemon.root / "value"), "--plain")
    assert virsh("secret-get-value", uuid) == "AGJpbmFyef8="


def test_private_value_is_never_told(virsh: Virsh, define: Define) -> None:
    uuid = define("private='yes'")
    virsh("secret-set-value", uuid, "--base64", VALUE)
    assert "error: Invalid secret: " in virsh("secret-get-value", uuid, status=1)


def test_undefine(virsh: Virsh, define: Define) -> None:
    uuid = define()
    assert virsh("secret-undefine", uuid) == f"Secret {uuid} deleted"
    assert "error: Secret not found: " in virsh("secret-undefine", uuid, status=1)


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("--ephemeral", {"/e"}),
        ("--no-ephemeral", {"/p", "/n"}),
        ("--private", {"/p"}),
        ("--no-private", {"/e", "/n"}),
    ],
)
def test_list_filters(virsh: Virsh, define: Define, option: str, expected: set[str]) -> None:
    define("ephemeral='yes'", "/e")
    define("private='yes'", "/p")
    define("ephemeral='no'", "/n")
    rows = virsh("secret-list", option).splitlines()[2:]
    assert {row.split()[2] for row in rows} == expected


def test_usage_is_unique(virsh: Virsh, define: Define, daemon: Daemon) -> None:
    uuid = define()
    path = str(daemon.root / "secret.xml")
    answer = virsh("secret-define", path, status=1)
    assert "error: " in answer
    assert uuid in answer


def test_events(virsh: Virsh, define: Define, daemon: Daemon) -> None:
    words = ["secret-event", "--event", "lifecycle", "--loop", "--timeout", "120"]
    command = ["virsh", "-c", daemon.uri, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as listener:
        assert listener.stdout is not None
        # Registration shows only in an event: secrets come and go until one is told of.
        while not select.select([listener.stdout], [], [], 0.1)[0]:
            virsh("secret-undefine", define())
        first = listener.stdout.readline()
        listener.kill()
    assert re.match(r"event 'lifecycle' for secret (\S+): (Defined|Undefined)", first)


def test_values_are_refused_read_only(daemon: Daemon, define: Define) -> None:
    answer = run_virsh(daemon.read_only_uri, "secret-get-value", define(), status=1)
    assert "operation forbidden" in answer
