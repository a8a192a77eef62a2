"""The metrics over HTTP, in the text format of Prometheus; only for programs of this machine.

Off unless asked for. Numbers are gathered in the daemon's thread, and the text is made in another,
which is also where the library for it is loaded. Knows no single metric.
"""

from collections.abc import Sequence
from functools import partial
from typing import Final

import trio

from virtbackupd.server.http import serve_http
from virtbackupd.server.http_local import refuse_strangers
from virtbackupd.server.http_routes import Request, Response, Router
from virtbackupd.server.listeners import Listener
from virtbackupd.server.metrics import Metric, Sources, gather

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


async def serve_metrics(listeners: Sequence[Listener], sources: Sources) -> None:
    """Serve until cancelled; the sockets are the caller's."""
    await serve_http(listeners, metrics_router(sources))


def metrics_router(sources: Sources) -> Router:
    """The one route there is."""
    router = Router(refuse_strangers)
    at_once = trio.CapacityLimiter(1)

    async def metrics(_: Request) -> Response:
        text = partial(_text, gather(sources))
        return Response(await trio.to_thread.run_sync(text, limiter=at_once), 200, CONTENT_TYPE)

    router.add("GET", "/metrics", metrics)
    return router


def _text(metrics: Sequence[Metric]) -> bytes:
    # Loading takes longer than all the rest of the start; nobody waits for it before somebody asks.
    from virtbackupd.server.metrics_text import exposition  # noqa: PLC0415

    return exposition(metrics)
