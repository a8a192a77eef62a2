"""The guest's serial console: a banner, a prompt, and an echo of what is typed.

One client at a time holds a console; another may take it over by force. Output that nobody reads
is bounded: what is typed beyond it is dropped, as a UART does. Knows neither streams on the wire
nor what the guest's disks hold.
"""

from typing import Final

import trio

from virtbackupd.drivers.consoles import OPEN, find_pty, make_way
from virtbackupd.drivers.interface import ConsoleStream
from virtbackupd.drivers.memory.guest import Guest, require_active

MAX_OUTPUT: Final = 64 * 1024


class GuestConsole(ConsoleStream):
    """One session on one console."""

    def __init__(self, domain_name: str) -> None:
        self._prompt = f"{domain_name} login: ".encode()
        self._output = bytearray()
        self._changed = trio.Event()
        self.closed = False
        self._print(f"\r\nvirtbackupd guest {domain_name}, console echoes\r\n\r\n".encode())
        self._print(self._prompt)

    async def receive(self) -> bytes:
        """The output so far, after waiting for some; empty when the session has ended."""
        while not self._output and not self.closed:
            await self._changed.wait()
            self._changed = trio.Event()
        data = bytes(self._output)
        self._output.clear()
        return data

    def send_nowait(self, data: bytes) -> None:
        """Echo what is typed; each return key brings a new prompt."""
        if not self.closed:
            self._print(data.replace(b"\r", b"\r\n" + self._prompt))

    def close(self) -> None:
        self.closed = True
        self._changed.set()

    def _print(self, data: bytes) -> None:
        self._output += data[: MAX_OUTPUT - len(self._output)]
        self._changed.set()


def open_console(domain: Guest, dev_name: str | None, flags: int) -> GuestConsole:
    """Open the console with that alias; without one the first console, or else serial port."""
    OPEN.check(flags)
    require_active(domain)
    device = find_pty(domain.definition, dev_name)
    # A console on a serial port is the same line under another alias.
    make_way(domain.consoles.get(device.port), device, domain.ref.name, flags)
    session = domain.consoles[device.port] = GuestConsole(domain.ref.name)
    return session


def hang_up(domain: Guest) -> None:
    """End every session, when the guest stops."""
    for session in domain.consoles.values():
        session.close()
    domain.consoles.clear()
