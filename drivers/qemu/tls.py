"""TLS for the NBD server of a pull backup: QEMU's credentials object, made from a folder of
certificates that the settings name.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import UUID

from virtbackupd.drivers.qemu import secret_objects

if TYPE_CHECKING:
    from virtbackupd.drivers.qemu.block_nodes import Json
    from virtbackupd.drivers.qemu.config import Settings
    from virtbackupd.drivers.qemu.domain import QemuDomain

CREDENTIALS: Final = "objlibvirt_backup_tls0"
_KEY_SECRET: Final = f"{CREDENTIALS}-secret0"


def available(settings: "Settings") -> bool:
    """Whether there is a folder of certificates."""
    return settings.backup_tls_dir is not None and Path(settings.backup_tls_dir).is_dir()


async def add_credentials(domain: "QemuDomain") -> str:
    """Make the object; returns its id. QEMU reads the certificates now."""
    settings = domain.host.settings
    arguments: Json = {
        "qom-type": "tls-creds-x509",
        "id": CREDENTIALS,
        "dir": str(settings.backup_tls_dir),
        "endpoint": "server",
        "verify-peer": settings.backup_tls_verify,
    }
    if settings.backup_tls_secret is not None:
        uuid = UUID(settings.backup_tls_secret).bytes
        await secret_objects.add(domain, _KEY_SECRET, uuid)
        arguments["passwordid"] = _KEY_SECRET
    await domain.monitor.execute("object-add", arguments)
    return CREDENTIALS


async def remove_credentials(domain: "QemuDomain") -> None:
    """No matter if they have gone."""
    names = [CREDENTIALS]
    if domain.host.settings.backup_tls_secret is not None:
        names.append(_KEY_SECRET)
    await secret_objects.remove(domain, names)
