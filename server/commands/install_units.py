"""`virtbackupd install-units`: what systemd needs to run the daemon, written below a folder.

Starts nothing and asks systemd nothing; a configuration that is there already stays.
"""

import sys
from importlib.resources import files
from pathlib import Path

import click

from virtbackupd.server.commands.failing import fail

UNITS = Path("usr/lib/systemd/system")
PLACES = {
    "virtbackupd.service": UNITS / "virtbackupd.service",
    "virtbackupd.socket": UNITS / "virtbackupd.socket",
    "virtbackupd-ro.socket": UNITS / "virtbackupd-ro.socket",
    "virtbackupd-admin.socket": UNITS / "virtbackupd-admin.socket",
    "virtbackupd-tcp.socket": UNITS / "virtbackupd-tcp.socket",
    "virtbackupd-tls.socket": UNITS / "virtbackupd-tls.socket",
    "virtbackupd.sysusers": Path("usr/lib/sysusers.d/virtbackupd.conf"),
    "virtbackupd.tmpfiles": Path("usr/lib/tmpfiles.d/virtbackupd.conf"),
    "virtbackupd.conf": Path("etc/virtbackupd/virtbackupd.conf"),
}
"""Where each text of `server/units` goes, below the root."""
KEPT = {"virtbackupd.conf"}
"""What administrators change, and is not written over."""

_PROGRAM = "@BIN@"
_READABLE = 0o644


@click.command("install-units")
@click.option(
    "--root",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("/"),
    help="Folder that stands for /. Default: / itself.",
)
@click.option(
    "--program",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The virtbackupd that the service runs. Default: this one.",
)
def install_units(root: Path, program: Path | None) -> None:
    """Write units, users, folders and a configuration for systemd."""
    program = program or Path(sys.executable).with_name("virtbackupd")
    try:
        for name, place in PLACES.items():
            click.echo(_install(name, root / place, program))
    except OSError as error:
        fail(f"cannot write {error.filename}: {error.strerror}; run it as root or choose --root")


def _install(name: str, place: Path, program: Path) -> str:
    if name in KEPT and place.exists():
        return f"{place} stays as it is"
    text = (files("virtbackupd.server") / "units" / name).read_text()
    place.parent.mkdir(parents=True, exist_ok=True)
    new = place.with_name(f".{place.name}.new")
    new.write_text(text.replace(_PROGRAM, str(program)))
    new.chmod(_READABLE)
    new.replace(place)
    return str(place)
