"""One caller of the administration socket: frames in, answers out, one after the other.

Callers are few and trusted with the whole daemon, so nothing here is hurried; but each wait has an
end, and a broken frame ends the connection. Knows no call by name.
"""

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from inspect import isawaitable
from typing import Final

import trio

from virtbackupd.drivers.errors import DriverError
from virtbackupd.drivers.events import TypedParameter
from virtbackupd.protocol import message, refusals, schema
from virtbackupd.protocol.connection import ServerConnection
from virtbackupd.protocol.errors import ProtocolError, RemoteError, XdrEncodeError
from virtbackupd.protocol.message import (
    Call,
    Incoming,
    KeepalivePing,
    Request,
    error_reply,
    reply,
)
from virtbackupd.server import errors
from virtbackupd.server.admin.calls import CALLS
from virtbackupd.server.admin.house import House

log = logging.getLogger(__name__)

RECEIVE_SIZE: Final = 65_536
SEND_LIMIT: Final = 30.0
"""Seconds for an answer to be taken."""
REFUSE_LIMIT: Final = 2.0
"""Seconds for a call that is only refused."""
_CLOSE: Final = "CONNECT_CLOSE"


async def refuse(stream: trio.SocketStream, reason: str) -> None:
    """Answer the first call, so that its caller learns why nothing comes after it."""
    connection = ServerConnection()
    connection.authenticated = True
    with (
        trio.move_on_after(REFUSE_LIMIT),
        suppress(ProtocolError, trio.BrokenResourceError, trio.ClosedResourceError),
    ):
        while chunk := await stream.receive_some(RECEIVE_SIZE):
            for incoming in connection.receive_data(bytes(chunk)):
                if isinstance(incoming, Call):
                    await stream.send_all(error_reply(incoming, refusals.rpc_error(reason)))
                    return


@dataclass(slots=True, eq=False)
class AdminClient:
    """Serves one socket. Satisfies `Connected`."""

    stream: trio.SocketStream
    house: House
    number: int
    since: float
    about: Sequence[TypedParameter]
    _scope: trio.CancelScope | None = None

    transport = 0
    anonymous = False

    def facts(self) -> Sequence[TypedParameter]:
        return self.about

    def give_up(self, reason: str) -> None:
        log.info("closing administration connection %d: %s", self.number, reason)
        if self._scope is not None:
            self._scope.cancel()

    async def serve(self) -> None:
        """Returns when the caller has gone, or has broken the protocol."""
        connection = ServerConnection()
        connection.authenticated = True
        with trio.CancelScope() as self._scope:
            try:
                await self._converse(connection)
            except ProtocolError as error:
                log.info("closing administration connection %d: %s", self.number, error)
            except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError) as error:
                log.debug("administration connection %d broke: %s", self.number, error)

    async def _converse(self, connection: ServerConnection) -> None:
        while chunk := await self.stream.receive_some(RECEIVE_SIZE):
            for incoming in connection.receive_data(bytes(chunk)):
                answer, last = await self._answer(incoming)
                with trio.fail_after(SEND_LIMIT):
                    await self.stream.send_all(answer)
                if last:
                    return

    async def _answer(self, incoming: Incoming) -> tuple[bytes, bool]:
        """What is sent back, if anything, and whether it is the last."""
        if isinstance(incoming, KeepalivePing):
            return message.pong(), False
        if not isinstance(incoming, Call):
            return b"", False
        found = refusals.resolve(schema.load_admin(), incoming)
        if isinstance(found, RemoteError):
            return error_reply(incoming, found), False
        args = refusals.arguments(found, incoming)
        if isinstance(args, RemoteError):
            return error_reply(incoming, args), False
        return await self._call(incoming, found.name, args), found.name == _CLOSE

    async def _call(self, call: Request, name: str, args: tuple[object, ...]) -> bytes:
        try:
            result = CALLS[name](self.house, args)
            if isawaitable(result):
                result = await result
            return reply(call, schema.load_admin().by_name[name].encode_ret(result))
        except DriverError as error:
            return error_reply(call, errors.refusal(error))
        except XdrEncodeError as error:
            log.error("%s: the result does not fit the wire: %s", name, error)
            return error_reply(call, errors.too_large(name, str(error)))
        except Exception:
            log.exception("%s: a bug of ours", name)
            return error_reply(call, errors.bug())
