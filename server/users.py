"""The file of those who may log in by SASL: salted keys, from which no password can be read.

One line for each user, `SCRAM-SHA-256$ITERATIONS:SALT$STORED:SERVER NAME`, the last two keys as RFC
5803 names them, all in Base64. A line `pepper KEY` holds what makes up salts for users that there
are not. Knows no connection.
"""

import base64
import binascii
import fcntl
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from hmac import digest
from pathlib import Path
from threading import Lock
from typing import Final, NamedTuple

from virtbackupd.server.private_file import replace_file

MECHANISM: Final = "SCRAM-SHA-256"
ITERATIONS: Final = 65_536
"""Of PBKDF2 by the client at each login: about 50 ms. The same for all, known or not."""
SALT_SIZE: Final = 16
NAME_LIMIT: Final = 255
SIZE_LIMIT: Final = 4_194_304
"""Bytes of the file; some 25,000 users."""
OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO

_LINE: Final = re.compile(
    r"SCRAM-SHA-256\$(?P<iterations>[0-9]{1,7}):(?P<salt>[^$ ]+)"
    r"\$(?P<stored>[^: ]+):(?P<server>[^ ]+) (?P<name>[^\x00-\x1f\x7f]+)"
)
_PEPPER: Final = "pepper "


class UsersError(Exception):
    """The file is of no use; the text names it, the cause and the remedy."""


class Credentials(NamedTuple):
    """What the server's side of SCRAM needs (RFC 5802 section 3)."""

    salt: bytes
    stored_key: bytes
    server_key: bytes
    iterations: int


@dataclass(slots=True)
class Users:
    """What the file holds."""

    known: dict[str, Credentials] = field(default_factory=dict)
    pepper: bytes = field(default_factory=lambda: secrets.token_bytes(32))

    def find(self, name: str) -> Credentials:
        """A user that there is not gets credentials that no password fits, always the same salt."""
        found = self.known.get(name)
        made_up = digest(self.pepper, name.encode(), sha256)[:SALT_SIZE]
        if found is not None:
            return found
        return Credentials(made_up, secrets.token_bytes(32), secrets.token_bytes(32), ITERATIONS)


def default_path() -> Path:
    """Of the user that the daemon runs as."""
    if os.getuid() == 0:
        return Path("/etc/virtbackupd/users")
    config = os.environ.get("XDG_CONFIG_HOME")
    return (Path(config) if config else Path.home() / ".config") / "virtbackupd" / "users"


def make_credentials(password: str) -> Credentials:
    """UsersError when SASLprep (RFC 4013) forbids the password."""
    from scramp import ScramException, ScramMechanism  # noqa: PLC0415 - rarely used

    salt = secrets.token_bytes(SALT_SIZE)
    try:
        found = ScramMechanism(MECHANISM).make_auth_info(password, ITERATIONS, salt)
    except ScramException as error:
        raise UsersError(f"the password cannot be used: {error.args[0]}; take another") from error
    return Credentials(*found)


def check_name(name: str) -> str:
    """UsersError when nobody can be called so."""
    if not (0 < len(name) <= NAME_LIMIT and name.isprintable() and name == name.strip()):
        raise UsersError(
            f"{name!r} is no name of a user: 1 to {NAME_LIMIT} printable characters are allowed"
        )
    return name


# The file


def read_users(path: Path) -> Users:
    """UsersError when it is not there, not ours alone, or not understood."""
    try:
        with path.open("rb") as file:
            _check(path, os.fstat(file.fileno()))
            text = file.read(SIZE_LIMIT).decode()
    except OSError as error:
        raise UsersError(
            f"cannot read {path}: {error.strerror}; `virtbackupd user add` makes it"
        ) from error
    except UnicodeDecodeError as error:
        raise UsersError(f"{path} is not UTF-8 text (byte {error.start})") from error
    return _parse(path, text)


def _check(path: Path, found: os.stat_result) -> None:
    if found.st_mode & OTHERS:
        raise UsersError(f"{path} can be used by others than its owner: chmod 600 {path}")
    if found.st_size > SIZE_LIMIT:
        raise UsersError(f"{path} has more than {SIZE_LIMIT} bytes: there are too many users")


def _parse(path: Path, text: str) -> Users:
    users = Users()
    for number, line in enumerate(text.splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        try:
            if line.startswith(_PEPPER):
                users.pepper = _decode(line.removeprefix(_PEPPER))
            else:
                users.known.update([_user(line)])
        except (ValueError, binascii.Error) as error:
            raise UsersError(
                f"{path}:{number} is no line of a user: {error}; remove it and add the user anew"
            ) from error
    return users


def _user(line: str) -> tuple[str, Credentials]:
    found = _LINE.fullmatch(line)
    if found is None:
        raise ValueError(f"it is not {MECHANISM}$ITERATIONS:SALT$STORED:SERVER NAME")
    salt, stored, server = (_decode(found[key]) for key in ("salt", "stored", "server"))
    return found["name"], Credentials(salt, stored, server, int(found["iterations"]))


def _decode(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _format(users: Users) -> str:
    lines = [
        "# Who may log in by SASL. `virtbackupd user` changes it; changes hold at once.",
        f"{_PEPPER}{_encode(users.pepper)}",
        *(_format_user(name, found) for name, found in sorted(users.known.items())),
    ]
    return "\n".join(lines) + "\n"


def _format_user(name: str, found: Credentials) -> str:
    keys = f"{_encode(found.stored_key)}:{_encode(found.server_key)}"
    return f"{MECHANISM}${found.iterations}:{_encode(found.salt)}${keys} {name}"


@contextmanager
def changing(path: Path) -> Iterator[Users]:
    """Change the users within the block: written at its end, all or nothing, one at a time.

    A file that is not there yet is made. UsersError when that cannot be.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(path.parent):
            users = read_users(path) if path.exists() else Users()
            yield users
            replace_file(path, _format(users))
    except OSError as error:
        raise UsersError(f"cannot change {path}: {error.strerror}") from error


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


class UserFile:
    """The users as the file has them now; it is read again when it has changed. May block."""

    def __init__(self, path: Path, warn: Callable[[str], None]) -> None:
        """`warn` is told, once, of a file that is of no use: then nobody is known."""
        self._path = path
        self._warn = warn
        self._users = Users()
        self._stamp: object = None
        self._lock = Lock()

    def current(self) -> Users:
        """From any thread."""
        with self._lock:
            stamp = self._look()
            if stamp != self._stamp:
                self._stamp = stamp
                self._users = self._read()
            return self._users

    def _look(self) -> object:
        try:
            found = self._path.stat()
        except OSError as error:
            return error.errno
        return found.st_ino, found.st_mtime_ns, found.st_size, found.st_mode

    def _read(self) -> Users:
        try:
            return read_users(self._path)
        except UsersError as error:
            self._warn(str(error))
            return Users(pepper=self._users.pepper)
