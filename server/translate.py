"""Wire values to driver calls and back, by the types of the IDL, both directions side by side.

A row of the table is compiled once into two functions. Whether a method's Python types agree with
the IDL is checked then, so that a mistake in a row stops the daemon at start and no client ever
meets it. This module knows no single procedure.
"""

import types
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias, get_args, get_origin

from virtbackupd.drivers.events import DomainRef, SecretRef, TypedParameter
from virtbackupd.drivers.interface import Domain, Driver
from virtbackupd.protocol.idl import Declaration, Shape
from virtbackupd.protocol.message import Request
from virtbackupd.protocol.procedures import Procedure
from virtbackupd.server.session import Session

Wire: TypeAlias = tuple[Any, ...]
Result: TypeAlias = Any
"""What a driver answers, or an awaitable of it; the row's types are checked against the IDL."""
Handler: TypeAlias = Callable[[Session, Wire, Request], Result]
"""Arguments as decoded to the driver's answer, or to an awaitable of it."""
Encoder: TypeAlias = Callable[[Result, Wire], Wire]
"""The driver's answer and the arguments to the fields of the result."""
Method: TypeAlias = Callable[..., Any]

DOMAIN = "remote_nonnull_domain"
CHECKPOINT = "remote_nonnull_domain_checkpoint"
SNAPSHOT = "remote_nonnull_domain_snapshot"
_NAMED = (CHECKPOINT, SNAPSHOT)
"""A name within a domain, with that domain."""
_HIDDEN = "remote_nonnull_secret"
_DOMAIN_UUID = 1
_NAME, _DOMAIN = 0, 1

_NUMBERS = frozenset(
    f"{sign}{size}" for sign in ("", "unsigned ") for size in ("char", "short", "int", "hyper")
)
_PYTHON_TYPES: dict[str, tuple[object, ...]] = {
    "bool": (bool,),
    "double": (float,),
    "string": (str,),
    "remote_nonnull_string": (str,),
    "remote_string": (str | None,),
    "remote_nonnull_string[]": (list[str],),
    "remote_uuid": (bytes,),
    "opaque[]": (bytes,),
    "char[]": (bytes,),
    "remote_typed_param[]": (Sequence[TypedParameter],),
    DOMAIN: (DomainRef,),
    CHECKPOINT: (str,),
    SNAPSHOT: (str,),
    _HIDDEN: (SecretRef, bytes),
}


class TableError(Exception):
    """A row does not fit the IDL: our own mistake, found at start."""


def compile_handler(procedure: Procedure, method: Method) -> Handler:
    """How to call `method` with the procedure's decoded arguments."""
    fields = procedure.args.fields if procedure.args else ()
    of_domain = _owner(method) is Domain
    wanted = list(_parameters(method).values())
    receiver = fields[0].type_name if fields else ""
    taken = _check_receiver(procedure, receiver, of_domain=of_domain)
    _check_types(procedure, [_wire_name(field) for field in fields[taken:]], wanted)
    return _calling(method.__name__, receiver, of_domain=of_domain)


def compile_encoder(procedure: Procedure, method: Method) -> Encoder:
    """How to make the result's fields from what `method` returns."""
    fields = procedure.ret.fields if procedure.ret else ()
    names = [_wire_name(field) for field in fields]
    _check_types(procedure, names, _result_types(method, len(fields)))
    if not fields:
        return _nothing
    if len(names) == 1 and names[0] in _NAMED:
        return _named
    if len(fields) == 1:
        return _typed_params_only if names[0] == "remote_typed_param[]" else _single
    return _fields_with_params if "remote_typed_param[]" in names else _as_it_is


def typed_params(params: Sequence[TypedParameter]) -> list[tuple[str, tuple[int, Any]]]:
    """A union on the wire: the kind comes before the value."""
    return [(field, (kind, value)) for field, kind, value in params]


def _owner(method: Method) -> type[Domain] | type[Driver]:
    return Domain if method.__qualname__.startswith("Domain.") else Driver


def _parameters(method: Method) -> dict[str, object]:
    notes = dict(method.__annotations__)
    notes.pop("return")
    return notes


def _check_receiver(procedure: Procedure, receiver: str, *, of_domain: bool) -> int:
    """How many of the wire's arguments name the receiver and nothing else."""
    if of_domain and receiver not in {DOMAIN, *_NAMED}:
        raise TableError(f"{procedure.name} has no domain to call a method of")
    return 1 if of_domain and receiver == DOMAIN else 0


def _calling(name: str, receiver: str, *, of_domain: bool) -> Handler:
    if of_domain and receiver == DOMAIN:
        return _on_domain(name)
    if of_domain:
        return _on_named(name)
    return _on_secret(name) if receiver == _HIDDEN else _on_driver(name)


def _on_domain(name: str) -> Handler:
    def call(session: Session, args: Wire, _request: Request) -> Result:
        domain = session.driver.domain_by_uuid(args[0][_DOMAIN_UUID])
        return getattr(domain, name)(*args[1:])

    return call


def _on_named(name: str) -> Handler:
    """A checkpoint or snapshot is called by its name within its domain."""

    def call(session: Session, args: Wire, _request: Request) -> Result:
        receiver = args[0]
        domain = session.driver.domain_by_uuid(receiver[_DOMAIN][_DOMAIN_UUID])
        return getattr(domain, name)(receiver[_NAME], *args[1:])

    return call


def _on_secret(name: str) -> Handler:
    def call(session: Session, args: Wire, _request: Request) -> Result:
        return getattr(session.driver, name)(args[0][0], *args[1:])

    return call


def _on_driver(name: str) -> Handler:
    def call(session: Session, args: Wire, _request: Request) -> Result:
        return getattr(session.driver, name)(*args)

    return call


def _nothing(_result: Result, _args: Wire) -> Wire:
    return ()


def _single(result: Result, _args: Wire) -> Wire:
    return (result,)


def _as_it_is(result: Result, _args: Wire) -> Wire:
    fields: Wire = result
    return fields


def _named(name: str, args: Wire) -> Wire:
    """The domain comes back as the client named it."""
    first = args[0]
    domain = first[_DOMAIN] if isinstance(first[_DOMAIN], tuple) else first
    return ((name, domain),)


def _typed_params_only(result: Sequence[TypedParameter], _args: Wire) -> Wire:
    return (typed_params(result),)


def _fields_with_params(result: Wire, _args: Wire) -> Wire:
    """Typed parameters come last in every such result."""
    return (*result[:-1], typed_params(result[-1]))


def _wire_name(field: Declaration) -> str:
    many = field.shape in {Shape.FIXED_ARRAY, Shape.VARIABLE_ARRAY} and field.type_name != "string"
    return f"{field.type_name}[]" if many else field.type_name


def _result_types(method: Method, count: int) -> list[object]:
    """The types of the result's fields as the method promises them."""
    promised = _without_awaitable(method.__annotations__["return"])
    if promised is None or promised is types.NoneType:
        return []
    if count > 1:
        return _field_types(promised)
    return [promised]


def _field_types(promised: object) -> list[object]:
    if get_origin(promised) is tuple:
        return list(get_args(promised))
    return list(getattr(promised, "__annotations__", {}).values())


def _without_awaitable(answer: object) -> object:
    """`Answer[T]` is T or an awaitable of T."""
    for option in get_args(answer):
        if get_origin(option) is Awaitable:
            return get_args(option)[0]
    return answer


def _check_types(procedure: Procedure, wire: list[str], python: list[object]) -> None:
    if len(wire) != len(python):
        raise TableError(f"{procedure.name}: {wire} on the wire, {python} in the driver interface")
    for name, promised in zip(wire, python, strict=True):
        if not _agree(name, promised):
            raise TableError(f"{procedure.name}: {promised} cannot stand for {name}")


def _agree(wire: str, python: object) -> bool:
    if wire in _NUMBERS:
        return isinstance(python, type) and issubclass(python, int)
    return any(python == known for known in _PYTHON_TYPES.get(wire, ()))
