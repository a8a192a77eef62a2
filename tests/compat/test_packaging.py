"""The wheel, alone with what it declares to need, and the image that is made of it.

No container engine is needed: the image's instructions are read, and its commands are run in a
virtual environment of their own, as a user with no rights.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import distribution
from pathlib import Path
from venv import EnvBuilder

import pytest
from binding import connected, wait_until
from image import all_instructions, argument_list, in_place, instructions
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tools import TOOL_DEADLINE, free_port, nbd_read, run

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("protocol", "server", "drivers", "testing")
SOURCES = ("LICENSE", "README.md", "pyproject.toml", "remote_protocol.x")
TCP_URI = "VIRTBACKUPD_TCP_URI"
NOBODY = 65532
SETPRIV = ("setpriv", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all")


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Which everybody may read, with a path that is short enough for Unix sockets."""
    path = Path(tempfile.mkdtemp(prefix="vb-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def wheel(folder: Path) -> Path:
    """Built from a copy of the sources, so that nothing of an earlier build gets in."""
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        shutil.copy(ROOT / name, source)
    for name in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignored)
    offline = ("--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check")
    run(sys.executable, "-m", "pip", "wheel", *offline, "--wheel-dir", folder / "dist", source)
    (built,) = (folder / "dist").iterdir()
    return built


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def text(wheel: Path, ending: str) -> str:
    (name,) = (name for name in names(wheel) if name.endswith(ending))
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(name).decode()


def declared(name: str, seen: dict[str, None]) -> None:
    """Add a distribution and all that it asks for."""
    if name in seen:
        return
    seen[name] = None
    for line in distribution(name).requires or ():
        wanted = Requirement(line)
        if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
            declared(canonicalize_name(wanted.name), seen)


def copy_distribution(name: str, target: Path) -> None:
    found = distribution(name)
    for file in found.files or ():
        place = target / file
        if ".." not in file.parts and "__pycache__" not in file.parts:
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(str(found.locate_file(file)), place)


@pytest.fixture(scope="module")
def installed(wheel: Path, folder: Path) -> Path:
    """A virtual environment with the wheel and what it declares, and nothing else."""
    place = folder / "opt" / "virtbackupd"
    EnvBuilder(symlinks=True).create(place)
    run(
        sys.executable, "-m", "pip", "--python", place / "bin" / "python", "install",
        "--no-deps", "--no-index", "--disable-pip-version-check", "--root-user-action=ignore",
        wheel,
    )  # fmt: skip
    (site,) = place.glob("lib/python*/site-packages")
    needed: dict[str, None] = {}
    declared("virtbackupd", needed)
    for name in needed:
        if name != "virtbackupd":
            copy_distribution(name, site)
    return place


def test_the_wheel_is_for_every_machine(wheel: Path) -> None:
    assert wheel.name.endswith("-py3-none-any.whl")
    assert [name for name in names(wheel) if name.endswith((".so", ".pyc", ".pyd"))] == []
    assert "Root-Is-Purelib: true" in text(wheel, "/WHEEL")


def test_the_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    files = {
        f"virtbackupd/{path.relative_to(ROOT)}"
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert files - names(wheel) == set()


def test_the_wheel_holds_nothing_else(wheel: Path) -> None:
    inside = "|".join(PACKAGES)
    strange = [
        name
        for name in names(wheel)
        if not re.match(rf"virtbackupd/({inside})/|virtbackupd-[\d.]+\.dist-info/", name)
    ]
    assert strange == []


def test_the_protocol_is_in_the_wheel_as_text(wheel: Path) -> None:
    description = (ROOT / "remote_protocol.x").read_text()
    assert text(wheel, "protocol/remote_protocol.x") == description


def test_the_wheel_tells_its_licence_and_describes_itself(wheel: Path) -> None:
    metadata = text(wheel, "/METADATA")
    assert "License-Expression: LGPL-2.1-or-later" in metadata
    assert (ROOT / "README.md").read_text() in metadata
    assert text(wheel, "/licenses/LICENSE") == (ROOT / "LICENSE").read_text()


def test_a_source_archive_holds_the_protocol_as_text(wheel: Path, folder: Path) -> None:
    script = f"from setuptools import build_meta; build_meta.build_sdist({str(folder / 'sdist')!r})"
    subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder / "source",
        check=True,
        capture_output=True,
        timeout=TOOL_DEADLINE,
    )
    (archive,) = (folder / "sdist").iterdir()
    with tarfile.open(archive) as opened:
        (name,) = (n for n in opened.getnames() if n.endswith("/protocol/remote_protocol.x"))
        content = opened.extractfile(name)
        assert opened.getmember(name).isfile()
        assert content is not None
        assert content.read().decode() == (ROOT / "remote_protocol.x").read_text()


def test_the_installed_program_runs_from_the_wheel(installed: Path) -> None:
    program = "import virtbackupd.server as found; print(found.__file__)"
    place = run(installed / "bin" / "python", "-I", "-c", program)
    assert Path(place).is_relative_to(installed)
    version = distribution("virtbackupd").version
    assert version in run(installed / "bin" / "virtbackupd", "--version")


def test_every_module_is_there_with_what_it_imports(installed: Path) -> None:
    """But for the pytest plugin, whose users have pytest."""
    program = """
import importlib, pkgutil, virtbackupd
for found in pkgutil.walk_packages(virtbackupd.__path__, "virtbackupd."):
    if not found.name.endswith(("pytest_plugin", "__main__")):
        importlib.import_module(found.name)
"""
    run(installed / "bin" / "python", "-I", "-W", "error", "-c", program)


# The image


def test_the_image_knows_only_instructions_of_all_builders() -> None:
    used = {name for name, _ in all_instructions()}
    known = {
        "FROM", "COPY", "RUN", "ENV", "USER", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT",
        "CMD",
    }  # fmt: skip
    assert used <= known


def test_the_image_runs_as_nobody_in_particular() -> None:
    (user,) = instructions("USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)


def test_what_the_image_copies_is_in_the_repository_and_not_ignored() -> None:
    copied = [
        word
        for line in instructions("COPY")
        if not line.startswith("--from")
        for word in line.split()[:-1]
    ]
    assert [name for name in copied if not (ROOT / name).exists()] == []
    allowed = (ROOT / ".dockerignore").read_text().splitlines()
    assert {f"!{name}" for name in copied} <= set(allowed)
    assert set(copied) == {*SOURCES, *PACKAGES}


def own_folder() -> str:
    """The one that the image's last command makes."""
    return shlex.split(instructions("RUN")[-1])[-1]


def test_all_that_the_image_writes_is_in_one_folder_that_any_user_may_write_to() -> None:
    """An engine may mount a tmpfs there that belongs to root and takes over the folder's mode."""
    words = shlex.split(instructions("RUN")[-1])
    assert words[words.index("-m") + 1] == "1777"
    entry = argument_list(instructions("ENTRYPOINT")[0])
    written = {entry[entry.index(option) + 1] for option in ("--socket-dir", "--state-dir")}
    assert written == {own_folder()}
    assert not own_folder().startswith("/run/")


def others_reach(path: Path) -> bool:
    return all(folder.stat().st_mode & 0o001 for folder in path.resolve().parents)


def as_nobody(words: Sequence[str]) -> list[str]:
    """With no capability; and, if root's interpreter is for all, as the image's user."""
    if os.geteuid() != 0:
        return list(words)
    user = (f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    return [*SETPRIV, *(user if others_reach(Path(sys.executable)) else ()), *words]


@contextmanager
def container(installed: Path, root: Path, *options: str) -> Iterator[str]:
    """The image's entry point, running; gives the URI that reaches it over TCP."""
    (line,) = instructions("ENTRYPOINT")
    place = own_folder()
    (root / place[1:]).mkdir(parents=True)
    (root / place[1:]).chmod(0o1777)
    words = in_place(argument_list(line), installed / "bin", root)
    words[words.index("0.0.0.0:16509")] = "0.0.0.0:0"
    told = root / place[1:] / "env"
    environment = {"HOME": str(root), "PATH": "/usr/bin:/bin"}
    command = as_nobody([*words, "--env-file", str(told), *options])
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
    with process:
        try:
            wait_until(told.exists, "the daemon is ready")
            yield dict(line.split("=", 1) for line in told.read_text().splitlines())[TCP_URI]
        finally:
            process.terminate()
        assert process.wait(60) == 0


@pytest.fixture
def root(installed: Path) -> Iterator[Path]:
    """In place of the image's root."""
    path = Path(tempfile.mkdtemp(prefix="vb-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def test_the_entry_point_serves_over_tcp_and_is_healthy(installed: Path, root: Path) -> None:
    (check,) = instructions("HEALTHCHECK")
    with container(installed, root) as uri:
        with connected(uri) as connection:
            assert connection.lookupByName("test").isActive()
        healthy = in_place(argument_list(check), installed / "bin", root)
        assert run(*as_nobody(healthy)).strip() == "[]"
    assert run(*as_nobody(healthy), status=1) == ""


def test_a_backup_is_served_under_the_advertised_name(installed: Path, root: Path) -> None:
    with container(installed, root, "--advertise", "localhost") as uri:
        port = free_port()
        with connected(uri) as connection:
            domain = connection.lookupByName("test")
            server = f"<server name='0.0.0.0' port='{port}'/>"
            domain.backupBegin(f"<domainbackup mode='pull'>{server}</domainbackup>", None)
            assert f"name='localhost' port='{port}'" in domain.backupGetXMLDesc()
            assert len(nbd_read(f"nbd://localhost:{port}/vda", 0, 512)) == 512
            domain.abortJob()
