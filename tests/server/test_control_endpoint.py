"""The control endpoint of a whole daemon with the in-memory hypervisor, over real sockets."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from http_client import HttpClient, connect_to

from virtbackupd.drivers.memory import open_driver
from virtbackupd.server.control_address import control_uris, listen_control
from virtbackupd.server.daemon import DaemonConfig, DriverChoice, serve
from virtbackupd.server.listeners import listen_unix
from virtbackupd.server.transcript import Entry, Transcript

UUID = "6695eb01-f6a4-8304-79aa-97f2502e193f"
WRITE = {"disk": "vda", "offset": 0, "length": 10, "byte": 1}


@asynccontextmanager
async def served(
    address: str = "0", *, anywhere: bool = False, transcript: Transcript | None = None
) -> AsyncIterator[HttpClient]:
    """A client of the control endpoint of a daemon of its own."""
    with tempfile.TemporaryDirectory(prefix="vb-") as name:
        folder = Path(name)
        address = address.replace("FOLDER", name)
        config = DaemonConfig(
            listen_unix(folder),
            [DriverChoice("test", "memory", open_driver)],
            folder,
            transcript=transcript,
            control=listen_control(address, anywhere=anywhere),
            control_anywhere=anywhere,
            calm_collector=False,
        )
        end = trio.Event()
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(serve, config, lambda: None, end.wait))
            async with await connect_to(config.control[0]) as stream:
                yield HttpClient(stream)
            end.set()


@pytest.fixture
async def client() -> AsyncIterator[HttpClient]:
    async with served() as found:
        yield found


async def test_health(client: HttpClient) -> None:
    assert (await client.ask("GET", "/healthz")).json == {"status": "ok"}


async def test_domains_are_listed(client: HttpClient) -> None:
    assert (await client.ask("GET", "/domains")).json == {
        "domains": [{"name": "test", "uuid": UUID, "id": 1, "state": "running"}]
    }


@pytest.mark.parametrize("domain", ["test", UUID])
async def test_a_domain_is_found_by_name_and_by_uuid(client: HttpClient, domain: str) -> None:
    reply = await client.post(f"/domains/{domain}/control/guest-write", WRITE)
    assert (reply.status, reply.json) == (200, {"written": 10})


async def test_a_command_without_domain(client: HttpClient) -> None:
    assert (await client.post("/control/clock")).json["mode"] == "running"


async def test_a_command_that_waits(client: HttpClient) -> None:
    reply = await client.post("/domains/test/control/checksum", {"disk": "vda"})
    assert reply.json["bytes"] == 64 << 20


async def test_a_command_without_arguments_needs_no_body(client: HttpClient) -> None:
    assert (await client.ask("POST", "/control/clock")).status == 200


async def test_the_world_is_reset_over_http(client: HttpClient) -> None:
    before = (await client.post("/domains/test/control/checksum", {"disk": "vda"})).json
    await client.post("/domains/test/control/guest-write", WRITE)
    assert (await client.post("/control/world-reset")).status == 200
    assert (await client.post("/domains/test/control/checksum", {"disk": "vda"})).json == before


@pytest.mark.parametrize(
    ("path", "arguments", "status", "code", "text"),
    [
        ("/control/dance", {}, 404, "UnknownCommand", "known are: bitmap-inconsistent, "),
        ("/domains/none/control/checksum", {"disk": "vda"}, 404, "NoDomain", "none"),
        (f"/domains/{UUID[:-1]}0/control/checksum", {"disk": "vda"}, 404, "NoDomain", UUID[:-1]),
        ("/control/checksum", {"disk": "vda"}, 400, "InvalidArgument", "name one"),
        ("/domains/test/control/checksum", {}, 400, "InvalidArgument", "`disk`"),
        ("/domains/test/control/checksum", {"disk": 5}, 400, "InvalidArgument", "$.disk"),
        ("/domains/test/control/checksum", {"disk": "vdz"}, 400, "InvalidArgument", "vda, vdb"),
        ("/domains/test/control/job-complete", {}, 409, "OperationInvalid", "no backup job"),
        ("/control/world-load", {"path": "/nonexistent/w"}, None, None, "/nonexistent/w"),
    ],
)
async def test_refusals(
    client: HttpClient,
    path: str,
    arguments: dict[str, Any],
    status: int | None,
    code: str | None,
    text: str,
) -> None:
    reply = await client.post(path, arguments)
    assert text in reply.complaint
    assert reply.json["error"]["libvirt"] > 0
    if status is not None:
        assert (reply.status, reply.json["error"]["code"]) == (status, code)


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{}", "text/plain", 415),
        (b"a=1", "application/x-www-form-urlencoded", 415),
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b'"x"', "application/json", 400),
        (b"\xff", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b"{}", "application/json; charset=utf-8", 200),
        (b"", "application/json", 200),
    ],
)
async def test_bodies(client: HttpClient, body: bytes, kind: str, status: int) -> None:
    assert (await client.ask("POST", "/control/clock", body, Content_Type=kind)).status == status


async def test_a_body_without_content_type_is_not_taken(client: HttpClient) -> None:
    assert (await client.ask("POST", "/control/clock", b"{}")).status == 415


@pytest.mark.parametrize("method", ["GET", "DELETE", "OPTIONS"])
async def test_commands_are_posted(client: HttpClient, method: str) -> None:
    reply = await client.ask(method, "/control/clock")
    assert (reply.status, reply.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize(
    "header",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-origin"},
    ],
    ids=str,
)
@pytest.mark.parametrize("path", ["/domains", "/openapi.json", "/nothing"])
async def test_requests_of_web_pages_are_refused(
    client: HttpClient, header: dict[str, str], path: str
) -> None:
    assert (await client.ask("GET", path, **header)).status == 403


async def test_a_web_page_changes_nothing(client: HttpClient) -> None:
    before = (await client.post("/domains/test/control/nbd-reads-clear")).status
    refused = await client.post("/control/clock-stop", Origin="http://evil.example")
    assert (before, refused.status) == (200, 403)
    assert (await client.post("/control/clock")).json["mode"] == "running"


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "192.0.2.1", "[::"]
)
async def test_another_name_for_this_machine_is_refused(client: HttpClient, host: str) -> None:
    reply = await client.ask("GET", "/domains", host=host)
    assert (reply.status, repr(host) in reply.complaint) == (403, True)


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8080", "127.0.0.1", "127.0.0.1:80", "[::1]:80", "[::1]"]
)
async def test_names_of_this_machine(client: HttpClient, host: str) -> None:
    assert (await client.ask("GET", "/healthz", host=host)).status == 200


async def test_any_name_is_taken_when_the_endpoint_is_meant_for_others() -> None:
    async with served("0.0.0.0:0", anywhere=True) as client:
        assert (await client.ask("GET", "/healthz", host="lab.example:80")).status == 200
        refused = await client.ask("GET", "/healthz", host="lab", Origin="http://evil.example")
        assert refused.status == 403


async def test_a_unix_socket() -> None:
    async with served("unix:FOLDER/control") as client:
        assert (await client.ask("GET", "/healthz")).status == 200


async def test_without_a_transcript_there_is_none(client: HttpClient) -> None:
    reply = await client.ask("GET", "/transcript")
    assert (reply.status, reply.json["error"]["code"]) == (404, "NoTranscript")


async def test_the_transcript_is_shown_from_a_number_on() -> None:
    transcript = Transcript()
    async with served(transcript=transcript) as client:
        for name in ("virDomainSuspend", "virDomainResume"):
            transcript._keep(
                Entry(
                    number=transcript.count + 1,
                    time=1.0,
                    clients=(1,),
                    name=name,
                    domain="test",
                    arguments="",
                )
            )
        found = (await client.ask("GET", "/transcript?after=1")).json
        assert (found["last"], [entry["name"] for entry in found["entries"]]) == (
            2,
            ["virDomainResume"],
        )


async def test_the_transcript_begins_at_a_number() -> None:
    async with served(transcript=Transcript()) as client:
        assert (await client.ask("GET", "/transcript?after=x")).status == 400


async def test_every_operation_of_the_description_is_there(client: HttpClient) -> None:
    description = (await client.ask("GET", "/openapi.json")).json
    assert description["openapi"].startswith("3.1")
    for path, operations in description["paths"].items():
        for method in operations:
            reply = await client.ask(
                method.upper(),
                path.replace("{domain}", "test"),
                b"{}" if method == "post" else b"",
                Content_Type="application/json",
            )
            assert reply.status in (200, 400, 409) or path == "/transcript", (path, reply)


async def test_every_command_is_described_with_its_arguments(client: HttpClient) -> None:
    description = (await client.ask("GET", "/openapi.json")).json
    schemas = description["components"]["schemas"]
    write = description["paths"]["/domains/{domain}/control/guest-write"]["post"]
    schema = write["requestBody"]["content"]["application/json"]["schema"]
    found = schemas[schema["$ref"].rpartition("/")[2]]
    assert found["required"] == ["disk", "offset"]
    assert found["additionalProperties"] is False
    assert found["properties"]["data"]["anyOf"][0]["contentEncoding"] == "base64"


async def test_every_reference_of_the_description_leads_somewhere(client: HttpClient) -> None:
    description = (await client.ask("GET", "/openapi.json")).json
    found = list(references(description))
    schemas = description["components"]["schemas"]
    assert found
    assert {reference.removeprefix("#/components/schemas/") for reference in found} <= set(schemas)


def references(document: object) -> list[str]:
    if isinstance(document, list):
        return [found for each in document for found in references(each)]
    if not isinstance(document, dict):
        return []
    own = [document["$ref"]] if "$ref" in document else []
    return own + [found for each in document.values() for found in references(each)]


async def test_operations_have_names_of_their_own(client: HttpClient) -> None:
    description = (await client.ask("GET", "/openapi.json")).json
    names = [
        operation["operationId"]
        for operations in description["paths"].values()
        for operation in operations.values()
    ]
    assert len(set(names)) == len(names)


def test_how_sockets_are_announced(tmp_path: Path) -> None:
    for address, uri in ((f"unix:{tmp_path}/c", f"unix:{tmp_path}/c"), ("0", "http://127.0.0.1:")):
        listeners = listen_control(address, anywhere=False)
        try:
            assert control_uris(listeners)[0].startswith(uri)
        finally:
            for listener in listeners:
                listener.close()
