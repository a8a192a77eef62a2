"""Reads an XDR interface text (RFC 4506, with C comments) into plain descriptions of its types.

Names are those of the RFC. The module knows nothing of codecs, of libvirt or of which types matter;
it only resolves constants and keeps the annotations written before the members of an enum.
"""

import keyword
import re
from enum import Enum, auto
from itertools import islice
from typing import NamedTuple, NoReturn, TypeAlias


class IdlError(Exception):
    """The interface text is wrong; only its author can mend it."""


class Shape(Enum):
    """How often, and whether, a declared value occurs."""

    ONE = auto()
    OPTIONAL = auto()
    FIXED_ARRAY = auto()
    VARIABLE_ARRAY = auto()


class Declaration(NamedTuple):
    """One named value. `size` is an array's exact length or its limit (None: no limit given)."""

    name: str
    type_name: str
    shape: Shape = Shape.ONE
    size: int | None = None


class EnumMember(NamedTuple):
    name: str
    value: int
    annotations: dict[str, str]


class EnumType(NamedTuple):
    name: str
    members: tuple[EnumMember, ...]


class Struct(NamedTuple):
    name: str
    fields: tuple[Declaration, ...]


class Union(NamedTuple):
    """`arms` maps a discriminant to its value, None where the arm is void."""

    name: str
    discriminant: Declaration
    arms: dict[int, Declaration | None]


class Typedef(NamedTuple):
    name: str
    declaration: Declaration


Definition: TypeAlias = EnumType | Struct | Union | Typedef


class Specification(NamedTuple):
    constants: dict[str, int]
    types: dict[str, Definition]


class _Tokens(NamedTuple):
    words: list[str]
    annotations: dict[int, str]
    """By the index of a word, the `/** ... */` comment that stands right before it."""


# Alternatives in the order of how often they occur.
_TOKEN = re.compile(
    r"\s*(?:(?P<word>[A-Za-z_]\w*|[;{}<>\[\]()*=,:]|-?0[xX][0-9A-Fa-f]+|-?\d+)"
    r"|/\*\*(?P<annotation>.*?)\*/|(?P<skip>/\*.*?\*/|\Z)|(?P<bad>.))",
    re.DOTALL,
)
_ANNOTATION = re.compile(r"@(\w+)(?::\s*(\S+))?")
_UNSIGNED_BASES = frozenset({"int", "hyper", "char", "short"})
_ARRAY_SHAPES = {"[": (Shape.FIXED_ARRAY, "]"), "<": (Shape.VARIABLE_ARRAY, ">")}


def parse(text: str) -> Specification:
    """Reads a whole interface text; raises `IdlError` with the line of what it cannot read."""
    return _Parser(text).specification()


def _tokens(text: str) -> _Tokens:
    words: list[str] = []
    annotations: dict[int, str] = {}
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup
        if kind == "word":
            words.append(match["word"])
        elif kind == "annotation":
            annotations[len(words)] = match["annotation"]
        elif kind == "bad":
            raise IdlError(f"line {_line(text, match.start('bad'))}: unexpected {match['bad']!r}")
    return _Tokens(words, annotations)


def _position(text: str, index: int) -> int:
    """Where a word stands; only who complains asks."""
    starts = (match.start("word") for match in _TOKEN.finditer(text) if match["word"])
    return next(islice(starts, index, None))


def _annotations(comment: str) -> dict[str, str]:
    """Values of an annotation that occurs more than once are joined by `;`."""
    found: dict[str, str] = {}
    for name, value in _ANNOTATION.findall(comment):
        found[name] = f"{found[name]};{value}" if name in found else value
    return found


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def _python_name(name: str) -> str:
    return name + "_" if keyword.iskeyword(name) else name


class _Parser:
    """A cursor over the tokens and what has been defined so far."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._words, self._annotations = _tokens(text)
        self._at = 0
        self._constants: dict[str, int] = {}
        self._types: dict[str, Definition] = {}

    def specification(self) -> Specification:
        readers = {
            "const": self._const,
            "enum": self._enum,
            "struct": self._struct,
            "union": self._union,
            "typedef": self._typedef,
        }
        while self._at < len(self._words):
            word = self._take()
            if word not in readers:
                self._fail(f"a definition cannot start with {word!r}")
            readers[word]()
            self._expect(";")
        return Specification(self._constants, self._types)

    def _take(self) -> str:
        if self._at >= len(self._words):
            raise IdlError("the text ends in the middle of a definition")
        self._at += 1
        return self._words[self._at - 1]

    def _peek(self) -> str:
        return self._words[self._at] if self._at < len(self._words) else ""

    def _accept(self, text: str) -> bool:
        found = self._peek() == text
        self._at += found
        return found

    def _expect(self, text: str) -> None:
        found = self._take()
        if found != text:
            self._fail(f"expected {text!r}, found {found!r}")

    def _fail(self, complaint: str) -> NoReturn:
        """Complains about the token taken last."""
        position = _position(self._text, self._at - 1)
        raise IdlError(f"line {_line(self._text, position)}: {complaint}")

    def _value(self) -> int:
        word = self._take()
        if word in self._constants:
            return self._constants[word]
        try:
            return int(word, 0)
        except ValueError:
            self._fail(f"{word!r} is neither a number nor a constant defined above")

    def _name(self) -> str:
        word = self._take()
        if not word.isidentifier():
            self._fail(f"{word!r} is not a name")
        return word

    def _add_constant(self, name: str, value: int) -> None:
        if name in self._constants:
            self._fail(f"{name} is defined twice")
        self._constants[name] = value

    def _add_type(self, definition: Definition) -> None:
        if definition.name in self._types:
            self._fail(f"{definition.name} is defined twice")
        self._types[definition.name] = definition

    def _const(self) -> None:
        name = self._name()
        self._expect("=")
        self._add_constant(name, self._value())

    def _enum(self) -> None:
        name = self._name()
        self._expect("{")
        members = [self._member()]
        while self._accept(","):
            members.append(self._member())
        self._expect("}")
        self._add_type(EnumType(name, tuple(members)))

    def _member(self) -> EnumMember:
        name = self._name()
        comment = self._annotations.get(self._at - 1, "")
        self._expect("=")
        value = self._value()
        self._add_constant(name, value)
        return EnumMember(name, value, _annotations(comment))

    def _struct(self) -> None:
        name = self._name()
        self._expect("{")
        fields = []
        while not self._accept("}"):
            fields.append(self._declaration())
            self._expect(";")
        self._add_type(Struct(name, tuple(fields)))

    def _union(self) -> None:
        name = self._name()
        self._expect("switch")
        self._expect("(")
        discriminant = self._declaration()
        self._expect(")")
        self._expect("{")
        arms: dict[int, Declaration | None] = {}
        while not self._accept("}"):
            self._arm(arms)
        self._add_type(Union(name, discriminant, arms))

    def _arm(self, arms: dict[int, Declaration | None]) -> None:
        self._expect("case")
        value = self._value()
        self._expect(":")
        arms[value] = None if self._accept("void") else self._declaration()
        self._expect(";")

    def _typedef(self) -> None:
        declaration = self._declaration()
        self._add_type(Typedef(declaration.name, declaration))

    def _declaration(self) -> Declaration:
        type_name = self._type_name()
        if self._accept("*"):
            return Declaration(_python_name(self._name()), type_name, Shape.OPTIONAL)
        name = _python_name(self._name())
        if self._peek() not in _ARRAY_SHAPES:
            return Declaration(name, type_name)
        shape, end = _ARRAY_SHAPES[self._take()]
        size = None if shape is Shape.VARIABLE_ARRAY and self._peek() == end else self._value()
        self._expect(end)
        return Declaration(name, type_name, shape, size)

    def _type_name(self) -> str:
        word = self._name()
        if word != "unsigned":
            return word
        if self._peek() in _UNSIGNED_BASES:
            return f"unsigned {self._take()}"
        return "unsigned int"
