"""A domain that is not there, for rules to look into as if it were.

Refusing what does not exist has to take about as long as refusing what is hidden: rules that look
into a domain find nothing here. Knows no rule.
"""

from virtbackupd.drivers.errors import NoDomainMetadata
from virtbackupd.drivers.events import DomainRef
from virtbackupd.drivers.interface import Domain

NIL = bytes(16)
"""The UUID of nothing."""


class AbsentDomain(Domain):
    """Has no metadata, and answers no other question."""

    def __init__(self) -> None:
        self.ref = DomainRef("", NIL, -1)

    def get_metadata(self, type: int, uri: str | None, flags: int) -> str:  # noqa: A002, ARG002
        raise NoDomainMetadata(f"domain {self.ref.name} has no element of that kind")


ABSENT = AbsentDomain()
"""One is enough: it never changes."""
