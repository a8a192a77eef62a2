"""What a fault does to a call, as a raw client sees it."""

from typing import TYPE_CHECKING

import pytest
from raw_client import RawClient
from trio.testing import wait_all_tasks_blocked

from virtbackupd.drivers.clock import Clock
from virtbackupd.drivers.events import DomainRef
from virtbackupd.drivers.faults.effects import DomainEffect
from virtbackupd.drivers.faults.engine import Faults
from virtbackupd.drivers.faults.rule_file import FaultFileError, RuleSpec
from virtbackupd.drivers.faults.scenarios import all_scenarios
from virtbackupd.protocol import schema
from virtbackupd.server.dispatch import Dispatcher
from virtbackupd.server.faulted import CallFaults, ProcedureNames

if TYPE_CHECKING:
    from tests.server.conftest import Server

TEST = ("test", bytes(range(16)), 1)
OTHER = ("other", bytes(range(16, 32)), 1)
AGENT_UNRESPONSIVE, OPERATION_FAILED = 86, 9


@pytest.fixture
def clock() -> Clock:
    """Stands until a test moves it."""
    return Clock(0)


@pytest.fixture
def faults(server: "Server", clock: Clock) -> Faults:
    """The rules of the server."""
    found = Faults()
    assert isinstance(server.services.dispatcher, Dispatcher)
    CallFaults(server.services.dispatcher, schema.load(), found, clock)
    return found


def add(faults: Faults, effect: str, procedure: str = "virDomainGetState", more: str = "") -> None:
    match = f"procedure = '{procedure}'{more}"
    faults.load_text(f"[[faults]]\nmatch = {{ {match} }}\neffect = {{ {effect} }}\n")


async def test_without_rules_calls_are_answered(faults: Faults, client: RawClient) -> None:
    assert not faults.active
    await client.call("DOMAIN_GET_STATE", TEST, 0)


async def test_a_call_fails_with_the_error_asked_for(faults: Faults, client: RawClient) -> None:
    add(faults, "kind = 'error', code = 'OPERATION_FAILED', message = 'no luck'")
    error = await client.refused("DOMAIN_GET_STATE", TEST, 0)
    assert (error.code, error.domain, error.level) == (OPERATION_FAILED, 12, 2)
    assert (error.message, error.str2) == ("operation failed: no luck", "no luck")


async def test_any_number_can_be_asked_for(faults: Faults, client: RawClient) -> None:
    effect = "kind = 'error', code = 110, domain = 'VIR_FROM_STORAGE', level = 'warning'"
    add(faults, f"{effect}, message = 'odd'")
    error = await client.refused("DOMAIN_GET_STATE", TEST, 0)
    assert (error.code, error.domain, error.level, error.message) == (110, 18, 1, "odd")


async def test_other_calls_are_left_alone(faults: Faults, client: RawClient) -> None:
    add(faults, "kind = 'error', code = 9")
    await client.call("CONNECT_GET_TYPE")


async def test_other_domains_are_left_alone(faults: Faults, client: RawClient) -> None:
    add(faults, "kind = 'error', code = 9", more=", domain = 'test'")
    await client.call("DOMAIN_GET_STATE", OTHER, 0)
    assert (await client.refused("DOMAIN_GET_STATE", TEST, 0)).code == OPERATION_FAILED


async def test_the_domain_of_a_checkpoint_counts(faults: Faults, client: RawClient) -> None:
    add(faults, "kind = 'error', code = 9", "virDomainCheckpointGetXMLDesc", ", domain = 'test'")
    error = await client.refused("DOMAIN_CHECKPOINT_GET_XML_DESC", ("c1", TEST), 0)
    assert error.code == OPERATION_FAILED


async def test_calls_without_a_domain_can_fail(faults: Faults, client: RawClient) -> None:
    add(faults, "kind = 'error', code = 9", "virConnectGetHostname")
    assert (await client.refused("CONNECT_GET_HOSTNAME")).code == OPERATION_FAILED


@pytest.mark.parametrize(("at", "done"), [("before", 0), ("after", 1)])
async def test_an_error_comes_before_or_after_the_effect(
    server: "Server", faults: Faults, client: RawClient, at: str, done: int
) -> None:
    add(faults, f"kind = 'error', code = 9, at = '{at}'", "virDomainDestroy")
    assert (await client.refused("DOMAIN_DESTROY", TEST)).code == OPERATION_FAILED
    assert server.driver.test.destroyed == done


@pytest.mark.parametrize(("at", "done"), [("before", 0), ("after", 1)])
async def test_the_connection_is_dropped_before_or_after_the_effect(
    server: "Server", faults: Faults, client: RawClient, at: str, done: int
) -> None:
    add(faults, f"kind = 'drop', at = '{at}'", "virDomainDestroy")
    await client.start("DOMAIN_DESTROY", TEST)
    assert await client.receive() is None
    assert server.driver.test.destroyed == done
    assert faults.unmatched() == []


async def test_a_dropped_client_makes_no_more_calls(
    server: "Server", faults: Faults, client: RawClient
) -> None:
    add(faults, "kind = 'drop'")
    first = client.call_bytes("DOMAIN_GET_STATE", TEST, 0)
    await client.send(first + client.call_bytes("DOMAIN_DESTROY", TEST))
    assert await client.receive() is None
    await wait_all_tasks_blocked()
    assert server.driver.test.destroyed == 0
    assert len(server.ended) == 1


@pytest.mark.parametrize(("at", "done"), [("before", 0), ("after", 1)])
async def test_a_call_is_delayed_by_the_clock(
    server: "Server", faults: Faults, client: RawClient, clock: Clock, at: str, done: int
) -> None:
    add(faults, f"kind = 'delay', seconds = 5, at = '{at}'", "virDomainDestroy")
    await client.start("DOMAIN_DESTROY", TEST)
    await wait_all_tasks_blocked()
    assert server.driver.test.destroyed == done
    await clock.step(4.9)
    assert await client.is_silent()
    await clock.step(0.1)
    assert (await client.frame()).error() is None
    assert server.driver.test.destroyed == 1


async def test_a_delayed_call_of_a_client_that_left_runs_on(
    server: "Server", faults: Faults, client: RawClient
) -> None:
    add(faults, "kind = 'delay', seconds = 5", "virDomainDestroy")
    await client.start("DOMAIN_DESTROY", TEST)
    client.close()
    await wait_all_tasks_blocked()
    assert server.driver.test.destroyed == 1
    assert len(server.ended) == 1


async def test_a_call_hangs_while_others_are_answered(faults: Faults, client: RawClient) -> None:
    add(faults, "kind = 'hang'")
    await client.start("DOMAIN_GET_STATE", TEST, 0)
    await client.call("CONNECT_GET_TYPE")
    assert await client.is_silent()


async def test_a_call_that_hangs_ends_with_its_client(
    server: "Server", faults: Faults, client: RawClient
) -> None:
    add(faults, "kind = 'hang'")
    await client.start("DOMAIN_GET_STATE", TEST, 0)
    client.close()
    await wait_all_tasks_blocked()
    assert len(server.ended) == 1


async def test_a_call_that_hangs_ends_with_its_domain(faults: Faults, client: RawClient) -> None:
    add(faults, "kind = 'hang'")
    await client.start("DOMAIN_GET_STATE", TEST, 0)
    assert await client.is_silent()
    faults.stopped(TEST[1])
    error = (await client.frame()).error()
    assert error is not None
    assert error.code == OPERATION_FAILED


async def test_a_call_that_hangs_keeps_no_daemon_from_stopping(
    server: "Server", faults: Faults, client: RawClient
) -> None:
    add(faults, "kind = 'hang'")
    await client.start("DOMAIN_GET_STATE", TEST, 0)
    assert await client.is_silent()
    server.clients[0].stop()
    assert (await client.frame()).error() is not None
    assert await client.receive() is None


async def test_an_agent_can_be_given_up(faults: Faults, client: RawClient, clock: Clock) -> None:
    add(faults, "kind = 'hang', seconds = 30", "virDomainFSFreeze")
    await client.start("DOMAIN_FSFREEZE", TEST, [], 0)
    await wait_all_tasks_blocked()
    await clock.step(30)
    error = (await client.frame()).error()
    assert error is not None
    assert error.code == AGENT_UNRESPONSIVE
    assert "no answer within 30 seconds" in error.message


async def test_effects_of_several_rules_add_up(
    faults: Faults, client: RawClient, clock: Clock
) -> None:
    add(faults, "kind = 'delay', seconds = 1")
    add(faults, "kind = 'error', code = 9")
    await client.start("DOMAIN_GET_STATE", TEST, 0)
    await wait_all_tasks_blocked()
    await clock.step(1)
    error = (await client.frame()).error()
    assert error is not None
    assert error.code == OPERATION_FAILED


async def test_what_happens_to_the_domain_is_handed_on(faults: Faults, client: RawClient) -> None:
    done: list[tuple[str, str, str | None]] = []

    def perform(domain: DomainRef, _effect: DomainEffect, spec: RuleSpec) -> bool:
        done.append((domain.name, spec.kind, spec.disk.text))
        return True

    faults.performer = perform
    add(faults, "kind = 'bitmap-lose'", more=", disk = 'vda'")
    await client.call("DOMAIN_GET_STATE", TEST, 0)
    assert done == [("test", "bitmap-lose", "vda")]
    assert faults.unmatched() == []


async def test_what_cannot_be_done_to_a_domain_stays_unmatched(
    faults: Faults, client: RawClient
) -> None:
    add(faults, "kind = 'kill'")
    await client.call("DOMAIN_GET_STATE", TEST, 0)
    assert len(faults.unmatched()) == 1


async def test_calls_are_answered_again_without_the_rule(faults: Faults, client: RawClient) -> None:
    add(faults, "kind = 'error', code = 9")
    faults.clear()
    await client.call("DOMAIN_GET_STATE", TEST, 0)


async def test_unknown_procedures_are_refused(faults: Faults) -> None:
    with pytest.raises(FaultFileError, match="'virDomainBegin' is no procedure"):
        add(faults, "kind = 'drop'", "virDomainBegin")


async def test_read_only_clients_are_refused_first(server: "Server", faults: Faults) -> None:
    add(faults, "kind = 'drop'", "virDomainDestroy")
    client = await server.opened(read_only=True)
    assert (await client.refused("DOMAIN_DESTROY", TEST)).code == 29
    assert len(faults.unmatched()) == 1


def test_scenarios_name_calls_that_there_are() -> None:
    names = ProcedureNames(schema.load())
    for scenario in all_scenarios():
        for rule in scenario.rules:
            if rule.point.value == "procedure":
                assert any(map(rule.word.fits, names)), rule.word.text
