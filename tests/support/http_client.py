"""A small HTTP client over a Trio stream, for what well-behaved clients never send, too."""

from dataclasses import dataclass
from typing import Any

import h11
import msgspec
import trio

from virtbackupd.server.listeners import Listener

PATIENCE = 60.0


@dataclass(frozen=True)
class Reply:
    """A response that was received whole."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:  # noqa: ANN401 - as JSON says it
        return msgspec.json.decode(self.body)

    @property
    def complaint(self) -> str:
        message: str = self.json["error"]["message"]
        return message


async def connect_to(listener: Listener) -> trio.SocketStream:
    """By its Unix socket, or else by its port on the loopback address."""
    if listener.path is not None:
        return await trio.open_unix_socket(str(listener.path))
    return await trio.open_tcp_stream("127.0.0.1", listener.port)


class HttpClient:
    """One connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._http = h11.Connection(h11.CLIENT)

    async def ask(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        /,
        host: str = "localhost",
        **headers: str,
    ) -> Reply:
        """Send one request; underscores in names of headers stand for dashes."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        fields = [("Host", host), ("Content-Length", str(len(body))), *named.items()]
        head = h11.Request(method=method, target=path, headers=fields)
        events = (head, h11.Data(data=body), h11.EndOfMessage())
        await self.stream.send_all(b"".join(self._http.send(event) or b"" for event in events))
        reply = await self.receive()
        if self._http.our_state is self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        return reply

    async def post(self, path: str, arguments: object = None, **headers: str) -> Reply:
        """Send arguments as JSON."""
        body = msgspec.json.encode(arguments or {})
        return await self.ask("POST", path, body, Content_Type="application/json", **headers)

    async def send(self, data: bytes) -> None:
        """Send bytes that need not be HTTP."""
        await self.stream.send_all(data)

    async def receive(self) -> Reply:
        """The next response, whoever asked for it."""
        head, body = None, bytearray()
        with trio.fail_after(PATIENCE):
            while True:
                event = self._http.next_event()
                if event is h11.NEED_DATA:
                    self._http.receive_data(await self.stream.receive_some(65536))
                elif isinstance(event, h11.Response):
                    head = event
                elif isinstance(event, h11.Data):
                    body += event.data
                elif isinstance(event, h11.EndOfMessage):
                    break
                else:
                    assert isinstance(event, h11.InformationalResponse), event
        assert head is not None
        headers = {name.decode(): value.decode() for name, value in head.headers}
        return Reply(head.status_code, headers, bytes(body))

    async def rest(self) -> bytes:
        """What comes until the server closes the connection."""
        data = bytearray()
        with trio.fail_after(PATIENCE):
            while chunk := await self.stream.receive_some(65536):
                data += chunk
        return bytes(data)
