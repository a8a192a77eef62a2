"""What HTTP endpoints are made of: requests, responses, refusals, and a table of routes.

Knows neither sockets nor the protocol.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, NamedTuple
from urllib.parse import unquote

import msgspec

JSON: Final = "application/json"


class Request(NamedTuple):
    """One request; names of headers are in lower case, parts of the path are unquoted."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    parts: Mapping[str, str] = {}
    """What the braces in the route's pattern stand for."""


class Response(NamedTuple):
    """One answer."""

    body: bytes
    status: int = 200
    content_type: str = JSON
    headers: Sequence[tuple[str, str]] = ()


class HttpError(Exception):
    """A request that is refused; `code` is a word for programs, the text is for people."""

    def __init__(
        self, status: int, code: str, message: str, headers: Sequence[tuple[str, str]] = ()
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = headers


Handler = Callable[[Request], Awaitable[Response]]


class Router:
    """Which handler answers which method and path."""

    def __init__(self, check: Callable[[Request], None] | None = None) -> None:
        """`check` may refuse any request with an HttpError before its handler is looked for."""
        self._check = check
        self._routes: list[tuple[str, tuple[str, ...], Handler]] = []

    def add(self, method: str, pattern: str, handler: Handler) -> None:
        """A part of the pattern in braces stands for anything: /domains/{domain}."""
        self._routes.append((method, _split(pattern), handler))

    async def answer(self, request: Request) -> Response:
        """HttpError when nothing answers the request, or as the handler refuses."""
        if self._check is not None:
            self._check(request)
        allowed: list[str] = []
        for method, pattern, handler in self._routes:
            parts = _matched(pattern, _split(request.path))
            if parts is not None and method == request.method:
                return await handler(request._replace(parts=parts))
            if parts is not None:
                allowed.append(method)
        raise self._unanswered(request, allowed)

    def _unanswered(self, request: Request, allowed: Sequence[str]) -> HttpError:
        if allowed:
            names = ", ".join(allowed)
            message = f"{request.path} does not take {request.method}, but {names}"
            return HttpError(405, "MethodNotAllowed", message, [("Allow", names)])
        known = ", ".join(f"{method} /{'/'.join(parts)}" for method, parts, _ in self._routes)
        return HttpError(404, "NotFound", f"there is no {request.path}; known are: {known}")


def _split(path: str) -> tuple[str, ...]:
    return tuple(path.strip("/").split("/"))


def _matched(pattern: Sequence[str], parts: Sequence[str]) -> dict[str, str] | None:
    if len(pattern) != len(parts):
        return None
    found: dict[str, str] = {}
    for expected, given in zip(pattern, parts, strict=True):
        if expected.startswith("{"):
            found[expected[1:-1]] = unquote(given)
        elif expected != given:
            return None
    return found


def json_response(value: object, status: int = 200) -> Response:
    """Any value that JSON can say."""
    return Response(msgspec.json.encode(value), status)


def error_response(error: HttpError) -> Response:
    """How every refusal looks."""
    body = {"error": {"code": error.code, "message": str(error)}}
    return json_response(body, error.status)._replace(headers=error.headers)
