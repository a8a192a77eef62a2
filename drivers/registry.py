"""The domains of one driver by UUID, name and id. Pure bookkeeping: it knows no hypervisor.

A domain's `ref` is written here and nowhere else, so that the three indexes and the name, UUID and
id that clients see cannot disagree.
"""

from collections.abc import Iterable, Iterator
from typing import Generic, Protocol, TypeVar
from uuid import UUID

from virtbackupd.drivers.errors import NoDomain, OperationFailed, OperationInvalid, Origin
from virtbackupd.drivers.events import DomainRef

INACTIVE = -1


class Registered(Protocol):
    """Whatever can be kept here."""

    ref: DomainRef


D = TypeVar("D", bound=Registered)


class DomainRegistry(Generic[D]):
    """Domains in the order in which they were added."""

    def __init__(self) -> None:
        self._by_uuid: dict[bytes, D] = {}
        self._by_name: dict[str, D] = {}
        self._by_id: dict[int, D] = {}
        self._last_id = 0

    def __iter__(self) -> Iterator[D]:
        return iter(self._by_uuid.values())

    def __len__(self) -> int:
        return len(self._by_uuid)

    def by_uuid(self, uuid: bytes) -> D:
        """The domain, or NoDomain."""
        found = self._by_uuid.get(uuid)
        if found is None:
            raise NoDomain.of_uuid(uuid)
        return found

    def maybe_by_uuid(self, uuid: bytes) -> D | None:
        """The domain, if there is one."""
        return self._by_uuid.get(uuid)

    def by_name(self, name: str) -> D:
        """The domain, or NoDomain."""
        found = self._by_name.get(name)
        if found is None:
            raise NoDomain.of_name(name)
        return found

    def by_id(self, id: int) -> D:  # noqa: A002 - libvirt's own word
        """The active domain, or NoDomain."""
        found = self._by_id.get(id)
        if found is None:
            raise NoDomain.of_id(id)
        return found

    def matching(self, name: str, uuid: bytes) -> D | None:
        """The domain that has both; OperationFailed when one of the two belongs to another."""
        found = self._by_uuid.get(uuid)
        if found is not None and found.ref.name != name:
            raise OperationFailed(
                f"UUID {UUID(bytes=uuid)} belongs to domain {found.ref.name!r}, not to {name!r}",
                origin=Origin.DOMAIN,
            )
        if found is None and (other := self._by_name.get(name)) is not None:
            raise OperationFailed(
                f"a domain named {name!r} exists already, with UUID {UUID(bytes=other.ref.uuid)}",
                origin=Origin.DOMAIN,
            )
        return found

    def add(self, domain: D) -> None:
        """Take in a domain whose name and UUID are free (see `matching`)."""
        self._by_uuid[domain.ref.uuid] = domain
        self._by_name[domain.ref.name] = domain

    def remove(self, domain: D) -> None:
        """Forget an inactive domain."""
        self._by_uuid.pop(domain.ref.uuid, None)
        self._by_name.pop(domain.ref.name, None)

    @property
    def last_id(self) -> int:
        """The last id that was given to a domain."""
        return self._last_id

    def restore(self, domains: Iterable[tuple[D, DomainRef]], last_id: int) -> None:
        """Have these domains under these names and ids, and no other; the rest become inactive."""
        for domain in self._by_id.values():
            domain.ref = domain.ref._replace(id=INACTIVE)
        self._by_uuid, self._by_name, self._by_id = {}, {}, {}
        self._last_id = last_id
        for domain, ref in domains:
            domain.ref = ref
            self.add(domain)
            if ref.id != INACTIVE:
                self._by_id[ref.id] = domain

    def has_name(self, name: str) -> bool:
        """Whether a domain has that name."""
        return name in self._by_name

    def activate(self, domain: D, known_id: int | None = None) -> None:
        """Give the domain the next id, or the one that it had already; none is used twice."""
        id_ = self._last_id + 1 if known_id is None else known_id
        self._last_id = max(self._last_id, id_)
        domain.ref = domain.ref._replace(id=id_)
        self._by_id[id_] = domain

    def deactivate(self, domain: D) -> None:
        """Take the id away."""
        self._by_id.pop(domain.ref.id, None)
        domain.ref = domain.ref._replace(id=INACTIVE)

    def rename(self, domain: D, name: str) -> None:
        """Give the domain another name; OperationInvalid when it is taken."""
        if name in self._by_name:
            raise OperationInvalid(f"a domain named {name!r} exists already, choose another name")
        del self._by_name[domain.ref.name]
        domain.ref = domain.ref._replace(name=name)
        self._by_name[name] = domain
