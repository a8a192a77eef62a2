"""Handing the values of secrets to QEMU, which keeps them as objects with a name.

The monitor is a private socket; values are encoded for it, not encrypted. They are never logged.
"""

from base64 import b64encode
from typing import TYPE_CHECKING

from virtbackupd.drivers.qemu.qmp import QmpError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from virtbackupd.drivers.qemu.domain import QemuDomain


async def add(domain: "QemuDomain", name: str, uuid: bytes) -> None:
    """Make an object from the value of a secret."""
    value = domain.host.secrets.store.require_value(uuid)
    arguments = {
        "qom-type": "secret",
        "id": name,
        "data": b64encode(value).decode(),
        "format": "base64",
    }
    await domain.monitor.execute("object-add", arguments)


async def remove(domain: "QemuDomain", names: "Iterable[str]") -> None:
    """No matter if they have gone."""
    for name in names:
        try:
            await domain.monitor.execute("object-del", {"id": name})
        except QmpError:
            continue
