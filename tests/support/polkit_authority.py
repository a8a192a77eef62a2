"""A message bus of one's own with an authority on it that answers as it is told.

Speaks polkit's D-Bus interface as far as a daemon asks. Knows nothing of the daemon.
"""

import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from jeepney import (
    DBusAddress,
    HeaderFields,
    Message,
    MessageType,
    new_method_call,
    new_method_return,
)
from jeepney.bus_messages import message_bus
from jeepney.io.blocking import DBusConnection, open_dbus_connection

NAME = "org.freedesktop.PolicyKit1"
CONFIGURATION = """
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/>
  </policy>
</busconfig>
"""
PATIENCE = 60.0


@dataclass(frozen=True)
class Verdict:
    """What `CheckAuthorization` answers."""

    authorized: bool
    challenge: bool = False
    details: Mapping[str, str] = field(default_factory=dict)

    @property
    def body(self) -> tuple[bool, bool, dict[str, str]]:
        return self.authorized, self.challenge, dict(self.details)


class Question(NamedTuple):
    """What it was asked."""

    subject: tuple[str, dict[str, Any]]
    action: str
    details: dict[str, str]
    flags: int


@dataclass
class PolkitAuthority:
    """Actions without verdict are refused; with the verdict None there is no answer."""

    address: str
    verdicts: dict[str, Verdict | None] = field(default_factory=dict)
    questions: list[Question] = field(default_factory=list)

    def answer(self, message: Message) -> Verdict | None:
        subject, action, details, flags, _ = message.body
        self.questions.append(Question(subject, action, details, flags))
        return self.verdicts.get(action, Verdict(authorized=False))


@contextmanager
def bus(folder: Path) -> Iterator[str]:
    """The address of a running message bus."""
    config = folder / "bus.conf"
    config.write_text(CONFIGURATION.format(socket=folder / "bus"))
    command = ["dbus-daemon", f"--config-file={config}", "--nofork", "--print-address"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


@contextmanager
def authority(folder: Path) -> Iterator[PolkitAuthority]:
    """An authority that runs until the block ends."""
    with bus(folder) as address, open_dbus_connection(address) as connection:
        connection.send_and_get_reply(message_bus.RequestName(NAME), timeout=PATIENCE)
        made = PolkitAuthority(address)
        thread = threading.Thread(target=serve, args=(made, connection))
        thread.start()
        try:
            yield made
        finally:
            end(address, connection.unique_name)
            thread.join(PATIENCE)


def serve(made: PolkitAuthority, connection: DBusConnection) -> None:
    """Until a call comes that is none of polkit's."""
    while True:
        message = connection.receive()
        if message.header.message_type is not MessageType.method_call:
            continue
        if message.header.fields[HeaderFields.member] != "CheckAuthorization":
            return
        verdict = made.answer(message)
        if verdict is not None:
            connection.send(new_method_return(message, "(bba{ss})", (verdict.body,)))


def end(address: str, name: str | None) -> None:
    with open_dbus_connection(address) as connection:
        connection.send(new_method_call(DBusAddress("/", bus_name=name), "End"))
