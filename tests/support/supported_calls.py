"""The page of supported calls, made from the table, the handlers and the drivers' classes.

`python tests/support/supported_calls.py` rewrites docs/supported-calls.md (`make docs`); a test
compares the page with what this module makes.
"""

import inspect
from pathlib import Path

from virtbackupd.drivers import driver_names as installed_drivers
from virtbackupd.drivers.interface import Domain, Driver
from virtbackupd.drivers.memory.domain import MemoryDomain
from virtbackupd.drivers.memory.driver import MemoryDriver
from virtbackupd.drivers.qemu.domain import QemuDomain
from virtbackupd.drivers.qemu.driver import QemuDriver
from virtbackupd.protocol import schema
from virtbackupd.protocol.procedures import Procedure
from virtbackupd.server.handlers import all_handlers
from virtbackupd.server.handlers.figures import FIGURES
from virtbackupd.server.procedures import PROCEDURES
from virtbackupd.server.translate import Method

PAGE = Path(__file__).resolve().parents[2] / "docs" / "supported-calls.md"
CLASSES: dict[str, tuple[type[Driver], type[Domain]]] = {
    "memory": (MemoryDriver, MemoryDomain),
    "qemu": (QemuDriver, QemuDomain),
}
HEAD = """\
# Supported calls

Generated from the code by `make docs`; a test fails when it is out of date. "yes" is answered by
the driver, "server" by the server itself for every driver, "no" is refused with libvirt's code 3,
which stock clients survive. The {rest} calls that are not listed are refused the same way by every
driver.

| number | procedure | {drivers} |
|--:|---|{rule}|
"""


def _refuses(method: object) -> bool:
    return "_unsupported(" in inspect.getsource(method)  # type: ignore[arg-type]  # a function


def _answered_by(method: Method, driver: str) -> str:
    for base, found in zip((Driver, Domain), CLASSES[driver], strict=True):
        if method is getattr(base, method.__name__, None):
            return "no" if _refuses(getattr(found, method.__name__)) else "yes"
    raise LookupError(f"{method} belongs to neither Driver nor Domain")


def _row(procedure: Procedure, drivers: list[str]) -> str:
    figures = FIGURES.get(procedure.name)
    method = figures.method if figures else PROCEDURES.get(procedure.name)
    answers = [_answered_by(method, driver) if method else "server" for driver in drivers]
    return f"| {procedure.number} | {procedure.name} | {' | '.join(answers)} |"


def page() -> str:
    """The whole page as it should be."""
    drivers = [name for name in installed_drivers() if name in CLASSES]
    answered = PROCEDURES.keys() | all_handlers().keys()
    calls = [found for found in schema.load().by_number.values() if not found.is_event]
    listed = sorted(
        (found for found in calls if found.name in answered),
        key=lambda found: (found.program, found.number),
    )
    head = HEAD.format(
        rest=len(calls) - len(listed),
        drivers=" | ".join(drivers),
        rule="|".join(["---"] * len(drivers)),
    )
    return head + "\n".join(_row(procedure, drivers) for procedure in listed) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
