"""`virtbackupd record`: what a libvirt server shows becomes a world file."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import cast

import click

from virtbackupd.server.commands.asking import ask
from virtbackupd.server.commands.failing import fail
from virtbackupd.server.private_file import replace_file
from virtbackupd.server.recording import Recording, record_server
from virtbackupd.server.remote import connected
from virtbackupd.server.remote_host import find_domain, list_domains
from virtbackupd.server.world_text import Contents, world_text

MAX_TEXT = 16 * 1024 * 1024
"""The longest world file that is loaded."""


@click.command()
@click.option("--from", "uri", required=True, metavar="URI", help="Which server to ask, e.g. "
              "qemu:///system or qemu+tcp://HOST/system.")  # fmt: skip
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write. Default: standard output.",
)
@click.option(
    "--contents",
    type=click.Choice(("pattern", "blank")),
    default="pattern",
    show_default=True,
    help="What stands on the disks of the world: a pattern as large as what is allocated, or "
    "nothing. Contents are never read.",
)
@click.option(
    "--monitor",
    is_flag=True,
    help="Ask the monitors of running domains which bitmaps are missing or inconsistent. libvirtd "
    "marks a domain whose monitor was used as tainted.",
)
@click.option("-r", "--readonly", is_flag=True, help="Connect read-only.")
@click.argument("domains", metavar="[DOMAIN]...", nargs=-1)
def record(
    uri: str,
    output: Path | None,
    contents: str,
    monitor: bool,
    readonly: bool,
    domains: tuple[str, ...],
) -> None:
    """Write what a libvirt server shows into a world file.

    Definitions, states, checkpoints, secrets without their values, and capabilities of all domains,
    or of each DOMAIN that is named, for `virtbackupd serve --world`.
    """
    recording = ask(partial(_read, uri, domains, monitor=monitor, read_only=readonly))
    text = world_text(recording, uri, cast("Contents", contents))
    if len(text.encode()) > MAX_TEXT:
        fail(f"the world would be larger than {MAX_TEXT} bytes: name the domains that matter")
    if output is None:
        click.echo(text, nl=False)
    else:
        _write(output, text)
    for note in recording.notes:
        click.echo(f"virtbackupd: {note}", err=True)


async def _read(uri: str, names: Sequence[str], *, monitor: bool, read_only: bool) -> Recording:
    async with connected(uri, read_only=read_only) as remote:
        found = [await find_domain(remote, name) for name in dict.fromkeys(names)]
        return await record_server(remote, found or await list_domains(remote), monitor=monitor)


def _write(path: Path, text: str) -> None:
    """Readable by its owner only, as definitions tell much of a site."""
    try:
        replace_file(path, text)
    except OSError as error:
        fail(f"cannot write {path}: {error.strerror}")
