"""The handle of one server for tests: where it is reached, and what can be arranged in it.

Arranging goes through control commands, the same that any language can send. Knows no wire.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

import msgspec

from virtbackupd.drivers.interface import Answer
from virtbackupd.server.control_address import control_uris
from virtbackupd.server.listeners import READ_ONLY_NAME, SOCKET_NAME
from virtbackupd.server.session import default_uri
from virtbackupd.server.transcript import Entry, Transcript
from virtbackupd.testing.domains import Domain
from virtbackupd.testing.loop import Loop
from virtbackupd.testing.options import Rules, is_text
from virtbackupd.testing.toml_text import to_toml

if TYPE_CHECKING:
    from virtbackupd.server.services import Services
    from virtbackupd.testing.options import Prepared


T = TypeVar("T")


class Server:
    """A running server. What waits may be called from every thread but that of the server itself;
    there only what answers at once works.
    """

    def __init__(self, loop: Loop, prepared: "Prepared", services: "Services") -> None:
        self._loop = loop
        self._driver = services.drivers.open("").driver
        self._tcp = [found for found in prepared.config.listeners if found.path is None]
        self._control_uris = control_uris(prepared.config.control)
        self._schemes = [choice.scheme for choice in prepared.config.drivers]
        self.socket_dir = prepared.folder
        self.transcript = TranscriptHandle(loop, prepared.transcript)
        self.clock = ClockHandle(self)
        self.faults = FaultsHandle(self)

    # Where it is
    @property
    def uri(self) -> str:
        """The first scheme that is served, as the default driver: test:///default."""
        return self.uri_of(self._schemes[0])

    @property
    def qemu_uri(self) -> str:
        """The same hypervisor as qemu:///system, which some programs insist on."""
        return self.uri_of("qemu")

    @property
    def read_only_uri(self) -> str:
        return self.uri_of(self._schemes[0], read_only=True)

    @property
    def tcp_uri(self) -> str:
        """LookupError unless the server was started with `tcp=True`."""
        if not self._tcp:
            raise LookupError("this server listens on no TCP port: start it with tcp=True")
        scheme, path = self._parts(self._schemes[0])
        return f"{scheme}+tcp://{self._tcp[0].host}:{self._tcp[0].port}{path}"

    @property
    def control_url(self) -> str:
        """Of the control endpoint; LookupError unless started with `control=True`."""
        if not self._control_uris:
            raise LookupError("this server has no control endpoint: start it with control=True")
        return self._control_uris[0]

    def uri_of(self, scheme: str, *, read_only: bool = False) -> str:
        """Over the Unix socket; LookupError for a scheme that is not served."""
        found, path = self._parts(scheme)
        name = READ_ONLY_NAME if read_only else SOCKET_NAME
        return f"{found}+unix://{path}?socket={quote(str(self.socket_dir / name))}"

    def _parts(self, scheme: str) -> tuple[str, str]:
        if scheme not in self._schemes:
            raise LookupError(f"this server answers no {scheme}: URIs, start it with such a driver")
        return scheme, default_uri(scheme).removeprefix(f"{scheme}://")

    # What can be arranged
    def control(self, command: str, domain: str | None = None, /, **arguments: object) -> object:
        """Any control command of docs/control.md, with what it answers.

        DriverError as the command refuses, ServerGone, TooSlowError after a minute.
        """
        return self._loop.call(lambda: self._control(command, domain, arguments))

    def _control(
        self, command: str, domain: str | None, arguments: Mapping[str, object]
    ) -> Answer[object]:
        uuid = None if domain is None else self._uuid(domain)
        return self._driver.control(uuid, command, arguments)

    def _uuid(self, name: str) -> bytes:
        found = self._driver.domain_lookup_by_name(name)
        if not isinstance(found, tuple):
            raise TypeError("the driver of a server for tests has to know its domains at once")
        return found.uuid

    def commands(self) -> list[str]:
        """The names of all control commands."""
        return list(self._loop.call(self._driver.control_commands))

    def domain(self, name: str = "test") -> Domain:
        return Domain(self, name)

    def snapshot(self, name: str) -> None:
        """Remember the whole world under a name."""
        self.control("snapshot-take", name=name)

    def restore(self, name: str) -> None:
        self.control("snapshot-restore", name=name)

    def reset(self) -> None:
        """Back to the world that the server started with."""
        self.control("world-reset")

    def save(self, path: Path | str) -> None:
        """Write the whole world into a file, which `load`, `world=` and `--world` take."""
        self.control("world-save", path=str(Path(path).absolute()))

    def load(self, path: Path | str) -> None:
        self.control("world-load", path=str(Path(path).absolute()))

    def scenario(self, name: str, **arguments: object) -> None:
        """Load the faults of a named scenario; those of docs/faults.md."""
        self.control("scenario", name=name, **arguments)


class ClockHandle:
    """The server's time; seconds everywhere."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def time(self) -> float:
        """Since 1970."""
        return self._ask("clock").time

    def stop(self) -> None:
        self._ask("clock-stop")

    def start(self) -> None:
        """Let it run on from where it stands."""
        self._ask("clock-start")

    def step(self, seconds: float) -> int:
        """Move a stopped clock on; returns how many that waited were woken, each in its turn."""
        return self._ask("clock-step", seconds=seconds).woken

    def next(self) -> float:
        """Move a stopped clock to what is due next, and return how far that was."""
        return self._ask("clock-next").seconds

    def set(self, time: float | str) -> None:
        """Seconds since 1970, a time of ISO 8601, or `now`; nobody is woken by that."""
        self._ask("clock-set", time=time)

    def _ask(self, command: str, **arguments: object) -> "_Clock":
        return msgspec.convert(self._server.control(command, **arguments), _Clock)


class _Clock(msgspec.Struct, frozen=True):
    """What the clock's commands answer."""

    time: float
    woken: int = 0
    seconds: float = 0.0


class FaultsHandle:
    """The fault rules of a server."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def load(self, rules: Rules) -> None:
        """A file, its text, a dictionary, or only the list of rules; added to those there are."""
        if isinstance(rules, Path) or (isinstance(rules, str) and not is_text(rules)):
            self._server.control("faults-load", path=str(Path(rules).absolute()))
        else:
            self._server.control("faults-load", text=_rules_text(rules))

    def clear(self) -> None:
        """Forget all rules."""
        if self._exist():
            self._server.control("faults-clear")

    def report(self) -> object:
        """Each rule with how often it matched and how often it took effect."""
        return self._server.control("faults-report")

    def unmatched(self) -> list[str]:
        """The rules that never took effect, each with its name, its effect and its hits."""
        if not self._exist():
            return []
        rules = msgspec.convert(self.report(), _Report).rules
        return [
            f"{rule.name}: {rule.effect}, hits: {rule.hits}" for rule in rules if not rule.fired
        ]

    def _exist(self) -> bool:
        """A driver without faults has none to be forgotten or missed."""
        return "faults-report" in self._server.commands()


class _Rule(msgspec.Struct, frozen=True):
    """What the report says of one rule."""

    name: str
    effect: str
    hits: int
    fired: int


class _Report(msgspec.Struct, frozen=True):
    """What the report says of all."""

    rules: list[_Rule]


def _rules_text(rules: str | Mapping[str, object] | Sequence[Mapping[str, object]]) -> str:
    if isinstance(rules, str):
        return rules
    return to_toml(rules if isinstance(rules, Mapping) else {"faults": rules})


class TranscriptHandle:
    """The last calls and events of a server. Can be read after its end too."""

    def __init__(self, loop: Loop, transcript: Transcript) -> None:
        self._loop = loop
        self._transcript = transcript

    def entries(self, after: int = 0) -> list[Entry]:
        """The oldest first; `after` is what `mark` gave."""
        return self._asked(lambda: self._transcript.entries(after))

    def text(self, after: int = 0) -> str:
        """A line for each."""
        return self._asked(lambda: self._transcript.text(after))

    def mark(self) -> int:
        """The number of the last entry of this moment."""
        return self._asked(lambda: self._transcript.count)

    def clear(self) -> None:
        self._asked(self._transcript.clear)

    def __str__(self) -> str:
        return self.text()

    def _asked(self, function: Callable[[], T]) -> T:
        return function() if self._loop.ended else self._loop.call(function)
