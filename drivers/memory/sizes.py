"""Sizes as QEMU's tools read and print them: `64k` and `64 KiB`. Pure arithmetic."""

import re
from typing import Final

_NUMBER: Final = re.compile(
    r"(0x[0-9a-f]+|[0-9]+(?:\.[0-9]+)?) ?([bkmgtpe]?)(?:i?b)?", re.IGNORECASE
)
_POWERS: Final = {unit: 1 << 10 * power for power, unit in enumerate(("b", *"kmgtpe"))} | {"": 1}
_NAMES: Final = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_MAX: Final = 2**63 - 1


def parse_size(text: str) -> int:
    """Bytes of `65536`, `0x10000`, `64k`, `0.5M`, `2 GiB`; ValueError for anything else."""
    found = _NUMBER.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is not a size: give a number with b, k, M, G, T, P or E")
    size = round(_number(found[1]) * _POWERS[found[2].lower()])
    if size > _MAX:
        raise ValueError(f"{text!r} is more than 63 bits can count")
    return size


def _number(text: str) -> int | float:
    if "." in text:
        return float(text)
    return int(text, 16 if text[:2].lower() == "0x" else 10)


def format_size(size: int) -> str:
    """The largest unit that leaves at least one, with three digits behind the point if needed."""
    power = min((max(size, 1).bit_length() - 1) // 10, len(_NAMES) - 1)
    number = size / 1024**power
    digits = f"{number:.0f}" if number == int(number) else f"{number:.3f}"
    return f"{digits} {_NAMES[power]}"
