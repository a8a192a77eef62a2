"""Texts with a number in them: `vm{n:05}` stands for vm00001, vm00002 and so on.

Only `{n}`, `{n:WIDTH}`, `{n:0WIDTH}` and the same in hexadecimal, `{n:04x}`, mean the number. A
text is taken apart once and put together often. Knows nothing of what the texts name.
"""

import re
from typing import Final

_NUMBER: Final = re.compile(r"\{n(?::(0?[0-9]{0,2}[xX]?))?\}")


class Numbered:
    """One text for every number."""

    __slots__ = ("_format", "changes", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        literals = _NUMBER.split(text)
        # The split leaves the formats at odd places, None for a plain `{n}`.
        escaped = [part.replace("{", "{{").replace("}", "}}") for part in literals[::2]]
        formats = [f"{{0:{part or ''}}}" for part in literals[1::2]]
        mixed = [piece for both in zip(escaped, [*formats, ""], strict=True) for piece in both]
        self._format = "".join(mixed)
        self.changes = bool(formats)
        """Whether the number makes a difference."""

    def at(self, number: int) -> str:
        return self._format.format(number)


def numbered(text: str | None, number: int) -> str | None:
    """A text for one number; None stays None."""
    return None if text is None else Numbered(text).at(number)
