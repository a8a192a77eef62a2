"""The control endpoint: control commands, the domains and the transcript over HTTP, as JSON.

Off unless asked for. It has no passwords, so it answers only on this machine unless told otherwise,
and nothing that a web page in a browser of this machine can send. Knows no command.
"""

from collections.abc import Awaitable
from functools import cached_property
from typing import TYPE_CHECKING, Final, TypeVar
from uuid import UUID

import msgspec

from virtbackupd.drivers import errors as driver_errors
from virtbackupd.drivers.enums import DomainState
from virtbackupd.drivers.errors import DriverError, NoDomain
from virtbackupd.drivers.interface import Answer, Driver
from virtbackupd.server import errors, openapi
from virtbackupd.server.http import HttpLimits, serve_http
from virtbackupd.server.http_local import refuse_pages, refuse_strangers
from virtbackupd.server.http_routes import (
    JSON,
    HttpError,
    Request,
    Response,
    Router,
    json_response,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from virtbackupd.drivers.events import DomainRef
    from virtbackupd.server.listeners import Listener
    from virtbackupd.server.services import Services

T = TypeVar("T")

_STATUS: Final[dict[type[DriverError], int]] = {
    driver_errors.NoDomain: 404,
    driver_errors.InvalidArgument: 400,
    driver_errors.XmlError: 400,
    driver_errors.Unsupported: 404,
    driver_errors.InternalError: 500,
    driver_errors.SystemFailure: 500,
}
_DIGITS: Final = 18
"""Of a number in a query; far longer ones are more work to read than a request is worth."""
_CONFLICT: Final = 409
"""Of all other refusals: the request makes sense, but not in this state."""


async def serve_control(
    listeners: "Sequence[Listener]", services: "Services", *, anywhere: bool
) -> None:
    """Serve until cancelled; `anywhere` is whether requests may name any host of ours."""
    bounds = HttpLimits(connections=services.limits.max_control_clients)

    def full() -> None:
        services.limits.reached["max_control_clients"] += 1

    router = ControlEndpoint(services, anywhere=anywhere).router
    await serve_http(listeners, router, bounds, full)


class ControlEndpoint:
    """The routes of one daemon."""

    def __init__(self, services: "Services", *, anywhere: bool) -> None:
        self._services = services
        self._driver = _controlled(services.drivers.each())
        self.router = Router(refuse_pages if anywhere else refuse_strangers)
        self.router.add("GET", "/healthz", self._health)
        self.router.add("GET", "/openapi.json", self._openapi)
        self.router.add("GET", "/domains", self._domains)
        self.router.add("GET", "/transcript", self._transcript)
        self.router.add("POST", "/control/{command}", self._command)
        self.router.add("POST", "/domains/{domain}/control/{command}", self._command)

    async def _health(self, _: Request) -> Response:
        return json_response({"status": "ok"})

    async def _openapi(self, _: Request) -> Response:
        return Response(self._description)

    @cached_property
    def _description(self) -> bytes:
        return msgspec.json.encode(openapi.describe(self._driver.control_commands()))

    async def _domains(self, _: Request) -> Response:
        try:
            refs = await _settled(self._driver.list_all_domains(0))
            return json_response({"domains": [await self._domain(ref) for ref in refs]})
        except DriverError as error:
            return _refusal(error)

    async def _domain(self, ref: "DomainRef") -> dict[str, object]:
        state, _ = await _settled(self._driver.domain_by_uuid(ref.uuid).get_state(0))
        return {
            "name": ref.name,
            "uuid": str(UUID(bytes=ref.uuid)),
            "id": ref.id if ref.id >= 0 else None,
            "state": DomainState(state).name.lower(),
        }

    async def _transcript(self, request: Request) -> Response:
        transcript = self._services.transcript
        if transcript is None:
            raise HttpError(404, "NoTranscript", "no transcript is kept: serve with --transcript")
        after = request.query.get("after", "0")
        if not (after.isascii() and after.isdecimal() and len(after) <= _DIGITS):
            raise HttpError(400, "InvalidArgument", f"after: {after!r} is not a number")
        return json_response({"last": transcript.count, "entries": transcript.entries(int(after))})

    async def _command(self, request: Request) -> Response:
        name, domain = request.parts["command"], request.parts.get("domain")
        arguments = _arguments(request)
        try:
            uuid = None if domain is None else await self._uuid(domain)
            result = await _settled(self._driver.control(uuid, name, arguments))
        except DriverError as error:
            known = name in self._driver.control_commands()
            return _refusal(error, None if known else 404)
        return json_response(result)

    async def _uuid(self, domain: str) -> bytes:
        """Of a domain by name or by UUID, whichever there is."""
        try:
            return (await _settled(self._driver.domain_lookup_by_name(domain))).uuid
        except NoDomain:
            try:
                uuid = UUID(domain).bytes
            except ValueError:
                uuid = None
            if uuid is None:
                raise
            return (await _settled(self._driver.domain_lookup_by_uuid(uuid))).uuid


async def _settled(answer: Answer[T]) -> T:
    return await answer if isinstance(answer, Awaitable) else answer


def _controlled(drivers: "Sequence[Driver]") -> Driver:
    """The first driver with control commands, or else the first."""
    return next((driver for driver in drivers if driver.control_commands()), drivers[0])


def _refusal(error: DriverError, status: int | None = None) -> Response:
    found = (_STATUS[base] for base in type(error).__mro__ if base in _STATUS)
    body = {
        "code": type(error).__name__,
        "message": error.message,
        "libvirt": errors.refusal(error).code,
    }
    return json_response({"error": body}, status or next(found, _CONFLICT))


def _arguments(request: Request) -> object:
    """The decoded body; HttpError unless it says that it is JSON, and is."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not request.body and not kind:
        return {}
    if kind != JSON:
        raise HttpError(415, "NotJson", f"the body must be of Content-Type {JSON}, not {kind!r}")
    try:
        arguments = msgspec.json.decode(request.body or b"{}")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HttpError(400, "NotJson", f"the body is not JSON: {error}") from None
    if not isinstance(arguments, dict):
        raise HttpError(400, "InvalidArgument", "the body must be a JSON object of arguments")
    return arguments
