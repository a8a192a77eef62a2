"""`virtbackupd tree`: the checkpoints of domains, for a person or as JSON."""

import json
from collections.abc import Sequence

import click

from virtbackupd.drivers.enums import ListDomains
from virtbackupd.server.commands.asking import ask
from virtbackupd.server.remote import Remote, connected
from virtbackupd.server.remote_host import find_domain, list_domains
from virtbackupd.server.remote_uri import default_uri
from virtbackupd.server.watch.checkpoints import DomainTree, as_data, as_lines, read_trees


@click.command()
@click.argument("domain", required=False)
@click.option("-c", "--connect", "uri", metavar="URI", help="Which server to ask. Default: "
              "$LIBVIRT_DEFAULT_URI, or test:///default.")  # fmt: skip
@click.option("-r", "--readonly", is_flag=True, help="Connect read-only.")
@click.option(
    "--monitor",
    is_flag=True,
    help="Ask the monitor what is wrong with bitmaps that cannot be used. libvirtd marks a domain "
    "whose monitor was used as tainted.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def tree(domain: str | None, uri: str | None, readonly: bool, monitor: bool, as_json: bool) -> None:
    """Show the checkpoints of DOMAIN, or of every domain that has some, as a tree.

    Each line tells when a checkpoint was made, what has changed on each disk since, and whether its
    bitmaps can be used.
    """
    _show(ask(_read, domain, uri or default_uri(), readonly, monitor), as_json=as_json)


async def _read(name: str | None, uri: str, readonly: bool, monitor: bool) -> list[DomainTree]:
    async with connected(uri, read_only=readonly) as remote:
        return await _trees(remote, name, monitor=monitor)


async def _trees(remote: Remote, name: str | None, *, monitor: bool) -> list[DomainTree]:
    if name is not None:
        return await read_trees(remote, [await find_domain(remote, name)], monitor=monitor)
    domains = await list_domains(remote, ListDomains.HAS_CHECKPOINT)
    return await read_trees(remote, domains, monitor=monitor)


def _show(trees: Sequence[DomainTree], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([as_data(each) for each in trees], indent=2))
        return
    if not trees:
        click.echo("no domain has checkpoints")
    for each in trees:
        for line in as_lines(each):
            click.echo(line)
