"""The quick start that needs a container engine or a CI service, run without either.

In place of the engine stands a script that runs the entry point of the Containerfile.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from binding import wait_until
from image import argument_list, in_place, instructions
from tools import TOOL_DEADLINE, free_port

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "quickstart-container.md").read_text()
BASH = "\n".join(re.findall(r"^```bash\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
STEP = re.compile(r"^ +- name: (.+)\n +run: \|\n((?: {10}.*\n)+)", re.MULTILINE)
PROGRAMS = Path(sys.executable).parent
ENGINE = """#!/bin/sh
case $1 in
build) shift; [ "$*" = "--format docker --file Containerfile --tag virtbackupd ." ] ;;
run) while [ "$1" != virtbackupd ]; do shift; done
    shift
    {entry} "$@" > {root}/log 2>&1 &
    echo $! > {root}/pid ;;
stop) kill "$(cat {root}/pid)" ;;
*) echo "unknown command $1" >&2; exit 125 ;;
esac
"""


def pasted(script: str, folder: Path, **variables: str) -> None:
    """Run a script as a shell does that stops at the first failure."""
    done = subprocess.run(
        ["bash", "-c", f"set -euo pipefail\n{script}"],
        cwd=folder,
        env={**os.environ, "PATH": f"{folder}:{PROGRAMS}:{os.environ['PATH']}", **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TOOL_DEADLINE,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.fixture
def ports() -> dict[str, str]:
    """In place of those of the page, which may be in use here."""
    return {"16509": str(free_port()), "10809": str(free_port())}


def moved(text: str, ports: dict[str, str]) -> str:
    for known, free in ports.items():
        text = text.replace(known, free)
    return text


def test_the_commands_of_the_container_page(short_dir: Path, ports: dict[str, str]) -> None:
    (line,) = instructions("ENTRYPOINT")
    words = in_place(argument_list(moved(line, ports)), PROGRAMS, short_dir)
    engine = short_dir / "podman"
    engine.write_text(ENGINE.format(entry=shlex.join(words), root=short_dir))
    engine.chmod(0o700)
    own = short_dir / "var" / "lib" / "virtbackupd"
    own.mkdir(parents=True)
    socket = own / "libvirt-sock"
    try:
        pasted(moved(BASH, ports), short_dir)
    finally:
        log = short_dir / "log"
        print(log.read_text() if log.exists() else "the daemon was not started")
        if socket.exists():
            subprocess.run([engine, "stop"], check=False)
    wait_until(lambda: not socket.exists(), "the daemon stops")


def test_all_that_the_image_writes_is_on_a_tmpfs_of_the_page() -> None:
    entry = argument_list(instructions("ENTRYPOINT")[0])
    written = {entry[entry.index(option) + 1] for option in ("--socket-dir", "--state-dir")}
    assert written <= set(re.findall(r"--tmpfs (\S+)", BASH))


def test_published_ports_are_those_of_the_image() -> None:
    (exposed,) = instructions("EXPOSE")
    published = re.findall(r"--publish 127\.0\.0\.1:(\d+):(\d+)", BASH)
    assert [inner for _, inner in published] == exposed.split()


def test_the_steps_of_the_workflow(short_dir: Path) -> None:
    """Each in a shell of its own, as on GitHub; the daemon goes on from one to the next."""
    steps = dict(STEP.findall(PAGE))
    assert list(steps) == ["Install", "Start a hypervisor", "Test"]
    temporary = str(short_dir)
    try:
        for name in ("Start a hypervisor", "Test"):
            pasted(steps[name], short_dir, RUNNER_TEMP=temporary)
    finally:
        file = short_dir / "virtbackupd.env"
        if file.exists():
            pasted(". ./virtbackupd.env; kill $VIRTBACKUPD_PID", short_dir)
    wait_until(lambda: not file.exists(), "the daemon stops")


def test_every_step_with_commands_is_known() -> None:
    assert PAGE.count("run: |") == len(STEP.findall(PAGE))
