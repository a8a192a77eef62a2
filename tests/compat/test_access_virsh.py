"""Stock virsh under access rules, on the real socket of a real daemon."""

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from binding import wait_until
from daemon_process import Daemon, running_daemon, serve_command
from tools import TOOL_DEADLINE, run

WORLD = """
[[domains]]
name = "web"
[[domains.disks]]
target = "vda"
size = "1 MiB"

[[domains]]
name = "db"
"""
RULES = """
trust_owner = false
[[rules]]
who = { user = "root" }
may = ["read", "checkpoint"]
on = { name = "web" }
"""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    root = tmp_path_factory.mktemp("access")
    (root / "world.toml").write_text(WORLD)
    (root / "rules.toml").write_text(RULES)
    options = ("--world", f"{root}/world.toml", "--access-rules", f"{root}/rules.toml")
    with running_daemon(root, *options) as started:
        yield started


def virsh(daemon: Daemon, *words: str) -> str:
    return run("virsh", "-c", daemon.uri, *words)


def outcome(daemon: Daemon, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["virsh", "-c", daemon.uri, *words],
        capture_output=True,
        text=True,
        timeout=TOOL_DEADLINE,
        check=False,
    )


def refusal(daemon: Daemon, *words: str) -> str:
    done = outcome(daemon, *words)
    assert done.returncode != 0, done.stdout
    return done.stderr


def test_only_what_may_be_seen_is_listed(daemon: Daemon) -> None:
    assert virsh(daemon, "list", "--all", "--name").split() == ["web"]


def test_only_what_may_be_read_has_statistics(daemon: Daemon) -> None:
    assert "'db'" not in virsh(daemon, "domstats", "--state")


def test_a_hidden_domain_is_not_found(daemon: Daemon) -> None:
    hidden, absent = (refusal(daemon, "dominfo", name) for name in ("db", "no"))
    assert "failed to get domain" in hidden
    assert hidden.replace("'db'", "'no'") == absent


def test_what_is_granted_works(daemon: Daemon) -> None:
    assert "created" in virsh(daemon, "checkpoint-create-as", "web", "c1")


@pytest.mark.parametrize(
    ("words", "missing"),
    [
        (("suspend", "web"), "domain:suspend"),
        (("dumpxml", "web", "--security-info"), "domain:read-secure"),
        (("backup-begin", "web"), "domain:block-write"),
    ],
)
def test_what_is_not_granted_is_named(daemon: Daemon, words: list[str], missing: str) -> None:
    assert f"access denied: '{missing}'" in refusal(daemon, *words)


def test_a_refusal_is_in_the_audit_log(daemon: Daemon) -> None:
    refusal(daemon, "reset", "web")
    line = "action=call procedure=DOMAIN_RESET missing=domain:reset domain=web "
    wait_until(lambda: line in daemon.log, "the line")


def test_rules_are_read_again(tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("again")
    rules = root / "rules.toml"
    rules.write_text("trust_owner = false\n")
    with running_daemon(root, "--access-rules", str(rules)) as started:
        refusal(started, "list")
        rules.write_text("trust_owner = false\n[[rules]]\nmay = ['read']\n")
        started.process.send_signal(signal.SIGHUP)
        wait_until(lambda: outcome(started, "list").returncode == 0, "the new rules hold")
        assert virsh(started, "list", "--name").split() == ["test"]


def test_rules_that_are_wrong_keep_the_daemon_from_starting(tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rules]]\nmay = ["raed"]\n')
    done = subprocess.run(
        serve_command(tmp_path, ("--access-rules", str(rules))),
        capture_output=True,
        text=True,
        timeout=TOOL_DEADLINE,
        check=False,
    )
    assert done.returncode == 1
    assert f"{rules}:2: rules[0].may: there is no permission 'raed'" in done.stderr
