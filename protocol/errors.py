"""Who is at fault on the wire, and the errors that travel over it.

A `ProtocolError` ends the connection. A `RemoteError` is a value, the refusal of one call, and
leaves the connection as it is. Codes that only drivers use are not known here.
"""

from dataclasses import dataclass

RPC_ERROR = 39
"""VIR_ERR_RPC: the call itself is at fault, whatever it asked for."""
RPC_DOMAIN = 7
"""VIR_FROM_RPC."""
LEVEL_ERROR = 2


class ProtocolError(Exception):
    """The peer broke the protocol in a way that nothing after it can be trusted: close."""


class TooLongError(ProtocolError):
    """A message is longer than is allowed."""


class XdrError(Exception):
    """Bytes that are not a value of the type; the call is refused, the connection stays."""


class XdrEncodeError(Exception):
    """A value of our own that does not fit its type: our bug, or a result over a limit."""


@dataclass(frozen=True, slots=True)
class RemoteError:
    """The refusal of a call as its caller sees it; the strings and integers are details."""

    code: int
    domain: int
    message: str
    level: int = LEVEL_ERROR
    str1: str | None = None
    str2: str | None = None
    str3: str | None = None
    int1: int = -1
    int2: int = -1
