"""The metrics of a whole daemon with the in-memory hypervisor, over real sockets."""

import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
import trio
from http_client import HttpClient, Reply, connect_to
from metrics_page import MetricsPage
from raw_client import RawClient

from virtbackupd.drivers.faults.engine import Faults
from virtbackupd.drivers.memory import open_driver
from virtbackupd.server.call_meter import CallMeter
from virtbackupd.server.config import ConfigError
from virtbackupd.server.control_address import listen_metrics
from virtbackupd.server.daemon import DaemonConfig, DriverChoice, serve
from virtbackupd.server.limits import Limits
from virtbackupd.server.listeners import close_all, listen_unix
from virtbackupd.server.services import Services

DOMAIN = ("test", bytes.fromhex("6695eb01f6a4830479aa97f2502e193f"), 1)
NOWHERE = ("nowhere", bytes(16), -1)
FAULT = """
[[faults]]
name = "broken-list"
match = { procedure = "virConnectListAllDomains" }
when = { times = 1 }
effect = { kind = "error", code = "RPC", domain = "RPC", message = "broken" }
"""


@dataclass
class Watched:
    """A daemon whose metrics are asked for."""

    services: Services
    socket: Path
    http: HttpClient
    clients: list[RawClient] = field(default_factory=list)

    async def ask(self, method: str = "GET", path: str = "/metrics", **headers: str) -> Reply:
        return await self.http.ask(method, path, **headers)

    async def page(self) -> MetricsPage:
        reply = await self.ask()
        assert reply.status == 200
        return MetricsPage(reply.body.decode())

    async def client(self) -> RawClient:
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(self.socket))
        self.clients.append(RawClient(sock))
        await self.clients[-1].open()
        return self.clients[-1]


@asynccontextmanager
async def watched(
    address: str = "0", faults: Faults | None = None, limits: Limits | None = None
) -> AsyncIterator[Watched]:
    with tempfile.TemporaryDirectory(prefix="vb-") as name:
        folder = Path(name)
        config = DaemonConfig(
            listen_unix(folder),
            [DriverChoice("test", "memory", open_driver)],
            folder,
            limits=limits or Limits(),
            faults=faults or Faults(),
            metrics=listen_metrics(address.replace("FOLDER", name)),
            calm_collector=False,
        )
        end = trio.Event()
        async with trio.open_nursery() as nursery:
            services: Services = await nursery.start(partial(serve, config, lambda: None, end.wait))
            async with await connect_to(config.metrics[0]) as stream:
                found = Watched(services, folder / "libvirt-sock", HttpClient(stream))
                yield found
                for client in found.clients:
                    client.close()
            end.set()


@pytest.fixture
async def daemon() -> AsyncIterator[Watched]:
    async with watched() as found:
        yield found


async def test_every_metric_is_ours_or_of_the_process(daemon: Watched) -> None:
    await (await daemon.client()).call("CONNECT_GET_LIB_VERSION")
    names = {name for name, _ in (await daemon.page()).series}
    assert {name for name in names if not name.startswith(("virtbackupd_", "process_"))} == set()
    assert {"process_cpu_seconds_total", "process_open_fds"} <= names


async def test_the_answer_says_which_format_it_is(daemon: Watched) -> None:
    headers = (await daemon.ask()).headers
    assert headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


async def test_answered_calls_are_counted(daemon: Watched) -> None:
    client = await daemon.client()
    for _ in range(3):
        await client.call("CONNECT_GET_LIB_VERSION")
    page = await daemon.page()
    assert page.value("calls_total", procedure="virConnectGetLibVersion", result="ok") == 3


async def test_refused_calls_are_counted_by_error(daemon: Watched) -> None:
    client = await daemon.client()
    await client.refused("DOMAIN_GET_STATE", NOWHERE, 0)
    await client.call("DOMAIN_GET_STATE", DOMAIN, 0)
    page, name = await daemon.page(), "virDomainGetState"
    assert page.value("calls_total", procedure=name, result="VIR_ERR_NO_DOMAIN") == 1
    assert page.value("calls_total", procedure=name, result="ok") == 1


async def test_the_histogram_of_a_procedure_counts_all_its_calls(daemon: Watched) -> None:
    client = await daemon.client()
    await client.refused("DOMAIN_GET_STATE", NOWHERE, 0)
    await client.call("DOMAIN_GET_STATE", DOMAIN, 0)
    page, name = await daemon.page(), "virDomainGetState"
    buckets = [
        value
        for (metric, labels), value in page.series.items()
        if metric == "virtbackupd_call_seconds_bucket" and ("procedure", name) in labels
    ]
    assert buckets == sorted(buckets)
    assert page.value("call_seconds_bucket", procedure=name, le="+Inf") == 2
    assert page.value("call_seconds_count", procedure=name) == 2
    assert 0 < page.value("call_seconds_sum", procedure=name) < 60


async def test_clients_are_counted_by_transport(daemon: Watched) -> None:
    await daemon.client()
    await daemon.client()
    page = await daemon.page()
    assert page.labelled("clients", "transport") == {"unix": 2, "tcp": 0, "tls": 0}
    assert page.value("clients_accepted_total") == 2


async def test_clients_that_were_let_go_are_counted_by_reason(daemon: Watched) -> None:
    client = await daemon.client()
    await client.send(b"\xff" * 64)
    assert await client.receive() is None
    page = await daemon.page()
    assert page.value("clients_dropped_total", reason="protocol") == 1
    assert page.value("clients_dropped_total", reason="slow") == 0


async def test_domains_are_counted(daemon: Watched) -> None:
    before = await daemon.page()
    await (await daemon.client()).call("DOMAIN_DESTROY", DOMAIN)
    after = await daemon.page()
    assert before.labelled("domains", "state") == {"active": 1, "inactive": 0}
    assert after.labelled("domains", "state") == {"active": 0, "inactive": 1}


async def test_events_are_counted(daemon: Watched) -> None:
    await (await daemon.client()).call("DOMAIN_SUSPEND", DOMAIN)
    page = await daemon.page()
    assert page.value("events_total", driver="memory", event="DomainLifecycle") == 1
    assert page.value("events_queued") == 0


async def test_no_label_names_a_domain_or_a_client(daemon: Watched) -> None:
    client = await daemon.client()
    xml = (
        "<domain type='qemu'><name>peculiar</name><memory>1024</memory>"
        "<os><type arch='x86_64'>hvm</type></os></domain>"
    )
    await client.call("DOMAIN_DEFINE_XML", xml)
    await client.call("DOMAIN_LOOKUP_BY_NAME", "peculiar")
    assert "peculiar" not in (await daemon.page()).text


async def test_limits_are_shown_with_how_often_they_were_reached() -> None:
    async with watched(limits=Limits(max_client_callbacks=0)) as daemon:
        client = await daemon.client()
        await client.refused("CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY", 0, None)
        page = await daemon.page()
    assert page.value("limit", limit="max_client_callbacks") == 0
    assert page.value("limit_reached_total", limit="max_client_callbacks") == 1
    assert page.value("limit_reached_total", limit="max_clients") == 0


async def test_faults_that_took_effect_are_counted() -> None:
    faults = Faults()
    faults.load_text(FAULT)
    async with watched(faults=faults) as daemon:
        client = await daemon.client()
        await client.refused("CONNECT_LIST_ALL_DOMAINS", 1, 0)
        page = await daemon.page()
    assert page.value("faults_fired_total", fault="broken-list") == 1


async def test_the_page_is_also_served_on_a_unix_socket() -> None:
    async with watched("unix:FOLDER/metrics") as daemon:
        assert (await daemon.page()).value("tasks") > 1


async def test_web_pages_get_nothing(daemon: Watched) -> None:
    assert (await daemon.ask(origin="http://evil.example")).status == 403


async def test_a_foreign_name_of_this_machine_gets_nothing(daemon: Watched) -> None:
    assert (await daemon.ask(host="evil.example")).status == 403


async def test_there_is_nothing_else(daemon: Watched) -> None:
    assert (await daemon.ask(path="/")).status == 404
    assert (await daemon.ask("POST")).status == 405


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0"])
def test_an_address_that_others_reach_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="metrics have no passwords"):
        listen_metrics(address)


@pytest.mark.parametrize("address", ["0", "localhost:0", "[::1]:0"])
def test_addresses_of_this_machine_are_taken(address: str) -> None:
    listeners = listen_metrics(address)
    close_all(listeners)
    assert listeners


async def test_nothing_is_counted_when_nobody_wants_it(tmp_path: Path) -> None:
    config = DaemonConfig(
        listen_unix(tmp_path),
        [DriverChoice("test", "memory", open_driver)],
        tmp_path,
        calm_collector=False,
    )
    end = trio.Event()
    async with trio.open_nursery() as nursery:
        services: Services = await nursery.start(partial(serve, config, lambda: None, end.wait))
        end.set()
    assert services.calls is None
    assert not isinstance(services.dispatcher, CallMeter)
