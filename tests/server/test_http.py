"""The small HTTP server: whole requests, routes, and a bound on everything a client may do."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import pytest
import trio
import trio.testing
from http_client import HttpClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from virtbackupd.server.http import HttpLimits, serve_http
from virtbackupd.server.http_routes import (
    HttpError,
    Request,
    Response,
    Router,
    json_response,
)
from virtbackupd.server.listeners import close_all, listen_tcp

Connect = Callable[[], Awaitable[HttpClient]]


async def echo(request: Request) -> Response:
    return json_response(
        {
            "query": request.query,
            "parts": request.parts,
            "body": request.body.decode(errors="replace"),
            "colour": request.headers.get("colour"),
        }
    )


async def broken(_: Request) -> Response:
    raise RuntimeError("a bug")


async def sleepy(_: Request) -> Response:
    await trio.sleep_forever()
    raise AssertionError


@asynccontextmanager
async def serving(limits: HttpLimits | None = None) -> AsyncIterator[Connect]:
    router = Router()
    router.add("GET", "/echo", echo)
    router.add("POST", "/echo", echo)
    router.add("GET", "/things/{thing}/parts/{part}", echo)
    router.add("GET", "/broken", broken)
    router.add("GET", "/sleepy", sleepy)
    listeners = listen_tcp("127.0.0.1", 0)
    try:
        async with AsyncExitStack() as stack, trio.open_nursery() as nursery:
            nursery.start_soon(partial(serve_http, listeners, router, limits))

            async def connect() -> HttpClient:
                stream = await trio.open_tcp_stream("127.0.0.1", listeners[0].port)
                return HttpClient(await stack.enter_async_context(stream))

            yield connect
            nursery.cancel_scope.cancel()
    finally:
        close_all(listeners)


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    async with serving() as found:
        yield found


@pytest.fixture
async def client(connect: Connect) -> HttpClient:
    return await connect()


async def test_a_request_reaches_its_handler(client: HttpClient) -> None:
    reply = await client.ask("POST", "/echo?a=1&b=%20x&a=2", b"hello", Colour="red")
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    assert reply.json == {
        "query": {"a": "2", "b": " x"},
        "parts": {},
        "body": "hello",
        "colour": "red",
    }


async def test_parts_of_the_path_are_unquoted(client: HttpClient) -> None:
    reply = await client.ask("GET", "/things/a%2Fb%20c/parts/%C3%A9")
    assert reply.json["parts"] == {"thing": "a/b c", "part": "é"}


async def test_a_connection_is_used_again(client: HttpClient) -> None:
    replies = [await client.ask("GET", "/echo") for _ in range(3)]
    assert [reply.status for reply in replies] == [200, 200, 200]


async def test_requests_in_one_go_are_answered_in_order(client: HttpClient) -> None:
    one = b"GET /echo?n=%d HTTP/1.1\r\nHost: localhost\r\n\r\n"
    await client.send(one % 1 + one % 2 + b"GET /echo?n=3 HTTP/1.0\r\n\r\n")
    data = await client.rest()
    assert [data.find(b'"n":"%d"' % number) > 0 for number in (1, 2, 3)] == [True] * 3
    assert data.find(b'"n":"1"') < data.find(b'"n":"2"') < data.find(b'"n":"3"')


async def test_a_body_in_chunks(client: HttpClient) -> None:
    await client.send(b"POST /echo HTTP/1.0\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhe")
    await client.send(b"llo")
    assert b'"body":"hello"' in await client.rest()


async def test_a_client_that_waits_for_leave_gets_it(client: HttpClient) -> None:
    await client.send(
        b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n"
        b"Expect: 100-continue\r\nConnection: close\r\n\r\n"
    )
    with trio.fail_after(60):
        assert (await client.stream.receive_some(100)).startswith(b"HTTP/1.1 100 ")
    await client.send(b"hello")
    assert b'"body":"hello"' in await client.rest()


async def test_an_unknown_path_lists_the_known(client: HttpClient) -> None:
    reply = await client.ask("GET", "/nothing")
    assert (reply.status, reply.json["error"]["code"]) == (404, "NotFound")
    assert "GET /echo, POST /echo, GET /things/{thing}/parts/{part}" in reply.complaint


async def test_another_method_is_told_which_are_taken(client: HttpClient) -> None:
    reply = await client.ask("DELETE", "/echo")
    assert (reply.status, reply.headers["allow"]) == (405, "GET, POST")


async def test_a_bug_of_ours_is_an_internal_error(
    client: HttpClient, caplog: pytest.LogCaptureFixture
) -> None:
    reply = await client.ask("GET", "/broken")
    assert (reply.status, reply.json["error"]["code"]) == (500, "InternalError")
    assert "RuntimeError: a bug" in caplog.text
    assert (await client.ask("GET", "/echo")).status == 200


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET /echo\r\n\r\n",
        b"GET /echo HTTP/1.1\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /echo HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n",
        b"GET /echo?" + b"a&" * 200 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
async def test_what_is_not_http_is_refused(client: HttpClient, data: bytes) -> None:
    await client.send(data)
    await client.stream.send_eof()
    assert (await client.rest()).startswith(b"HTTP/1.1 400 ")


async def test_too_long_headers_are_refused(client: HttpClient) -> None:
    await client.send(b"GET /echo HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 20_000)
    assert (await client.rest()).startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize(
    "data",
    [
        b"Content-Length: 101\r\n\r\n" + b"x" * 101,
        b"Transfer-Encoding: chunked\r\n\r\n65\r\n" + b"x" * 101,
        b"Content-Length: 99999999999999999999\r\n\r\n",
    ],
)
async def test_a_body_beyond_the_bound_is_refused(data: bytes) -> None:
    async with serving(HttpLimits(body_bytes=100)) as connect:
        client = await connect()
        await client.send(b"POST /echo HTTP/1.1\r\nHost: x\r\n" + data)
        reply = await client.receive()
        assert (reply.status, reply.complaint) == (413, "a body has at most 100 bytes")


async def test_a_body_that_does_not_come_is_given_up() -> None:
    async with serving(HttpLimits(body_seconds=0.05)) as connect:
        client = await connect()
        await client.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhe")
        assert (await client.receive()).status == 408


async def test_an_idle_connection_is_closed() -> None:
    async with serving(HttpLimits(idle_seconds=0.05)) as connect:
        client = await connect()
        assert await client.rest() == b""


async def test_a_handler_that_does_not_end_is_given_up() -> None:
    async with serving(HttpLimits(handler_seconds=0.05)) as connect:
        client = await connect()
        assert (await client.ask("GET", "/sleepy")).status == 504


async def test_connections_beyond_the_bound_wait_their_turn() -> None:
    async with serving(HttpLimits(connections=1)) as connect:
        first, second = await connect(), await connect()
        assert (await first.ask("GET", "/echo")).status == 200
        await second.send(b"GET /echo HTTP/1.0\r\n\r\n")
        await trio.testing.wait_all_tasks_blocked()
        await first.stream.aclose()
        assert (await second.rest()).startswith(b"HTTP/1.1 200 ")


async def test_a_client_that_leaves_half_way_harms_nobody(connect: Connect) -> None:
    client = await connect()
    await client.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhe")
    await client.stream.aclose()
    assert (await (await connect()).ask("GET", "/echo")).status == 200


async def test_a_check_refuses_before_any_handler() -> None:
    def check(_: Request) -> None:
        raise HttpError(403, "Forbidden", "no")

    router = Router(check)
    router.add("GET", "/", echo)
    with pytest.raises(HttpError, match="no"):
        await router.answer(Request("GET", "/", {}, {}, b""))


METHODS = st.sampled_from([b"GET", b"HEAD", b"POST", b"CONNECT", b"\0"])
TARGETS = st.sampled_from([b"/echo", b"/%ff?%zz=&&", b"*", b"http://x/echo", b"//["])
HEADERS = st.sampled_from(
    [
        b"Host: x", b"Content-Length: 3", b"Content-Length: x", b"Transfer-Encoding: chunked",
        b"Expect: 100-continue", b"Connection: close", b"Upgrade: h2c", b"A: \xff", b"A", b"A:\0",
    ]
)  # fmt: skip
BODIES = st.sampled_from([b"", b"abc", b"ab", b"3\r\nabc\r\n0\r\n\r\n", b"ffffffffffffffffff\r\n"])


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None,
    max_examples=300,
)
@given(
    method=METHODS,
    target=TARGETS,
    version=st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2"]),
    headers=st.lists(HEADERS, max_size=4),
    body=st.one_of(BODIES, st.binary()),
)
async def test_any_bytes_are_answered_or_the_connection_ends(
    connect: Connect,
    caplog: pytest.LogCaptureFixture,
    method: bytes,
    target: bytes,
    version: bytes,
    headers: list[bytes],
    body: bytes,
) -> None:
    client = await connect()
    first = b" ".join((method, target, version))
    await client.send(b"\r\n".join((first, *headers, b"", body)))
    await client.stream.send_eof()
    answer = await client.rest()
    assert not answer or answer.startswith(b"HTTP/1.1 ")
    assert "a bug of ours" not in caplog.text


async def test_head_is_answered_without_a_body(client: HttpClient) -> None:
    reply = await client.ask("HEAD", "/echo")
    assert (reply.status, reply.body) == (405, b"")
    assert (await client.ask("GET", "/echo")).status == 200
