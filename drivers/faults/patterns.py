"""Patterns of names, as in a shell: `*`, `?` and `[...]`; none at all fits everything."""

import re
from fnmatch import translate


class Pattern:
    """A pattern, made ready once."""

    __slots__ = ("_fits", "text")

    def __init__(self, text: str | None, *, any_case: bool = False) -> None:
        self.text = text
        flags = re.IGNORECASE if any_case else re.NOFLAG
        self._fits = None if text is None else re.compile(translate(text), flags).match

    def fits(self, word: str) -> bool:
        return self._fits is None or self._fits(word) is not None

    def fits_any(self, *words: str) -> bool:
        return self._fits is None or any(map(self._fits, words))
