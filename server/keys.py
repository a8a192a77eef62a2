"""What a key of the configuration is: the kinds of values, and what there is to say about a key.

A key is declared once, as a field of a settings struct: its type says what is allowed, its default
what holds without it, and its `About` the rest. Reading, `config show` and the page of all keys
follow from that. Knows no single key.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Annotated, Literal, NamedTuple, TypeAlias, get_type_hints

import msgspec


class Allowed(NamedTuple):
    """The values a type takes, for people: follows "give"."""

    text: str


class Checked(NamedTuple):
    """What its type does not tell of a value."""

    check: Callable[[str], None]
    """Raises ValueError with what is wrong."""


class About(NamedTuple):
    """What the page of all keys says about one."""

    group: str
    text: str
    default: str = ""
    """What holds without the key, where the value itself does not tell."""
    ours: bool = False
    """Not a key of libvirtd.conf."""
    no_effect: str = ""
    """Why the key is taken and changes nothing; empty when it is honoured."""
    option: str = ""
    """The option of `serve` that wins over the key."""
    secret: bool = False
    """Its value is shown nowhere."""


class Key(NamedTuple):
    """A row of the table of keys."""

    name: str
    allowed: str
    default: object
    about: About
    check: Callable[[str], None] | None = None


_LEVEL_NAMES = Literal["debug", "info", "warning", "error"]
_OUTPUT = r"[1-4]:(stderr|journald|file:/[^ ]+|syslog:[^ ]+)"
_UUID = r"[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}"

_MOST = 2**63 - 1
"""libvirt's numbers have 64 bits; one of hundreds of digits is no time that can be waited."""


def _check_priority(text: str) -> None:
    from virtbackupd.server.tls_priority import parse_priority  # noqa: PLC0415 - rarely given

    parse_priority(text)


Flag: TypeAlias = Annotated[bool | Literal[0, 1], Allowed("0 or 1")]
Positive: TypeAlias = Annotated[
    int, msgspec.Meta(ge=1, le=_MOST), Allowed("a whole number of at least 1")
]
Count: TypeAlias = Annotated[
    int, msgspec.Meta(ge=0, le=_MOST), Allowed("a whole number of at least 0")
]
Interval: TypeAlias = Annotated[
    int, msgspec.Meta(ge=-1, le=_MOST), Allowed("a whole number of seconds, or -1 for never")
]
Text: TypeAlias = Annotated[str, Allowed("a text in quotes")]
_TEXTS = Allowed('a list of texts, such as ["one", "two"]')
Texts: TypeAlias = Annotated[list[str], _TEXTS]
MaybeTexts: TypeAlias = Annotated[list[str] | None, _TEXTS]
Priority: TypeAlias = Annotated[
    str,
    Checked(_check_priority),
    Allowed(
        "a priority string of GnuTLS of what OpenSSL can do, such as"
        ' "SECURE256:-VERS-ALL:+VERS-TLS1.3"'
    ),
]
PathText: TypeAlias = Annotated[str, Allowed("a path in quotes")]
Port: TypeAlias = Annotated[
    str,
    msgspec.Meta(pattern=r"^[A-Za-z0-9-]+$"),
    Allowed('the number of a port or the name of a service, in quotes, such as "16509"'),
]
Mode: TypeAlias = Annotated[
    str,
    msgspec.Meta(pattern=r"^0?[0-7]{3}$"),
    Allowed('the permissions in octal, in quotes, such as "0770"'),
]
UnixAuth: TypeAlias = Annotated[
    Literal["none", "sasl", "polkit"], Allowed('"none", "sasl" or "polkit"')
]
NetworkAuth: TypeAlias = Annotated[Literal["none", "sasl"], Allowed('"none" or "sasl"')]
Level: TypeAlias = Annotated[
    Annotated[int, msgspec.Meta(ge=1, le=4)] | _LEVEL_NAMES,
    Allowed('1 to 4, or "debug", "info", "warning" or "error"'),
]
LogFilters: TypeAlias = Annotated[
    str,
    msgspec.Meta(pattern=r"^ *([1-4]:[^ ]+( +|$))*$"),
    Allowed('LEVEL:MATCH pairs with blanks between them, LEVEL from 1 to 4, such as "1:qemu"'),
]
LogOutputs: TypeAlias = Annotated[
    str,
    msgspec.Meta(pattern=rf"^ *({_OUTPUT}( +|$))*$"),
    Allowed(
        "LEVEL:OUTPUT with blanks between them, LEVEL from 1 to 4, OUTPUT one of stderr, journald,"
        " file:/PATH and syslog:NAME"
    ),
]
LogFormat: TypeAlias = Annotated[Literal["text", "json"], Allowed('"text" or "json"')]
AuditLevel: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2), Allowed("0, 1 or 2")]
HostUuid: TypeAlias = Annotated[
    str,
    msgspec.Meta(pattern=rf"^(?!(.)(\1|-)*$){_UUID}$|^$"),
    Allowed("a UUID whose digits are not all the same, in quotes"),
]
UuidSource: TypeAlias = Annotated[
    Literal["smbios", "machine-id"], Allowed('"smbios" or "machine-id"')
]
AccessDrivers: TypeAlias = Annotated[
    list[Literal["nop", "polkit"]], Allowed('a list of "nop" and "polkit"')
]


@lru_cache(maxsize=8)
def table(settings: type[msgspec.Struct]) -> tuple[Key, ...]:
    """The keys of a settings struct in the order in which they are declared."""
    return tuple(_rows(settings))


def _rows(settings: type[msgspec.Struct]) -> Iterator[Key]:
    hints = get_type_hints(settings, include_extras=True)
    for field in msgspec.structs.fields(settings):
        notes = getattr(hints[field.name], "__metadata__", ())
        about = next((note for note in notes if isinstance(note, About)), None)
        if about is not None:
            allowed = [note.text for note in notes if isinstance(note, Allowed)]
            check = next((note.check for note in notes if isinstance(note, Checked)), None)
            yield Key(field.name, allowed[-1], _default(field), about, check)


def _default(field: msgspec.structs.FieldInfo) -> object:
    if field.default is not msgspec.NODEFAULT:
        return field.default
    return field.default_factory() if field.default_factory is not msgspec.NODEFAULT else None
