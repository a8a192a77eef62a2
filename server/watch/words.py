"""Numbers as people read them: sizes, durations, moments. Pure."""

from datetime import UTC, datetime
from typing import Final

_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_STEP: Final = 1024
_DURATIONS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
_UNPRINTABLE: Final = dict.fromkeys((*range(32), *range(127, 160)), "?")


def size(count: float) -> str:
    """`1.5 MiB`; whole bytes are not broken."""
    unit = _UNITS[0]
    for unit in _UNITS:
        if abs(count) < _STEP:
            break
        if unit != _UNITS[-1]:
            count /= _STEP
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"


def duration(seconds: float) -> str:
    """The two largest units: `3 d 4 h`, `12 s`."""
    rest = max(0, int(seconds))
    parts: list[str] = []
    for length, unit in _DURATIONS:
        count, rest = divmod(rest, length)
        if count or parts:
            parts.append(f"{count} {unit}")
    return " ".join(part for part in parts[:2] if not part.startswith("0 ")) or "0 s"


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def moment(timestamp: float) -> str:
    """In the time zone of this machine."""
    try:
        return datetime.fromtimestamp(timestamp, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return f"@{timestamp:.0f}"


def printable(text: str) -> str:
    """Names and messages come from elsewhere: they must not steer the terminal."""
    return text.translate(_UNPRINTABLE)
