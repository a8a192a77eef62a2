"""A line for each call when the log wants it, and nothing in the way when it does not."""

import logging
from typing import TYPE_CHECKING

import pytest
from raw_client import RawClient

from virtbackupd.drivers.clock import Clock
from virtbackupd.protocol import schema
from virtbackupd.server.call_log import CallLog, name_call
from virtbackupd.server.dispatch import Dispatcher
from virtbackupd.server.handlers import all_handlers
from virtbackupd.server.log_syntax import Levels, parse_filters

if TYPE_CHECKING:
    from tests.server.conftest import Server

DEBUG = Levels(filters=parse_filters("1:call_log"))
CATEGORY = "virtbackupd.server.call_log"


@pytest.fixture
def calls() -> CallLog:
    description = schema.load()
    return CallLog(Dispatcher(description, all_handlers()), description, Clock())


@pytest.fixture
async def client(server: "Server", calls: CallLog, caplog: pytest.LogCaptureFixture) -> RawClient:
    """Its calls are logged."""
    calls.follow(DEBUG)
    object.__setattr__(server.services, "dispatcher", calls)
    client = await server.opened()
    caplog.set_level(logging.DEBUG, CATEGORY)
    caplog.handler.addFilter(name_call)
    return client


def test_without_the_level_the_dispatcher_answers_itself(calls: CallLog) -> None:
    plain = calls.answer
    calls.follow(DEBUG)
    assert calls.answer != plain
    calls.follow(Levels())
    assert calls.answer == plain


async def test_call_is_told_with_client_name_and_duration(
    client: RawClient, caplog: pytest.LogCaptureFixture
) -> None:
    await client.call("CONNECT_GET_TYPE")
    record = caplog.records[-1]
    assert (vars(record)["client"], vars(record)["procedure"]) == (0, "virConnectGetType")
    assert 0 < vars(record)["duration"] < 10_000
    assert record.getMessage() == "() = type='SCRIPTED'"


async def test_refusal_is_told_with_its_code(
    client: RawClient, caplog: pytest.LogCaptureFixture
) -> None:
    await client.refused("DOMAIN_LOOKUP_BY_NAME", "nobody")
    assert "error 42: " in caplog.records[-1].getMessage()


async def test_what_is_logged_within_a_call_names_the_call(
    client: RawClient,
    server: "Server",
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def loud() -> str:
        logging.getLogger(CATEGORY).info("in the driver")
        return "SCRIPTED"

    monkeypatch.setattr(type(server.driver), "get_hostname", lambda _driver: loud())
    await client.call("CONNECT_GET_HOSTNAME")
    record = next(r for r in caplog.records if r.getMessage() == "in the driver")
    assert vars(record)["procedure"] == "virConnectGetHostname"


async def test_call_that_waits_is_named_too(
    client: RawClient, server: "Server", caplog: pytest.LogCaptureFixture
) -> None:
    ref = server.driver.test.ref
    server.driver.proceed.set()
    await client.call("DOMAIN_SUSPEND", tuple(ref))
    assert vars(caplog.records[-1])["domain"] == ref.name
