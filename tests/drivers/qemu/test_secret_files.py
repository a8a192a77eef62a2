"""Secrets of the QEMU driver are on disk, and QEMU gets their values."""

from pathlib import Path
from uuid import UUID

from virtbackupd.drivers.events import EventBus
from virtbackupd.drivers.qemu.secret_files import SecretFiles

SECRET = UUID("0a81f5b2-8403-7b23-c8d6-21ccc2f80d6f")
XML = f"<secret ephemeral='no' private='yes'><uuid>{SECRET}</uuid></secret>"


def reopened(folder: Path) -> SecretFiles:
    files = SecretFiles(folder, EventBus())
    files.load()
    return files


def modes(folder: Path) -> list[int]:
    return [path.stat().st_mode & 0o777 for path in folder.iterdir()]


async def test_definition_and_value_are_kept(tmp_path: Path) -> None:
    files = reopened(tmp_path)
    await files.define_xml(XML, 0)
    await files.set_value(SECRET.bytes, b"\0open\xff", 0)
    assert reopened(tmp_path).store.require_value(SECRET.bytes) == b"\0open\xff"


async def test_values_are_private(tmp_path: Path) -> None:
    files = reopened(tmp_path)
    await files.define_xml(XML, 0)
    await files.set_value(SECRET.bytes, b"x", 0)
    assert modes(tmp_path) == [0o600, 0o600]


async def test_ephemeral_secrets_leave_no_trace(tmp_path: Path) -> None:
    files = reopened(tmp_path)
    await files.define_xml(XML.replace("'no'", "'yes'"), 0)
    await files.set_value(SECRET.bytes, b"x", 0)
    assert modes(tmp_path) == []


async def test_an_undefined_secret_is_gone(tmp_path: Path) -> None:
    files = reopened(tmp_path)
    await files.define_xml(XML, 0)
    await files.undefine(SECRET.bytes)
    assert reopened(tmp_path).store.list_all_secrets(0) == []


async def test_a_damaged_value_is_passed_over(tmp_path: Path) -> None:
    files = reopened(tmp_path)
    await files.define_xml(XML, 0)
    (tmp_path / f"{SECRET}.base64").write_text("?")
    assert reopened(tmp_path).store.list_all_secrets(0) == []
