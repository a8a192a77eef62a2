"""The UUID of this machine: the one that is configured, or what firmware or the system says.

The choice belongs to the tasks of a daemon, as its limits do. Knows no driver.
"""

import socket
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple
from uuid import NAMESPACE_DNS, UUID, uuid5

_FILES: Final = {
    "smbios": Path("/sys/class/dmi/id/product_uuid"),
    "machine-id": Path("/etc/machine-id"),
}


class HostUuid(NamedTuple):
    """What the configuration says."""

    uuid: str = ""
    """Wins over `source`."""
    source: str = "smbios"


CHOSEN: ContextVar[HostUuid] = ContextVar("CHOSEN")


def host_uuid() -> str:
    """Always the same on one machine, also where no source tells."""
    chosen = CHOSEN.get(HostUuid())
    return str(UUID(chosen.uuid)) if chosen.uuid else _found(chosen.source)


@lru_cache(maxsize=len(_FILES))
def _found(source: str) -> str:
    try:
        found = UUID(_FILES[source].read_text().strip())
    except (OSError, ValueError):
        found = UUID(int=0)
    # Firmware without a number of its own has all digits the same.
    useless = len(set(found.hex)) == 1
    return str(uuid5(NAMESPACE_DNS, socket.gethostname()) if useless else found)
