"""The `<secret>` document. The secret's value never passes through here."""

from uuid import UUID, uuid4

import msgspec
from lxml import etree

from virtbackupd.drivers.definitions.document import parse_document
from virtbackupd.drivers.definitions.tree import child_text
from virtbackupd.drivers.definitions.writer import attributes, element_line
from virtbackupd.drivers.errors import ConfigUnsupported, Origin, XmlError

_USAGE_ELEMENT = {
    "volume": "volume",
    "ceph": "name",
    "iscsi": "target",
    "tls": "name",
    "vtpm": "name",
}
"""The child of `<usage>` that says what the secret is for, by usage type."""

_BOOLEANS = {"yes": True, "no": False}


class SecretDefinition(msgspec.Struct, frozen=True):
    """`usage_type` is None for a secret that is only found by its UUID."""

    uuid: bytes
    ephemeral: bool = False
    private: bool = False
    description: str | None = None
    usage_type: str | None = None
    usage: str | None = None


class SecretName(msgspec.Struct, frozen=True):
    """How another document names a secret: by its UUID, or else by its usage."""

    uuid: str | None = None
    usage: str | None = None


def parse_secret(xml: str) -> SecretDefinition:
    root = parse_document(xml, "secret", origin=Origin.SECRET)
    usage_type, usage = _read_usage(root)
    return SecretDefinition(
        uuid=_read_uuid(child_text(root, "uuid")),
        ephemeral=_read_boolean(root, "ephemeral"),
        private=_read_boolean(root, "private"),
        description=child_text(root, "description"),
        usage_type=usage_type,
        usage=usage,
    )


def format_secret(definition: SecretDefinition) -> str:
    flags = attributes(
        (
            ("ephemeral", "yes" if definition.ephemeral else "no"),
            ("private", "yes" if definition.private else "no"),
        )
    )
    pieces = [f"<secret{flags}>\n", element_line(1, "uuid", str(UUID(bytes=definition.uuid)))]
    if definition.description:
        pieces.append(element_line(1, "description", definition.description))
    if definition.usage_type is not None and definition.usage is not None:
        tag = _USAGE_ELEMENT[definition.usage_type]
        start = f"  <usage{attributes((('type', definition.usage_type),))}>\n"
        pieces += [start, element_line(2, tag, definition.usage), "  </usage>\n"]
    pieces.append("</secret>\n")
    return "".join(pieces)


def _refusal(message: str) -> XmlError:
    return XmlError(message, origin=Origin.SECRET)


def _read_uuid(text: str | None) -> bytes:
    if text is None:
        return uuid4().bytes
    try:
        return UUID(text.strip()).bytes
    except ValueError:
        raise _refusal(f"the secret has the malformed UUID {text!r}") from None


def _read_boolean(root: etree._Element, name: str) -> bool:
    value = root.get(name, "no")
    if value not in _BOOLEANS:
        raise _refusal(f"the secret's {name} attribute is {value!r}, it must be 'yes' or 'no'")
    return _BOOLEANS[value]


def _read_usage(root: etree._Element) -> tuple[str | None, str | None]:
    usage = root.find("usage")
    if usage is None:
        return None, None
    usage_type = usage.get("type")
    if usage_type == "none":
        return None, None
    tag = _USAGE_ELEMENT.get(usage_type or "")
    if tag is None:
        raise ConfigUnsupported(
            f"the secret has the unknown usage type {usage_type!r}", origin=Origin.SECRET
        )
    value = child_text(usage, tag)
    if value is None:
        raise _refusal(f"a secret with usage type {usage_type!r} needs a <{tag}> in its <usage>")
    return usage_type, value
