"""What a fault can do, as a table: each effect, where it can be asked for, and what it takes.

Only descriptions; who carries an effect out is not known here.
"""

from enum import Enum
from typing import Annotated, Final, Literal

import msgspec

LONGEST: Final = 1_000_000.0
LARGEST: Final = 1 << 62

Seconds = Annotated[float, msgspec.Meta(ge=0, le=LONGEST)]
Byte = Annotated[int, msgspec.Meta(ge=0, le=LARGEST)]
Count = Annotated[int, msgspec.Meta(ge=1, le=LARGEST)]
At = Literal["before", "after"]


class Point(Enum):
    """Where a rule is asked; the value is the key of `match` that says so."""

    CALL = "procedure"
    PHASE = "phase"
    NBD = "nbd"
    EVENT = "event"
    SPACE = "space"
    """Implied by the effect: something is about to be written."""
    DELETION = "deletion"
    """Implied by the effect: a checkpoint is deleted."""


PHASES: Final = {
    "begin": "the call is checked and holds the job, nothing is prepared yet",
    "prepared": "files are made and the NBD server listens; the instant comes next",
    "checkpoint": "the checkpoint is made, the disks are not frozen yet",
    "frozen": "the instant of all disks is taken, the job runs",
    "copying": "a batch of a push was written, or a read of a pull was asked for",
    "completing": "the last disk has ended, the job has not",
    "ended": "the job has ended and the event is out",
    "abort": "virDomainAbortJob was called",
}
"""Of a backup, in the order in which they come."""
WAITING_PHASES: Final = frozenset({"begin", "prepared"})
"""Those in which a delay is possible: the others are of one instant."""
DISK_PHASES: Final = frozenset({"copying"})
"""Those that are about one disk."""
BEFORE_EXPORT: Final = frozenset({"connect", "handshake"})
NBD_COMMANDS: Final = (
    "connect",
    "handshake",
    "read",
    "write",
    "flush",
    "trim",
    "cache",
    "write-zeroes",
    "block-status",
)
"""What comes in over NBD; the first two are before a disk is chosen."""
EVENTS: Final = (
    "lifecycle",
    "reboot",
    "io-error",
    "block-job",
    "job-completed",
    "device-added",
    "device-removed",
    "device-removal-failed",
    "agent-lifecycle",
    "metadata-change",
    "block-threshold",
    "secret-lifecycle",
    "secret-value-changed",
)
"""Named as `virsh event` names them."""
NBD_ERRORS: Final = {"EPERM": 1, "EIO": 5, "ENOMEM": 12, "EINVAL": 22, "ENOSPC": 28}


class Effect(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What all effects have in common: no unknown key is passed over."""


class CallError(Effect, frozen=True):
    """The call fails, before it took effect or after."""

    code: str | int
    domain: str | int | None = None
    level: Literal["warning", "error"] = "error"
    message: str | None = None
    at: At = "before"


class NbdError(Effect, frozen=True):
    """The command is refused."""

    code: Literal["EPERM", "EIO", "ENOMEM", "EINVAL", "ENOSPC"] = "EIO"
    message: str = "input/output error"


class Delay(Effect, frozen=True):
    """Everything takes longer, by the daemon's clock."""

    seconds: Seconds
    at: At = "before"


class CallDrop(Effect, frozen=True):
    """The client's connection ends without a reply."""

    at: At = "before"


class Hang(Effect, frozen=True):
    """No reply, until the client leaves or the domain stops; with `seconds`, an error then."""

    seconds: Seconds | None = None
    at: At = "before"


class NbdDrop(Effect, frozen=True):
    """The connection ends after so many bytes."""

    byte: Byte = 0


class NbdStall(Effect, frozen=True):
    """After so many bytes nothing more is sent."""

    byte: Byte = 0


class NbdCorrupt(Effect, frozen=True):
    """`count` bytes from byte `byte` on are sent inverted."""

    byte: Byte = 0
    count: Count = 1


class NoSpace(Effect, frozen=True):
    """From byte `byte` on there is no room."""

    on: Literal["scratch", "target"]
    byte: Byte = 0


class DeleteHalf(Effect, frozen=True):
    """The bitmaps of the first disks go, then the call fails; half of the disks unless said."""

    disks: Count | None = None
    message: str = "unable to execute QEMU command 'transaction': Input/output error"


class DomainEffect(Effect, frozen=True):
    """Something that happens to the domain itself."""

    at: At = "before"


class Kill(DomainEffect, frozen=True):
    """The QEMU process is killed."""


class Shutdown(DomainEffect, frozen=True):
    """The guest shuts itself down."""


class BitmapLose(DomainEffect, frozen=True):
    """The bitmaps of these checkpoints are gone from the disks."""

    checkpoint: str = "*"


class BitmapBreak(DomainEffect, frozen=True):
    """The bitmaps of these checkpoints are inconsistent."""

    checkpoint: str = "*"


class CheckpointLose(DomainEffect, frozen=True):
    """Somebody else deletes these checkpoints, with their bitmaps."""

    checkpoint: str = "*"


class Lose(Effect, frozen=True):
    """The event is not delivered."""


class Double(Effect, frozen=True):
    """The event is delivered twice."""


class Late(Effect, frozen=True):
    """The event is delivered after so many later ones, or so many seconds."""

    events: Count | None = None
    seconds: Seconds | None = None


class Reorder(Effect, frozen=True):
    """The event changes places with the next one."""


_CALL, _PHASE, _NBD, _EVENT = Point.CALL, Point.PHASE, Point.NBD, Point.EVENT
KINDS: Final[dict[str, dict[Point, type[Effect]]]] = {
    "error": {_CALL: CallError, _NBD: NbdError},
    "delay": {_CALL: Delay, _PHASE: Delay, _NBD: Delay},
    "drop": {_CALL: CallDrop, _NBD: NbdDrop},
    "hang": {_CALL: Hang},
    "stall": {_NBD: NbdStall},
    "corrupt": {_NBD: NbdCorrupt},
    "kill": {_CALL: Kill, _PHASE: Kill},
    "shutdown": {_CALL: Shutdown, _PHASE: Shutdown},
    "bitmap-lose": {_CALL: BitmapLose, _PHASE: BitmapLose},
    "bitmap-break": {_CALL: BitmapBreak, _PHASE: BitmapBreak},
    "checkpoint-lose": {_CALL: CheckpointLose, _PHASE: CheckpointLose},
    "no-space": {Point.SPACE: NoSpace},
    "delete-half": {Point.DELETION: DeleteHalf},
    "lose": {_EVENT: Lose},
    "double": {_EVENT: Double},
    "late": {_EVENT: Late},
    "reorder": {_EVENT: Reorder},
}
"""What a rule may ask for, and where. `kind` in the file chooses the row."""
IMPLIED: Final = frozenset({Point.SPACE, Point.DELETION})
"""Points that no key of `match` names, because only one effect goes there."""
ON_BITMAPS: Final = (BitmapLose, BitmapBreak)
"""Effects whose `disk` says what they change, not when."""
