"""A driver as one client may see it: what is hidden from it does not exist.

Only calls that find or list objects are here; a call on an object has been checked before. Knows
no procedure and no rule.
"""

from collections.abc import Callable, Sequence
from typing import Any

from virtbackupd.drivers.errors import NoDomain
from virtbackupd.drivers.events import DomainRef, SecretRef
from virtbackupd.drivers.interface import Answer, DomainStatsRecord, Driver
from virtbackupd.server.access.control import Steps, Verdict, run

SeesDomain = Callable[[DomainRef], Verdict]
SeesSecret = Callable[[SecretRef], Verdict]


class DriverView:
    """Stands for `driver` in a call; `sees` decides about each object that would come out."""

    def __init__(self, driver: Driver, sees_domain: SeesDomain, sees_secret: SeesSecret) -> None:
        self._driver = driver
        self._sees_domain = sees_domain
        self._sees_secret = sees_secret

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the driver has
        return getattr(self._driver, name)

    def list_all_domains(self, flags: int) -> Answer[Sequence[DomainRef]]:
        found: Answer[Sequence[DomainRef]] = run(
            _seen(self._driver.list_all_domains(flags), self._sees_domain)
        )
        return found

    def list_all_secrets(self, flags: int) -> Answer[Sequence[SecretRef]]:
        found: Answer[Sequence[SecretRef]] = run(
            _seen(self._driver.list_all_secrets(flags), self._sees_secret)
        )
        return found

    def get_all_domain_stats(
        self, domains: Sequence[bytes], stats: int, flags: int
    ) -> Answer[Sequence[DomainStatsRecord]]:
        found: Answer[Sequence[DomainStatsRecord]] = run(self._stats(domains, stats, flags))
        return found

    def _stats(
        self, domains: Sequence[bytes], stats: int, flags: int
    ) -> Steps[list[DomainStatsRecord]]:
        """Nothing is asked of a machine whose figures would be thrown away."""
        refs = yield from self._asked(domains)
        if not refs:
            return []
        uuids = [ref.uuid for ref in refs]
        records = yield self._driver.get_all_domain_stats(uuids, stats, flags)
        return list(records)

    def _asked(self, domains: Sequence[bytes]) -> Steps[list[DomainRef]]:
        if not domains:
            return (yield from _seen(self._driver.list_all_domains(0), self._sees_domain))
        asked = [self._ref(uuid) for uuid in domains]
        seen = yield from _seen(asked, self._sees_domain)
        return [ref for ref in seen if ref.name]

    def _ref(self, uuid: bytes) -> DomainRef:
        """Without a name when there is none: to be decided about all the same, as if hidden."""
        try:
            return self._driver.domain_by_uuid(uuid).ref
        except NoDomain:
            return DomainRef("", uuid, -1)


def _seen(found: object, sees: Callable[[Any], Verdict]) -> Steps[list[Any]]:
    kept = []
    for ref in (yield found):
        if (yield sees(ref)):
            kept.append(ref)
    return kept
