"""A small HTTP/1.1 server: requests whole or not at all, and bounds on all that a client may do.

h11 knows the protocol, this module the sockets and the time. It is meant for endpoints with few
clients, each of which gets its answer in one piece. Knows no route and no driver.
"""

import logging
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qsl, urlsplit

import h11
import trio

from virtbackupd.server.http_routes import (
    HttpError,
    Request,
    Response,
    Router,
    error_response,
)
from virtbackupd.server.listeners import Listener, accept_forever

log = logging.getLogger(__name__)

_CHUNK: Final = 65_536


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """How much one endpoint takes from its clients."""

    connections: int = 32
    """Served at once; who comes then waits in the kernel's queue."""
    header_bytes: int = 16_384
    body_bytes: int = 8 << 20
    idle_seconds: float = 30
    """Until the headers of the next request are there."""
    body_seconds: float = 30
    handler_seconds: float = 120
    send_seconds: float = 30
    linger_seconds: float = 2
    """How long a refused body is still taken, so that its sender comes to read why."""


@dataclass(frozen=True, slots=True)
class _Seats:
    """Satisfies `listeners.Limit`; tells when somebody has to wait for a place."""

    free: trio.Semaphore
    full: Callable[[], None]

    async def acquire(self) -> None:
        if not self.free.value:
            self.full()
        await self.free.acquire()

    def release(self) -> None:
        self.free.release()


def _no_one_is_told() -> None:
    """For endpoints whose crowds nobody counts."""


async def serve_http(
    listeners: Sequence[Listener],
    router: Router,
    limits: HttpLimits | None = None,
    full: Callable[[], None] = _no_one_is_told,
) -> None:
    """Serve until cancelled; the sockets are the caller's. `full`: a client has to wait."""
    bounds = limits or HttpLimits()
    limit = _Seats(trio.Semaphore(bounds.connections), full)
    async with trio.open_nursery() as nursery:

        def handle(accepted: socket.socket, _: Listener) -> None:
            nursery.start_soon(_serve, accepted, router, bounds, limit.release)

        for listener in listeners:
            nursery.start_soon(partial(accept_forever, listener, limit, handle))


async def _serve(
    accepted: socket.socket, router: Router, limits: HttpLimits, gone: Callable[[], None]
) -> None:
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(accepted))
    try:
        async with stream:
            await _Connection(stream, router, limits).serve()
    except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
        log.debug("HTTP client lost: %s", error)
    except Exception:
        log.exception("a bug of ours ended an HTTP connection")
    finally:
        gone()


class _Gone(Exception):
    """The client has left, or does not go on."""


class _Connection:
    """One client's requests, one after the other."""

    def __init__(self, stream: trio.SocketStream, router: Router, limits: HttpLimits) -> None:
        self._stream = stream
        self._router = router
        self._limits = limits
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.header_bytes)
        self._method = ""

    async def serve(self) -> None:
        """Until the client leaves, is idle for too long, or breaks the protocol."""
        try:
            while await self._exchange():
                self._http.start_next_cycle()
        except _Gone:
            return

    async def _exchange(self) -> bool:
        """Answer one request; False when the connection has to end."""
        try:
            request = await self._receive()
        except h11.RemoteProtocolError as error:
            status = error.error_status_hint or 400
            await self._refuse(HttpError(status, "BadRequest", f"not HTTP: {error}"))
            return False
        except HttpError as error:
            await self._refuse(error)
            return False
        await self._send(await self._answer(request))
        return self._http.our_state is h11.DONE and self._http.their_state is h11.DONE

    async def _refuse(self, error: HttpError) -> None:
        """Answer a request that was not taken whole, and end the connection."""
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            raise _Gone
        response = error_response(error)
        await self._send(response._replace(headers=[*response.headers, ("Connection", "close")]))
        await self._stream.send_eof()
        with trio.move_on_after(self._limits.linger_seconds):
            while await self._stream.receive_some(_CHUNK):
                continue

    async def _receive(self) -> Request:
        head = await self._head()
        with trio.move_on_after(self._limits.body_seconds):
            return _request(self._method, head, await self._body(head))
        raise HttpError(408, "Timeout", "the request did not come to its end in time")

    async def _head(self) -> h11.Request:
        self._method = ""
        with trio.move_on_after(self._limits.idle_seconds):
            head = await self._next_event()
            if isinstance(head, h11.Request):
                self._method = head.method.decode("ascii")
                return head
        raise _Gone

    async def _body(self, head: h11.Request) -> bytes:
        announced = dict(head.headers).get(b"content-length", b"0")
        self._check_size(int(announced))
        body = bytearray()
        if self._http.they_are_waiting_for_100_continue:
            proceed = h11.InformationalResponse(status_code=100, headers=[])
            await self._stream.send_all(self._http.send(proceed) or b"")
        while isinstance(event := await self._next_event(), h11.Data):
            body += event.data
            self._check_size(len(body))
        if not isinstance(event, h11.EndOfMessage):
            raise _Gone
        return bytes(body)

    def _check_size(self, size: int) -> None:
        if size > self._limits.body_bytes:
            most = self._limits.body_bytes
            raise HttpError(413, "TooLarge", f"a body has at most {most} bytes")

    async def _next_event(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(await self._stream.receive_some(_CHUNK))
        return event

    async def _answer(self, request: Request) -> Response:
        try:
            with trio.fail_after(self._limits.handler_seconds):
                return await self._router.answer(request)
        except HttpError as error:
            return error_response(error)
        except trio.TooSlowError:
            seconds = self._limits.handler_seconds
            message = f"no answer after {seconds:.0f} seconds: the request was given up"
            return error_response(HttpError(504, "Timeout", message))
        except Exception:
            log.exception("%s %s: a bug of ours", request.method, request.path)
            message = "the daemon met a bug of its own; its log has the details"
            return error_response(HttpError(500, "InternalError", message))

    async def _send(self, response: Response) -> None:
        head = h11.Response(
            status_code=response.status,
            reason=HTTPStatus(response.status).phrase.encode("ascii"),
            headers=[
                ("Content-Type", response.content_type),
                ("Content-Length", str(len(response.body))),
                ("Cache-Control", "no-store"),
                ("X-Content-Type-Options", "nosniff"),
                *response.headers,
            ],
        )
        # RFC 9110 section 9.3.2: headers that answer HEAD speak of a body that is not sent.
        body = b"" if self._method == "HEAD" else response.body
        events = (head, h11.Data(data=body), h11.EndOfMessage())
        data = b"".join(self._http.send(event) or b"" for event in events)
        with trio.move_on_after(self._limits.send_seconds):
            await self._stream.send_all(data)
            return
        raise _Gone


def _request(method: str, head: h11.Request, body: bytes) -> Request:
    try:
        url = urlsplit(head.target.decode("ascii"))
        query = dict(parse_qsl(url.query, keep_blank_values=True, max_num_fields=100))
    except ValueError as error:
        raise HttpError(400, "BadRequest", f"the target makes no sense: {error}") from None
    headers: dict[str, str] = {}
    for name, value in head.headers:
        key, text = name.decode("ascii"), value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return Request(method, url.path, query, headers, body)
