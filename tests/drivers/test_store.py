"""Files that must survive: each write is whole or not there."""

from pathlib import Path

import pytest

from virtbackupd.drivers import store
from virtbackupd.drivers.errors import SystemFailure


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_a_file_holds_what_was_written(tmp_path: Path) -> None:
    await store.write(tmp_path / "one.xml", "<one/>\n")
    assert (tmp_path / "one.xml").read_text() == "<one/>\n"


async def test_a_write_replaces_all_of_the_old_text(tmp_path: Path) -> None:
    await store.write(tmp_path / "one.xml", "a long text")
    await store.write(tmp_path / "one.xml", "short")
    assert (tmp_path / "one.xml").read_text() == "short"


async def test_a_file_is_for_its_owner_only(tmp_path: Path) -> None:
    await store.write(tmp_path / "one.xml", "secret")
    assert (tmp_path / "one.xml").stat().st_mode & 0o777 == 0o600


async def test_a_missing_folder_is_made(tmp_path: Path) -> None:
    await store.write(tmp_path / "deep" / "one.xml", "text")
    assert (tmp_path / "deep" / "one.xml").exists()
    assert (tmp_path / "deep").stat().st_mode & 0o777 == 0o700


async def test_a_write_leaves_no_second_file(tmp_path: Path) -> None:
    await store.write(tmp_path / "one.xml", "text")
    assert _names(tmp_path) == ["one.xml"]


async def test_a_write_that_fails_keeps_the_old_text(tmp_path: Path) -> None:
    (tmp_path / "one.xml").write_text("old")
    (tmp_path / "one.xml.new").mkdir()
    with pytest.raises(SystemFailure, match=r"one\.xml"):
        await store.write(tmp_path / "one.xml", "new")
    assert (tmp_path / "one.xml").read_text() == "old"


async def test_removing_what_is_not_there_is_no_error(tmp_path: Path) -> None:
    await store.remove(tmp_path / "none.xml")


async def test_a_removed_file_is_gone(tmp_path: Path) -> None:
    await store.write(tmp_path / "one.xml", "text")
    await store.remove(tmp_path / "one.xml")
    assert not (tmp_path / "one.xml").exists()


async def test_a_folder_that_cannot_be_removed_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemFailure, match=str(tmp_path)):
        await store.remove(tmp_path)


async def test_a_file_can_be_renamed(tmp_path: Path) -> None:
    await store.write(tmp_path / "one.xml", "text")
    await store.move(tmp_path / "one.xml", tmp_path / "two.xml")
    assert _names(tmp_path) == ["two.xml"]


async def test_renaming_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemFailure, match="none"):
        await store.move(tmp_path / "none", tmp_path / "two")


def test_files_are_read_in_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b.xml", "a.xml", "c.txt", "d.xml.new"):
        (tmp_path / name).write_text(name)
    assert [file.text for file in store.read_all(tmp_path)] == ["a.xml", "b.xml"]


def test_a_folder_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert list(store.read_all(tmp_path / "none")) == []


def test_a_file_that_cannot_be_read_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_bytes(b"\xff\xfe")
    [found] = store.read_all(tmp_path)
    assert found.text is None
    assert "decode" in found.problem
