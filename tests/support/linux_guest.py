"""A Linux of Debian's with busybox, as small as can be, that takes orders on its serial console.

The orders are those of `linux_init.sh`. It is built once, below `build/`, by `.ci/make-guest`.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import libvirt
from binding import wait_until
from documents import disk_element
from tools import run

ROOT: Final = Path(__file__).resolve().parents[2]
BOOT_PATIENCE: Final = 300.0
"""Seconds; without KVM it takes about five."""
PATIENCE: Final = 120.0
"""Seconds for an order."""


@cache
def built() -> Path:
    """The folder with `vmlinuz` and `initrd.gz`."""
    folder = ROOT / "build" / "guest"
    run(ROOT / ".ci" / "make-guest", folder, Path(__file__).with_name("linux_init.sh"))
    return folder


def linux_xml(name: str, disk: Path) -> str:
    """A machine that starts the kernel directly; its one disk is vda."""
    return f"""
<domain type='qemu'>
  <name>{name}</name>
  <memory unit='MiB'>128</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <kernel>{built()}/vmlinuz</kernel>
    <initrd>{built()}/initrd.gz</initrd>
    <cmdline>console=ttyS0 quiet</cmdline>
  </os>
  <features><acpi/></features>
  <devices>{disk_element("vda", disk)}
    <serial type='pty'/>
    <console type='pty'/>
  </devices>
</domain>"""


@dataclass
class LinuxGuest:
    """A running guest and its console."""

    machine: libvirt.virDomain
    stream: libvirt.virStream
    said: str = ""
    heard: str = ""
    """What came before the words that were last waited for."""

    def tell(self, order: str) -> None:
        """Give an order; it is carried out while others go on."""
        self.stream.send(f"{order}\n".encode())

    def do(self, order: str) -> None:
        """Give an order and wait until it is carried out."""
        self.tell(order)
        self.until("guest: done")

    def until(self, words: str, seconds: float = PATIENCE) -> None:
        """Read the console up to these words, once more than before."""
        wait_until(lambda: self._hears(words), f"{words!r} on the console", seconds)
        self.heard, _, self.said = self.said.partition(words)

    def until_answered(self, order: str, words: str) -> None:
        """Give an order again and again until the answer is this."""

        def answered() -> bool:
            self.said = ""
            self.do(order)
            return words in self.heard

        wait_until(answered, f"{words!r} to {order!r}", PATIENCE)

    def _hears(self, words: str) -> bool:
        while isinstance(data := self.stream.recv(4096), bytes) and data:
            self.said += data.decode(errors="replace")
        return words in self.said


def boot(connection: libvirt.virConnect, name: str, disk: Path) -> LinuxGuest:
    """Start a guest and wait until it takes orders."""
    machine = connection.defineXML(linux_xml(name, disk))
    machine.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
    stream = connection.newStream(libvirt.VIR_STREAM_NONBLOCK)
    machine.openConsole(None, stream)
    machine.resume()
    guest = LinuxGuest(machine, stream)
    guest.until("guest: ready", BOOT_PATIENCE)
    return guest
