"""Flag rules of the public API, once for all drivers: what a call knows, excludes and requires.

libvirt checks combinations in its public entry points and unknown bits in the driver; both answer
VIR_ERR_INVALID_ARG, with different error domains. This module knows no driver.
"""

from enum import IntFlag

import msgspec

from virtbackupd.drivers.enums import (
    BackupBegin,
    CheckpointCreate,
    CheckpointDelete,
    CheckpointList,
    CheckpointXml,
    Create,
    JobStats,
    Undefine,
    XmlFlags,
)
from virtbackupd.drivers.errors import Origin, UnsupportedFlags


class FlagRules(msgspec.Struct, frozen=True):
    """The rules of one call; `function` is named in the refusal."""

    function: str
    known: int
    origin: Origin = Origin.DOMAIN
    exclusive: tuple[tuple[IntFlag, IntFlag], ...] = ()
    required: tuple[tuple[IntFlag, IntFlag], ...] = ()
    """Pairs (flag, what it needs beside it)."""

    def check_combination(self, flags: int) -> None:
        """Refuse pairs that contradict each other (the public entry point's part)."""
        for one, other in self.exclusive:
            if flags & one and flags & other:
                raise UnsupportedFlags(
                    f"flags {one.name} and {other.name} exclude each other in {self.function}",
                    origin=self.origin,
                )
        for flag, needed in self.required:
            if flags & flag and not flags & needed:
                raise UnsupportedFlags(
                    f"flag {flag.name} needs flag {needed.name} in {self.function}",
                    origin=self.origin,
                )

    def check_known(self, flags: int) -> None:
        """Refuse bits the driver does not know (the driver's part).

        The complement of an IntFlag holds named bits only, hence the plain number.
        """
        if unknown := flags & ~int(self.known):
            raise UnsupportedFlags(f"unsupported flags 0x{unknown:x} in {self.function}")

    def check(self, flags: int) -> None:
        """Combinations first, then unknown bits, as libvirt does."""
        self.check_combination(flags)
        self.check_known(flags)


CHECKPOINT_CREATE = FlagRules(
    "virDomainCheckpointCreateXML",
    CheckpointCreate.REDEFINE | CheckpointCreate.REDEFINE_VALIDATE,
    Origin.DOMAIN_CHECKPOINT,
    exclusive=((CheckpointCreate.REDEFINE, CheckpointCreate.QUIESCE),),
    required=((CheckpointCreate.REDEFINE_VALIDATE, CheckpointCreate.REDEFINE),),
)
CHECKPOINT_XML = FlagRules(
    "virDomainCheckpointGetXMLDesc",
    CheckpointXml.SECURE | CheckpointXml.NO_DOMAIN | CheckpointXml.SIZE,
    Origin.DOMAIN_CHECKPOINT,
)
CHECKPOINT_LIST = FlagRules(
    "virDomainListAllCheckpoints",
    CheckpointList.ROOTS
    | CheckpointList.TOPOLOGICAL
    | CheckpointList.LEAVES
    | CheckpointList.NO_LEAVES,
    Origin.DOMAIN_CHECKPOINT,
)
CHECKPOINT_CHILDREN = FlagRules(
    "virDomainCheckpointListAllChildren", CHECKPOINT_LIST.known, CHECKPOINT_LIST.origin
)
CHECKPOINT_DELETE = FlagRules(
    "virDomainCheckpointDelete",
    CheckpointDelete.CHILDREN | CheckpointDelete.METADATA_ONLY | CheckpointDelete.CHILDREN_ONLY,
    Origin.DOMAIN_CHECKPOINT,
    exclusive=((CheckpointDelete.CHILDREN, CheckpointDelete.CHILDREN_ONLY),),
)
BACKUP_BEGIN = FlagRules(
    "virDomainBackupBegin", BackupBegin.REUSE_EXTERNAL | BackupBegin.PRESERVE_SHUTDOWN_DOMAIN
)
JOB_STATS = FlagRules(
    "virDomainGetJobStats",
    JobStats.COMPLETED | JobStats.KEEP_COMPLETED,
    required=((JobStats.KEEP_COMPLETED, JobStats.COMPLETED),),
)
DOMAIN_XML = FlagRules(
    "virDomainGetXMLDesc",
    XmlFlags.SECURE | XmlFlags.INACTIVE | XmlFlags.UPDATE_CPU | XmlFlags.MIGRATABLE,
)
CREATE = FlagRules(
    "virDomainCreateWithFlags",
    Create.PAUSED
    | Create.AUTODESTROY
    | Create.BYPASS_CACHE
    | Create.FORCE_BOOT
    | Create.VALIDATE
    | Create.RESET_NVRAM,
)
UNDEFINE = FlagRules(
    "virDomainUndefineFlags",
    Undefine.MANAGED_SAVE
    | Undefine.SNAPSHOTS_METADATA
    | Undefine.NVRAM
    | Undefine.KEEP_NVRAM
    | Undefine.CHECKPOINTS_METADATA
    | Undefine.TPM
    | Undefine.KEEP_TPM,
)


def check_none(flags: int, function: str) -> None:
    """Refuse any flag in a call that defines none."""
    if flags:
        raise UnsupportedFlags(f"unsupported flags 0x{flags:x} in {function}")
