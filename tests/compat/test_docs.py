"""Every command in the documentation is run, page by page, as a reader would paste it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from daemon_process import Daemon
from tools import TOOL_DEADLINE, free_port

from virtbackupd.drivers.faults.rule_file import FaultFile
from virtbackupd.drivers.memory.world import load_world

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LANGUAGES = {"sh", "console", "toml", "xml", "python", "bash", "yaml"}
"""What a fenced block may be; only `sh` is pasted. Blocks without a language show output.

What needs a container engine or a CI service, `bash` and `yaml`, is run in test_quickstarts.py.
"""


def blocks(page: Path, language: str) -> list[str]:
    return [text for found, text in BLOCK.findall(page.read_text()) if found == language]


PAGES_WITH_COMMANDS = [page for page in PAGES if blocks(page, "sh")]


@pytest.mark.parametrize("page", PAGES_WITH_COMMANDS, ids=lambda page: page.stem)
def test_commands_of_a_page_work(page: Path, daemon: Daemon, short_dir: Path) -> None:
    script = "set -euo pipefail\n" + "\n".join(blocks(page, "sh"))
    # The port that pages name is the usual one of NBD and may be in use here.
    script = script.replace("10809", str(free_port()))
    folder = short_dir / "cwd"
    folder.mkdir()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env={**os.environ, "PATH": path, "LIBVIRT_DEFAULT_URI": daemon.uri},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TOOL_DEADLINE,
        check=False,
    )
    assert done.returncode == 0, done.stdout


TWO_DISKS = """\
[[domains]]
name = "two"
[[domains.disks]]
target = "vda"
[[domains.disks]]
target = "vdb"
"""


@pytest.mark.parametrize("text", blocks(ROOT / "docs" / "world.md", "toml"), ids=len)
def test_worlds_of_the_page_load(text: str, short_dir: Path) -> None:
    world = short_dir / "world.toml"
    within_a_domain = text.startswith("[[domains.")
    world.write_text(TWO_DISKS + text if within_a_domain else text)
    assert load_world(world, short_dir / "images").domains


@pytest.mark.parametrize("text", blocks(ROOT / "docs" / "faults.md", "toml"), ids=len)
def test_fault_rules_of_the_page_load(text: str) -> None:
    assert FaultFile("faults.toml", text).rules()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_block_escapes_the_test(page: Path) -> None:
    assert {language for language, _ in BLOCK.findall(page.read_text())} <= LANGUAGES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_console_blocks_only_name_make_targets() -> None:
    commands = [
        line.split("#")[0].split()
        for page in PAGES
        for block in blocks(page, "console")
        for line in block.splitlines()
    ]
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert [words for words in commands if words[0] != "make" or words[1] not in targets] == []
