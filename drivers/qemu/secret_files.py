"""Secrets that outlive the daemon: a definition and a value in a file each, unless ephemeral.

Values are readable by the daemon's user alone. Rules and events are the store's.
"""

import logging
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from pathlib import Path
from uuid import UUID

from virtbackupd.drivers import store
from virtbackupd.drivers.definitions.secret import format_secret, parse_secret
from virtbackupd.drivers.errors import DriverError
from virtbackupd.drivers.events import EventBus, SecretRef
from virtbackupd.drivers.secret_store import SecretStore

log = logging.getLogger(__name__)


class SecretFiles:
    """A store whose changes are on disk when a call returns."""

    def __init__(self, folder: Path, events: EventBus) -> None:
        self._folder = folder
        self.store = SecretStore(events)

    async def define_xml(self, xml: str, flags: int) -> SecretRef:
        ref = self.store.secret_define_xml(xml, flags)
        await self._write(ref.uuid)
        return ref

    async def set_value(self, uuid: bytes, value: bytes, flags: int) -> None:
        self.store.secret_set_value(uuid, value, flags)
        await self._write(uuid)

    async def undefine(self, uuid: bytes) -> None:
        self.store.secret_undefine(uuid)
        for suffix in (".base64", ".xml"):
            await store.remove(self._path(uuid, suffix))

    def load(self) -> None:
        """Read what is on disk. Blocks; what cannot be read is logged and passed over."""
        for path, text, problem in store.read_all(self._folder):
            try:
                self.store.load(parse_secret(text or ""), self._value(path))
            except (DriverError, OSError, Base64Error) as error:
                log.error("passing over the secret in %s: %s", path, problem or error)

    def _value(self, path: Path) -> bytes | None:
        file = path.with_suffix(".base64")
        return b64decode(file.read_text(), validate=True) if file.exists() else None

    async def _write(self, uuid: bytes) -> None:
        definition = self.store.definition(uuid)
        if definition.ephemeral:
            return
        value = self.store.value(uuid)
        if value is not None:
            await store.write(self._path(uuid, ".base64"), b64encode(value).decode())
        await store.write(self._path(uuid, ".xml"), format_secret(definition))

    def _path(self, uuid: bytes, suffix: str) -> Path:
        return self._folder / f"{UUID(bytes=uuid)}{suffix}"
