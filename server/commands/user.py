"""`virtbackupd user`: who may log in by SASL. Passwords are never taken from the command line."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from virtbackupd.server.commands.failing import fail
from virtbackupd.server.users import (
    Users,
    UsersError,
    changing,
    check_name,
    default_path,
    make_credentials,
    read_users,
)

_LONGEST = 1024
_FILE = click.option(
    "--file",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file of users: `sasl_users` of the configuration. Default: /etc/virtbackupd/users,"
    " for others than root virtbackupd/users in $XDG_CONFIG_HOME.",
)


@click.group()
def user() -> None:
    """Keep the file of those who may log in by SASL. Changes hold at once."""


@user.command()
@click.argument("name")
@_FILE
def add(name: str, path: Path | None) -> None:
    """Let NAME log in. The password is asked for, or is the first line of the input."""
    with _changed(path) as users:
        if check_name(name) in users.known:
            raise UsersError(f"there is a user {name!r} already; `passwd` changes the password")
        users.known[name] = make_credentials(_password())


@user.command()
@click.argument("name")
@_FILE
def passwd(name: str, path: Path | None) -> None:
    """Give NAME another password."""
    with _changed(path) as users:
        _known(users, name)
        users.known[name] = make_credentials(_password())


@user.command()
@click.argument("name")
@_FILE
def remove(name: str, path: Path | None) -> None:
    """Let NAME log in no more. Connections that are open stay so."""
    with _changed(path) as users:
        _known(users, name)
        del users.known[name]


@user.command("list")
@_FILE
def list_users(path: Path | None) -> None:
    """Show the names, one on a line."""
    try:
        for name in sorted(read_users(path or default_path()).known):
            click.echo(name)
    except UsersError as error:
        fail(str(error))


@contextmanager
def _changed(path: Path | None) -> Iterator[Users]:
    try:
        with changing(path or default_path()) as users:
            yield users
    except UsersError as error:
        fail(str(error))


def _known(users: Users, name: str) -> None:
    if name not in users.known:
        raise UsersError(f"there is no user {name!r}; `list` shows who there is")


def _password() -> str:
    if sys.stdin.isatty():
        found: str = click.prompt("Password", hide_input=True, confirmation_prompt=True)
        return found
    line = sys.stdin.readline(_LONGEST).rstrip("\r\n")
    if not line:
        raise UsersError("there is no password on the first line of the input")
    return line
