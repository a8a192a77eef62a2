"""`virtbackupd config`: look at a configuration file, and at what holds in the end.

Knows no socket and no driver.
"""

import json
import textwrap
from collections.abc import Iterable
from pathlib import Path

import click

from virtbackupd.server.commands.failing import fail
from virtbackupd.server.commands.settings_options import gathered, takes_settings
from virtbackupd.server.config import ConfigError
from virtbackupd.server.keys import Key
from virtbackupd.server.settings_file import OPTION, Loaded, keys, load_settings

_WIDTH = 78
_EVERYBODY = ["*"]
"""Means what no list means."""
_HIDDEN = '"(hidden)"'


@click.group()
def config() -> None:
    """Check a configuration file, or show what holds."""


@config.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def check(file: Path) -> None:
    """Tell what is wrong with FILE; the exit status is 1 when the daemon would not take it.

    Whether addresses are free, and what drivers make of their tables, is only seen at the start;
    certificates are looked at by `virtbackupd pki check`.
    """
    from virtbackupd.server.startup import StartError, examine  # noqa: PLC0415 - not for `show`

    try:
        loaded = load_settings(file)
        examine(loaded.settings)
    except (ConfigError, StartError) as error:
        fail(str(error))
    for line in (*loaded.warnings, *loaded.remarks):
        click.echo(line)
    click.echo(f"{file}: {len(loaded.sources)} keys, {len(loaded.warnings)} unknown")


@config.command()
@takes_settings
def show(**given: object) -> None:
    """Show every key with its value and where that comes from; takes the options of `serve`."""
    try:
        loaded = gathered(given)
    except ConfigError as error:
        fail(str(error))
    for warning in loaded.warnings:
        click.echo(warning, err=True)
    click.echo("\n".join(shown(loaded)))


@config.command()
def template() -> None:
    """Print a configuration file with every key, all commented out."""
    click.echo(template_text(), nl=False)


def shown(loaded: Loaded) -> list[str]:
    """A line of TOML for each key, and its source as a comment."""
    values = [(key, getattr(loaded.settings, key.name)) for key in keys()]
    return [
        f"{_entry(key, value):<50} # {_source(key, loaded.sources.get(key.name, 'default'))}"
        for key, value in values
    ]


def template_text() -> str:
    """All keys with their defaults, by group, each below what it is about."""
    lines = [
        "# Settings of virtbackupd. Names and syntax are those of libvirtd.conf; every key is",
        "# shown with its default.",
    ]
    group = ""
    for key in sorted(keys(), key=lambda key: _groups().index(key.about.group)):
        if key.about.group != group:
            group = key.about.group
            lines += ["", f"### {group}"]
        default = _EVERYBODY if key.default is None else key.default
        lines += ["", *_comment(key), f"#{_entry(key, default)}"]
    return "\n".join(lines) + "\n"


def _groups() -> list[str]:
    """In the order in which they first occur."""
    return list(dict.fromkeys(key.about.group for key in keys()))


def _comment(key: Key) -> Iterable[str]:
    about = key.about
    text = about.text + (f" No effect: {about.no_effect}." if about.no_effect else "")
    return textwrap.wrap(text, _WIDTH, initial_indent="# ", subsequent_indent="# ")


def _entry(key: Key, value: object) -> str:
    if key.about.secret and value:
        return f"{key.name} = {_HIDDEN}"
    return f"# {key.name} is not set" if value is None else f"{key.name} = {_toml(value)}"


def _toml(value: object) -> str:
    """libvirt's own parser knows neither true nor false."""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(k)} = {_toml(v)}" for k, v in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)


def _source(key: Key, source: str) -> str:
    if source != OPTION:
        return source
    return key.about.option or f"--{key.name.replace('_', '-')}"
