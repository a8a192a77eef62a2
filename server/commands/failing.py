"""How a command ends that cannot do what it was asked: one line, and an exit code that is not 0."""

import sys
from typing import NoReturn

import click


def fail(reason: str) -> NoReturn:
    click.echo(f"virtbackupd: {reason}", err=True)
    sys.exit(1)
