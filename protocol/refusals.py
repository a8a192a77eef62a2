"""The calls that the wire itself refuses, whatever the server can do.

Pure: a call in, the procedure with its arguments or the refusal out. What a driver, a missing
authentication or a read-only connection refuses is decided in the server.
"""

from typing import Any

from virtbackupd.protocol.errors import RPC_DOMAIN, RPC_ERROR, RemoteError, XdrError
from virtbackupd.protocol.message import Request, Status
from virtbackupd.protocol.procedures import Procedure
from virtbackupd.protocol.schema import Schema


def resolve(schema: Schema, call: Request) -> Procedure | RemoteError:
    """The procedure a call names. An event's number cannot be called."""
    if schema.versions.get(call.program) != call.version:
        return unknown_program(call)
    procedure = schema.by_number.get((call.program, call.procedure))
    if procedure is None or procedure.is_event:
        return unknown_procedure(call)
    if call.status != Status.OK:
        return unexpected_status(call)
    return procedure


def arguments(procedure: Procedure, call: Request) -> tuple[Any, ...] | RemoteError:
    try:
        return procedure.decode_args(call.payload)
    except XdrError as error:
        return undecodable(error)


def unknown_program(call: Request) -> RemoteError:
    return rpc_error(f"Cannot find program {call.program:#x} version {call.version}")


def unknown_procedure(call: Request) -> RemoteError:
    """Stock clients look for these very words, and then act as on an older server."""
    return rpc_error(f"unknown procedure: {call.procedure}")


def unexpected_status(call: Request) -> RemoteError:
    return rpc_error(f"Unexpected message status {call.status}: a call carries {Status.OK:d}")


def undecodable(error: XdrError) -> RemoteError:
    return rpc_error(f"Unable to decode message payload of {error}")


def rpc_error(text: str) -> RemoteError:
    return RemoteError(RPC_ERROR, RPC_DOMAIN, text)
