"""Which domain a document is about, before anything else in it is looked at."""

from uuid import UUID

from virtbackupd.drivers.definitions.document import parse_document


def named_in(xml: str) -> tuple[str, bytes]:
    """The name and the UUID as given; empty where there is none, or none that can be read."""
    root = parse_document(xml, "domain")
    name, uuid = root.findtext("name") or "", root.findtext("uuid") or ""
    try:
        return name, UUID(uuid.strip()).bytes
    except ValueError:
        return name, b""
