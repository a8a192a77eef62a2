"""The file of those who may log in: what it holds, how it changes, and when it is refused."""

import stat
from pathlib import Path

import pytest

from virtbackupd.server.users import (
    ITERATIONS,
    UserFile,
    Users,
    UsersError,
    changing,
    check_name,
    make_credentials,
    read_users,
)

PASSWORD = "a long enough password"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """With one user, whose name is not an easy one."""
    with changing(tmp_path / "users") as users:
        users.known["älice $: b"] = make_credentials(PASSWORD)
    return tmp_path / "users"


def test_users_come_back(path: Path) -> None:
    assert list(read_users(path).known) == ["älice $: b"]
    assert read_users(path).find("älice $: b").iterations == ITERATIONS


def test_file_is_its_owner_s_alone(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_password_is_not_in_the_file(path: Path) -> None:
    assert PASSWORD.encode() not in path.read_bytes()


def test_file_that_others_can_read_is_refused(path: Path) -> None:
    path.chmod(0o640)
    with pytest.raises(UsersError, match="chmod 600"):
        read_users(path)


def test_broken_line_is_named(path: Path) -> None:
    with path.open("a") as file:
        file.write("SCRAM-SHA-256$4096:?$x:y bob\n")
    with pytest.raises(UsersError, match=f"{path}:4 "):
        read_users(path)


def test_change_that_fails_leaves_the_file_as_it_was(path: Path) -> None:
    before = path.read_bytes()

    def change() -> None:
        with changing(path) as users:
            users.known.clear()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        change()
    assert path.read_bytes() == before
    assert [each.name for each in path.parent.iterdir()] == ["users"]


def test_unknown_user_has_always_the_same_salt(path: Path) -> None:
    first, second = (read_users(path).find("nobody") for _ in range(2))
    assert first.salt == second.salt
    assert first.iterations == second.iterations == ITERATIONS


def test_unknown_user_has_no_password_that_fits() -> None:
    users = Users()
    assert users.find("nobody").stored_key != users.find("nobody").stored_key


@pytest.mark.parametrize("name", ["", " a", "a\n", "a" * 256, "\x00"])
def test_nobody_is_called_so(name: str) -> None:
    with pytest.raises(UsersError, match="no name of a user"):
        check_name(name)


def test_forbidden_password_is_refused() -> None:
    with pytest.raises(UsersError, match="take another"):
        make_credentials("with a \x07 bell")


def test_changed_file_is_read_again(path: Path) -> None:
    file = UserFile(path, pytest.fail)
    assert "bob" not in file.current().known
    with changing(path) as users:
        users.known["bob"] = make_credentials(PASSWORD)
    assert "bob" in file.current().known


def test_file_that_is_of_no_use_is_told_of_once_and_knows_nobody(path: Path) -> None:
    told: list[str] = []
    file = UserFile(path, told.append)
    path.chmod(0o644)
    assert [file.current().known, file.current().known] == [{}, {}]
    assert len(told) == 1
