"""Memory sizes with libvirt's units. Pure arithmetic: no XML, no policy about limits."""

from virtbackupd.drivers.definitions.tree import number
from virtbackupd.drivers.errors import XmlError

_DECIMAL: dict[str, int] = {
    f"{letter}b": 1000 ** (power + 1) for power, letter in enumerate("kmgtpe")
}
_BINARY: dict[str, int] = {
    unit: 1024 ** (power + 1)
    for power, letter in enumerate("kmgtpe")
    for unit in (letter, f"{letter}ib")
}
_BYTES_PER_UNIT: dict[str, int] = {"b": 1, "byte": 1, "bytes": 1} | _DECIMAL | _BINARY
_MAX_BYTES = 2**64 - 1


def kibibytes(text: str, unit: str | None, what: str) -> int:
    """Rounded up to whole KiB; KiB is the default unit."""
    factor = _BYTES_PER_UNIT.get((unit or "KiB").lower())
    if factor is None:
        raise XmlError(f"{what} has the unknown unit {unit!r}")
    size = number(text, what) * factor
    if size > _MAX_BYTES:
        raise XmlError(f"{what} of {text} {unit or 'KiB'} is larger than 64 bits can count")
    return -(-size // 1024)
