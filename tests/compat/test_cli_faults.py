"""`virtbackupd serve --faults`: rules from a file, refusals in one line, what the log says."""

import subprocess
from pathlib import Path

import libvirt
import pytest
from binding import connected
from daemon_process import running_daemon, serve_command

RULES = """\
[[faults]]
name = "state"
match = { procedure = "virDomainGetState", domain = "test" }
effect = { kind = "error", code = "OPERATION_FAILED", message = "as the file says" }

[[faults]]
name = "never"
match = { nbd = "read" }
effect = { kind = "drop" }
"""


def test_rules_of_a_file_are_in_force(short_dir: Path) -> None:
    path = short_dir / "faults.toml"
    path.write_text(RULES)
    with running_daemon(short_dir, "--faults", str(path)) as daemon:
        with connected(daemon.uri) as connection:
            domain = connection.lookupByName("test")
            with pytest.raises(libvirt.libvirtError, match="as the file says"):
                domain.state()
        daemon.stop()
        assert "the fault never never took effect" in daemon.log
        assert "the fault state" not in daemon.log


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (RULES.replace("virDomainGetState", "virDomainState"), ":3: faults[0].match.procedure: "),
        (RULES.replace("nbd", "mbd"), ":8: faults[1].match.mbd: unknown key"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(short_dir: Path, text: str, complaint: str) -> None:
    path = short_dir / "faults.toml"
    path.write_text(text)
    done = subprocess.run(
        serve_command(short_dir, ("--faults", str(path))),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert f"{path}{complaint}" in done.stderr
    assert "Traceback" not in done.stderr
