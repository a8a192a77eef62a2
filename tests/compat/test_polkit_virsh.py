"""Stock virsh on a Unix socket whose clients polkit has to agree to, as a user who is not root."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon_process import Daemon, running_daemon
from polkit_authority import PolkitAuthority, Verdict, authority
from virsh_guest import run_virsh

MANAGE = "org.libvirt.unix.manage"
MONITOR = "org.libvirt.unix.monitor"
NOBODY = 65_534
OPEN = 0o755


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    """A folder that other users may pass through."""
    path = Path(tempfile.mkdtemp(prefix="polkit-"))
    path.chmod(OPEN)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def judge(root: Path) -> Iterator[PolkitAuthority]:
    with authority(root) as made:
        yield made


@pytest.fixture(scope="module")
def daemon(root: Path, judge: PolkitAuthority) -> Iterator[Daemon]:
    config = root / "virtbackupd.conf"
    config.write_text(
        'auth_unix_rw = "polkit"\nauth_unix_ro = "polkit"\n'
        'unix_sock_rw_perms = "0777"\nunix_sock_ro_perms = "0777"\n'
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DBUS_SYSTEM_BUS_ADDRESS", judge.address)
        with running_daemon(root, "--config", str(config)) as running:
            yield running


def virsh(uri: str, *arguments: str, status: int = 0) -> str:
    """As somebody who is not root, which polkit is not asked about."""
    become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    prefix = become if os.getuid() == 0 else []
    return run_virsh(uri, *arguments, status=status, prefix=prefix)


def test_granted_user_comes_in(daemon: Daemon, judge: PolkitAuthority) -> None:
    judge.verdicts[MANAGE] = Verdict(authorized=True)
    assert virsh(daemon.uri, "list", "--name") == "test"
    assert judge.questions[-1].subject[1]["uid"] == (
        "i",
        NOBODY if os.getuid() == 0 else os.getuid(),
    )


def test_refused_user_stays_out(daemon: Daemon, judge: PolkitAuthority) -> None:
    judge.verdicts[MANAGE] = Verdict(authorized=False)
    assert "authentication failed" in virsh(daemon.uri, "list", status=1)


def test_read_only_socket_asks_for_the_lesser_action(
    daemon: Daemon, judge: PolkitAuthority
) -> None:
    judge.verdicts |= {MANAGE: Verdict(authorized=False), MONITOR: Verdict(authorized=True)}
    assert virsh(daemon.read_only_uri, "-r", "list", "--name") == "test"


def test_virsh_is_told_that_an_agent_would_help(daemon: Daemon, judge: PolkitAuthority) -> None:
    judge.verdicts[MANAGE] = Verdict(authorized=False, challenge=True)
    told = virsh(daemon.uri, "list", status=1)
    assert f"no polkit agent available to authenticate action '{MANAGE}'" in told


def test_root_is_not_asked_about(daemon: Daemon, judge: PolkitAuthority) -> None:
    judge.verdicts[MANAGE] = Verdict(authorized=os.getuid() != 0)
    assert run_virsh(daemon.uri, "list", "--name") == "test"
