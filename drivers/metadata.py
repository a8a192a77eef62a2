"""Title, description and metadata elements, in the live and the persistent definition.

Their place in the document is the definition's business.
"""

from collections.abc import Callable
from enum import IntEnum
from typing import NamedTuple, Protocol, TypeAlias, assert_never

from virtbackupd.drivers.definitions.domain import DomainDefinition
from virtbackupd.drivers.errors import InvalidArgument, NoDomainMetadata, OperationInvalid, Origin
from virtbackupd.drivers.events import DomainMetadataChange, DomainRef, EventBus
from virtbackupd.drivers.flags import FlagRules

_LIVE = 1
_CONFIG = 2
_GET = FlagRules("virDomainGetMetadata", _LIVE | _CONFIG)
_SET = FlagRules("virDomainSetMetadata", _LIVE | _CONFIG)
Edit: TypeAlias = Callable[[DomainDefinition], DomainDefinition]


class Described(Protocol):
    """A domain as it is seen from here."""

    ref: DomainRef
    events: EventBus
    persistent: DomainDefinition | None
    live: DomainDefinition | None

    @property
    def active(self) -> bool: ...

    @property
    def definition(self) -> DomainDefinition: ...

    def require_active(self) -> None: ...


class Request(NamedTuple):
    """The arguments of `virDomainSetMetadata`."""

    type: int
    metadata: str | None
    key: str | None
    uri: str | None
    flags: int


class Change(NamedTuple):
    """The definitions that a request makes; None where it leaves one alone."""

    live: DomainDefinition | None
    persistent: DomainDefinition | None


class MetadataType(IntEnum):
    """virDomainMetadataType."""

    DESCRIPTION = 0
    TITLE = 1
    ELEMENT = 2


def get_metadata(domain: Described, type_: int, uri: str | None, flags: int) -> str:
    """What is stored, or NoDomainMetadata."""
    _GET.check(flags)
    kind = _kind(type_)
    definition = _one_definition(domain, flags)
    match kind:
        case MetadataType.DESCRIPTION:
            found = definition.description
        case MetadataType.TITLE:
            found = definition.title
        case MetadataType.ELEMENT:
            found = definition.metadata(_required(uri, "namespace URI"))
        case _:
            assert_never(kind)
    if found is None:
        raise NoDomainMetadata(f"domain {domain.ref.name} has no {kind.name.lower()} of that kind")
    return found


def plan_metadata(domain: Described, request: Request) -> Change:
    """What a change or, with None, a removal makes of the definitions that it is about."""
    _SET.check(request.flags)
    edit = _edit(_kind(request.type), request.metadata, request.key, request.uri)
    live, config = _affected(domain, request.flags)
    return Change(edit(live) if live else None, edit(config) if config else None)


def apply_metadata(domain: Described, request: Request, change: Change) -> None:
    """Put a plan into force and tell the world."""
    domain.live = change.live or domain.live
    domain.persistent = change.persistent or domain.persistent
    domain.events.publish(DomainMetadataChange(domain.ref, request.type, request.uri))


def _kind(type_: int) -> MetadataType:
    try:
        return MetadataType(type_)
    except ValueError:
        raise InvalidArgument(
            f"{type_} is no type of metadata; known are 0, 1 and 2", origin=Origin.DOMAIN
        ) from None


def _edit(kind: MetadataType, text: str | None, key: str | None, uri: str | None) -> Edit:
    match kind:
        case MetadataType.DESCRIPTION:
            return lambda definition: definition.with_description(text)
        case MetadataType.TITLE:
            return lambda definition: definition.with_title(_one_line(text))
        case MetadataType.ELEMENT:
            prefix = _required(key, "key") if text is not None else ""
            space = _required(uri, "namespace URI")
            return lambda definition: definition.with_metadata(space, prefix, text)
        case _:
            assert_never(kind)


def _one_line(title: str | None) -> str | None:
    if title is not None and "\n" in title:
        raise InvalidArgument("a title must be a single line", origin=Origin.DOMAIN)
    return title


def _required(value: str | None, what: str) -> str:
    if not value:
        raise InvalidArgument(f"a metadata element needs a {what}", origin=Origin.DOMAIN)
    return value


def _affected(
    domain: Described, flags: int
) -> tuple[DomainDefinition | None, DomainDefinition | None]:
    """The live and the persistent definition that flags mean, after libvirt's AFFECT rules."""
    if not flags & (_LIVE | _CONFIG):
        flags = _LIVE if domain.active else _CONFIG
    if flags & _LIVE:
        domain.require_active()
    if flags & _CONFIG and domain.persistent is None:
        raise OperationInvalid(
            f"domain {domain.ref.name} is transient and has no persistent definition"
        )
    return (
        domain.live if flags & _LIVE else None,
        domain.persistent if flags & _CONFIG else None,
    )


def _one_definition(domain: Described, flags: int) -> DomainDefinition:
    if flags == _LIVE | _CONFIG:
        raise InvalidArgument("ask for the live or the persistent metadata, not for both")
    live, config = _affected(domain, flags)
    return live or config or domain.definition
