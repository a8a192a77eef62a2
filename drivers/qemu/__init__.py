"""Virtual machines of QEMU, which outlive the daemon that started them.

This is the only module that others import; `open_driver` is what the entry point names.
"""

import fcntl
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import trio

from virtbackupd.drivers.errors import ConfigUnsupported, SystemFailure
from virtbackupd.drivers.interface import Driver, DriverOptions
from virtbackupd.drivers.profiles import NEWEST
from virtbackupd.drivers.qemu import recovery
from virtbackupd.drivers.qemu.config import Settings, load_settings
from virtbackupd.drivers.qemu.driver import QemuDriver
from virtbackupd.drivers.qemu.host import Host
from virtbackupd.drivers.qemu.qmp import open_bridge


@asynccontextmanager
async def open_driver(options: DriverOptions) -> AsyncIterator[Driver]:
    """A hypervisor with the domains of the state directory; leaving it stops none of them."""
    if options.profile is not NEWEST:
        raise ConfigUnsupported(
            f"the QEMU driver is what it is and has no profile {options.profile.name}: "
            "use the memory driver, or no profile"
        )
    settings = await trio.to_thread.run_sync(
        _prepared, options.state_dir / "qemu", options.settings
    )
    with _alone(settings.root):
        async with open_bridge() as bridge, trio.open_nursery() as nursery:
            host = Host(nursery, bridge, settings)
            await trio.to_thread.run_sync(host.secrets.load)
            await recovery.recover(host)
            nursery.start_soon(recovery.autostart, host)
            yield QemuDriver(host)
            nursery.cancel_scope.cancel()


def _prepared(root: Path, given: Mapping[str, object]) -> Settings:
    settings = load_settings(root, given)
    try:
        settings.make_folders()
    except OSError as error:
        raise SystemFailure(f"cannot prepare {root}: {error}") from None
    return settings


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Refuse to share a state directory with another daemon."""
    descriptor = os.open(root / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise SystemFailure(f"another daemon uses {root}: choose another state directory") from None
    finally:
        os.close(descriptor)
