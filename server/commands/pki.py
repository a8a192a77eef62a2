"""`virtbackupd pki`: what there is to know about certificates, for people who have to fix them."""

import sys
from pathlib import Path

import click

from virtbackupd.server.commands.failing import fail
from virtbackupd.server.config import ConfigError, Settings
from virtbackupd.server.pki import CLIENT, SERVER, Gravity, examine
from virtbackupd.server.security import client_files, tls_files
from virtbackupd.server.settings_file import load_settings

_FILE = click.Path(path_type=Path)


@click.group()
def pki() -> None:
    """Look at certificates and keys."""


@pki.command()
@click.option("--ca", type=_FILE, help="Certificate of the authority.")
@click.option("--cert", type=_FILE, help="Certificate to check.")
@click.option("--key", type=_FILE, help="Private key to it.")
@click.option("--crl", type=_FILE, help="Certificates that no longer count.")
@click.option("--host", default="", metavar="NAME", help="What clients call the server.")
@click.option("--client", is_flag=True, help="Check the files of a client, not those of a server.")
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Configuration file whose ca_file, cert_file, key_file and crl_file are meant.",
)
def check(
    ca: Path | None, cert: Path | None, key: Path | None, crl: Path | None,
    host: str, client: bool, config: Path | None,
) -> None:  # fmt: skip
    """Tell what is wrong with a set of certificates and keys, and what to do about it.

    Without options the files are those that the daemon would use. Ends with 1 when clients or
    servers would not accept them.
    """
    files = client_files() if client else tls_files(_settings(config))
    given = {"ca_file": ca, "cert_file": cert, "key_file": key, "crl_file": crl}
    files = files._replace(**{name: path for name, path in given.items() if path is not None})
    findings = examine(files, CLIENT if client else SERVER, host)
    for gravity, text, remedy in findings:
        click.echo(f"{gravity.value}: {text}" + (f"; {remedy}" if remedy else ""))
    if any(each.gravity is Gravity.ERROR for each in findings):
        sys.exit(1)
    click.echo("no errors: these certificates can be used")


def _settings(config: Path | None) -> Settings:
    try:
        return load_settings(config).settings
    except ConfigError as error:
        fail(str(error))
