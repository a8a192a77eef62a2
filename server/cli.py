"""The command line: which commands there are, each in a module of its own.

A command is imported when it is called, so that none makes the daemon start more slowly.
"""

import gc
from importlib import import_module
from types import ModuleType

import click

COMMANDS = {
    "serve": ("serve", "Run the daemon in the foreground until SIGTERM or SIGINT."),
    "config": ("config", "Check a configuration file, or show what holds."),
    "top": ("top", "Show domains and their jobs as they go on."),
    "tree": ("tree", "Show checkpoints as a tree."),
    "record": ("record", "Write what a libvirt server shows into a world file."),
    "install-units": ("install_units", "Write what systemd needs to run the daemon."),
    "pki": ("pki", "Look at certificates and keys."),
    "user": ("user", "Keep the file of those who may log in by SASL."),
}
"""By name: the module of `server/commands`, whose function has the same name, and what it does."""


class CommandTable(click.Group):
    """Imports a command when it is needed; wrong use is told in one line, as all else."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _ = COMMANDS[cmd_name]
        found: click.Command = getattr(_imported(f"virtbackupd.server.commands.{module}"), module)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """From the table alone, without importing any command."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, about) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> object:
        """Without its context a usage error does not print the usage before the reason."""
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            error.ctx = None
            raise


def _imported(name: str) -> ModuleType:
    """What modules make stays, so that looking for garbage in it takes time for nothing."""
    gc.disable()
    try:
        return import_module(name)
    finally:
        gc.enable()


@click.group(cls=CommandTable, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="virtbackupd", prog_name="virtbackupd")
def main() -> None:
    """A libvirt-compatible daemon for checkpoints and incremental backups."""
