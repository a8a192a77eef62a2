"""The syntax of libvirt's configuration files, where it is not TOML's.

Unlike in TOML, a backslash is a character as any other, `;` may stand between settings, and a
number may begin with zeroes. Knows no key.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

_NUMBER_DIGITS: Final = 20
"""More than 64 bits need; Python's own limit is far beyond."""

_TOKEN: Final = re.compile(
    rf"""
      (?P<space> [ \t\r]+ )
    | (?P<end> [\n;] )
    | (?P<comment> \#[^\n]* )
    | (?P<name> [A-Za-z][A-Za-z0-9_]* )
    | (?P<number> [+-]?[0-9]{{1,{_NUMBER_DIGITS}}} )
    | \"\"\" (?P<long> .*? ) \"\"\"
    | " (?P<double> [^"\r\n]* ) "
    | ' (?P<single> [^'\r\n]* ) '
    | (?P<sign> [=\[\],] )
    """,
    re.VERBOSE | re.DOTALL,
)
_TEXTS: Final = {"long", "double", "single"}


class SyntaxFault(Exception):
    """This is no file of libvirt's."""


class Setting(NamedTuple):
    """A key, its value and the line that it begins on."""

    key: str
    value: int | str | list[int | str]
    line: int


class _Token(NamedTuple):
    kind: str
    text: str
    line: int


def read_settings(text: str) -> list[Setting]:
    """In the order in which they stand. SyntaxFault."""
    reader = _Reader(_tokens(text))
    return list(reader.settings())


def _tokens(text: str) -> list[_Token]:
    found = []
    at, line = 0, 1
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            raise SyntaxFault
        kind = match.lastgroup
        if kind not in {"space", "comment"}:
            found.append(_Token("text" if kind in _TEXTS else kind, match[kind], line))
        line += match[0].count("\n")
        at = match.end()
    return [*found, _Token("end", "", line)]


class _Reader:
    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._at = 0

    def settings(self) -> Iterator[Setting]:
        while self._at < len(self._tokens):
            token = self._next()
            if token.kind == "end":
                continue
            if token.kind != "name" or self._next()[:2] != ("sign", "="):
                raise SyntaxFault
            yield Setting(token.text, self._value(), token.line)
            if self._next().kind != "end":
                raise SyntaxFault

    def _next(self) -> _Token:
        """The last one is an end without a line feed, which nothing reads over."""
        token = self._tokens[self._at]
        self._at += 1
        return token

    def _value(self) -> int | str | list[int | str]:
        token = self._next()
        return self._list() if token[:2] == ("sign", "[") else _plain(token)

    def _list(self) -> list[int | str]:
        """A comma may stand before its end, as many as there are lines may be between."""
        found: list[int | str] = []
        while (token := self._next_in_list())[:2] != ("sign", "]"):
            found.append(_plain(token))
            token = self._next_in_list()
            if token[:2] == ("sign", "]"):
                break
            if token[:2] != ("sign", ","):
                raise SyntaxFault
        return found

    def _next_in_list(self) -> _Token:
        while (token := self._next())[:2] == ("end", "\n"):
            continue
        return token


def _plain(token: _Token) -> int | str:
    if token.kind == "number":
        return int(token.text)
    if token.kind == "text":
        return token.text
    raise SyntaxFault
