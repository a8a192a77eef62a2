"""The guest's serial console: a stream to and from the pseudo terminal that QEMU made for it.

One client at a time holds a console; another may take it over by force. What a guest does not read
is bounded: beyond it, input is dropped, as a UART does.
"""

import os
import termios
import tty
from typing import TYPE_CHECKING, Final

import trio

from virtbackupd.drivers.consoles import OPEN, find_pty, make_way
from virtbackupd.drivers.errors import InternalError, SystemFailure
from virtbackupd.drivers.interface import ConsoleStream
from virtbackupd.drivers.qemu.live_xml import terminal

if TYPE_CHECKING:
    from virtbackupd.drivers.qemu.domain import QemuDomain

_CHUNK: Final = 16 * 1024


class TerminalStream(ConsoleStream):
    """One session on one pseudo terminal."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.closed = False

    async def receive(self) -> bytes:
        """Output as it comes; empty when the session or the guest has ended."""
        while not self.closed:
            try:
                await trio.lowlevel.wait_readable(self._descriptor)
                return os.read(self._descriptor, _CHUNK)
            except BlockingIOError:
                continue
            except (OSError, trio.ClosedResourceError):
                # EIO is how a terminal says that its other end has been closed.
                return b""
        return b""

    def send_nowait(self, data: bytes) -> None:
        if self.closed:
            return
        try:
            os.write(self._descriptor, data)
        except OSError:
            # The terminal's buffer is full, or the guest is gone: input is dropped.
            return

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            trio.lowlevel.notify_closing(self._descriptor)
            os.close(self._descriptor)


def open_console(domain: "QemuDomain", dev_name: str | None, flags: int) -> TerminalStream:
    """Open the console with that alias; without one the first console, or else serial port."""
    OPEN.check(flags)
    run = domain.require_run()
    device = find_pty(domain.definition, dev_name)
    path = terminal(domain.definition, device.alias)
    if path is None:
        raise InternalError(
            f"character device {device.alias} of domain {domain.ref.name} has no terminal"
        )
    make_way(run.consoles.get(path), device, domain.ref.name, flags)
    session = run.consoles[path] = TerminalStream(_open_terminal(path))
    return session


def _open_terminal(path: str) -> int:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError as error:
        raise SystemFailure(f"cannot open the terminal {path}: {error.strerror}") from None
    try:
        tty.setraw(descriptor, termios.TCSANOW)
    except termios.error:
        os.close(descriptor)
        raise SystemFailure(f"{path} is not a terminal") from None
    return descriptor
