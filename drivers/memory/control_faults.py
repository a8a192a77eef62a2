"""The control commands for faults, as a table."""

from pathlib import Path
from typing import Any

import trio

from virtbackupd.drivers.errors import InvalidArgument
from virtbackupd.drivers.faults import scenarios
from virtbackupd.drivers.memory.control import (
    Arguments,
    CommandTable,
    ControlCommand,
    NoArguments,
    Target,
)

Json = dict[str, Any]


class LoadArguments(Arguments, frozen=True):
    """The rules, as text or in a file on the machine of the daemon."""

    text: str | None = None
    path: str | None = None
    """Absolute."""
    replace: bool = False
    """Whether all other rules are dropped."""


class ScenarioArguments(Arguments, frozen=True):
    """Which scenario, and for which domain and disk; for any unless said."""

    name: str
    domain: str | None = None
    disk: str | None = None


async def _load(target: Target, given: LoadArguments) -> Json:
    faults = target.host.faults
    if (given.text is None) == (given.path is None):
        raise InvalidArgument("control command faults-load takes either text or path")
    if given.text is not None:
        faults.load_text(given.text, replace=given.replace)
    else:
        path = Path(given.path or "")
        if not path.is_absolute():
            raise InvalidArgument(f"{given.path!r} is no absolute path")
        text = await trio.to_thread.run_sync(faults.read_file, path)
        faults.load_text(text, str(path), replace=given.replace)
    return faults.report()


def _report(target: Target, _given: NoArguments) -> Json:
    return target.host.faults.report()


def _list(target: Target, _given: NoArguments) -> Json:
    return {"rules": target.host.faults.describe()}


def _clear(target: Target, _given: NoArguments) -> Json:
    report = target.host.faults.report()
    target.host.faults.clear()
    return report


def _scenarios(_target: Target, _given: NoArguments) -> Json:
    return {"scenarios": {found.name: found.about for found in scenarios.all_scenarios()}}


def _scenario(target: Target, given: ScenarioArguments) -> Json:
    domain = given.domain
    if domain is None and target.domain is not None:
        domain = target.domain.ref.name
    scenarios.load(target.host.faults, given.name, domain, given.disk)
    return target.host.faults.report()


COMMANDS: CommandTable = {
    "faults-load": ControlCommand(
        "Add fault rules from a text or a file.", _load, LoadArguments, waits=True
    ),
    "faults-list": ControlCommand("Show the fault rules as they are in force.", _list),
    "faults-report": ControlCommand(
        "Show how often each rule matched and took effect, and which never did.", _report
    ),
    "faults-clear": ControlCommand("Drop all fault rules; answers with their report.", _clear),
    "scenarios": ControlCommand("The named scenarios, with what each is about.", _scenarios),
    "scenario": ControlCommand(
        "Add the fault rules of a named scenario.", _scenario, ScenarioArguments
    ),
}
