"""Files that only their owner reads are replaced whole or not at all."""

from pathlib import Path

import pytest

from virtbackupd.server.private_file import replace_file


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    replace_file(path, "text")
    assert path.read_text() == "text"
    assert path.stat().st_mode & 0o777 == 0o600


def test_text_that_cannot_be_written_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        replace_file(path, "\ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_place_that_cannot_be_taken_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(IsADirectoryError):
        replace_file(folder, "text")
    assert list(tmp_path.iterdir()) == [folder]
