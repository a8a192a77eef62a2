"""What is only possible while a domain is not needed: undefining and renaming it.

Undefining a running domain makes it transient; nothing here stops anything.
"""

from typing import TYPE_CHECKING

from virtbackupd.drivers.enums import DefinedDetail, Lifecycle, UndefinedDetail
from virtbackupd.drivers.flags import UNDEFINE, check_none
from virtbackupd.drivers.undefine_rules import require_renamable, require_undefinable

if TYPE_CHECKING:
    from virtbackupd.drivers.memory.domain import MemoryDomain


def undefine(domain: "MemoryDomain", flags: int) -> None:
    """Make an active domain transient; let an inactive one go, unless it has what must be named."""
    UNDEFINE.check(flags)
    require_undefinable(domain, flags)
    domain.saved = None
    domain.persistent = None
    domain.autostart = False
    domain.publish(Lifecycle.UNDEFINED, UndefinedDetail.REMOVED)
    if not domain.active:
        domain.forget()


def rename(domain: "MemoryDomain", new_name: str | None, flags: int) -> int:
    """Give an inactive domain another name; its checkpoints stay with it."""
    check_none(flags, "virDomainRename")
    name, old = require_renamable(domain, new_name), domain.ref
    domain.host.domains.rename(domain, name)
    domain.persistent = domain.definition.with_name(name)
    renamed, domain.ref = domain.ref, old
    domain.publish(Lifecycle.UNDEFINED, UndefinedDetail.RENAMED)
    domain.ref = renamed
    domain.publish(Lifecycle.DEFINED, DefinedDetail.RENAMED)
    return 0
