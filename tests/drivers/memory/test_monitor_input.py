"""Any text given to the monitor and the agent: an answer or a refusal, never another exception."""

import json

from controlling import at_once
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from virtbackupd.drivers.errors import DriverError
from virtbackupd.drivers.memory import agent, monitor
from virtbackupd.drivers.memory.domain import MemoryDomain

# One guest serves all examples: whatever they do to it must not matter.
shared_guest = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)

WORDS = ["qemu-io", "vda", "info", "block", "-v", "-d", "-P", "-z", "read", "write", "discard"]
NUMBERS = ["0", "64k", "-1", "0x", "1e9", "9" * 40, "0.1", "300"]
LINES = st.lists(st.sampled_from([*WORDS, *NUMBERS, '"', "'", "\\"])).map(" ".join)
COMMANDS = ["query-block", "block-dirty-bitmap-add", "guest-ping", "guest-sync", "guest-info"]
VALUES = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just("vda")
ARGUMENTS = st.dictionaries(st.sampled_from(["node", "name", "id", "granularity"]), VALUES)
REQUESTS = st.fixed_dictionaries(
    {}, optional={"execute": st.sampled_from(COMMANDS) | VALUES, "arguments": ARGUMENTS | VALUES}
)


@shared_guest
@given(line=LINES | st.text(max_size=20))
async def test_lines_for_humans(guest: MemoryDomain, line: str) -> None:
    assert isinstance(monitor.run_line(guest, line), str)


@shared_guest
@given(words=st.lists(st.sampled_from([*WORDS, *NUMBERS]), min_size=1))
async def test_commands_of_qemu_io(guest: MemoryDomain, words: list[str]) -> None:
    answer = at_once(monitor.run_line(guest, f'qemu-io vda "{" ".join(words)}"'))
    assert answer.endswith("\n")


@shared_guest
@given(request_=REQUESTS)
async def test_json_requests(guest: MemoryDomain, request_: object) -> None:
    answer = json.loads(at_once(monitor.run(guest, json.dumps(request_), 0)))
    assert len({"return", "error"} & answer.keys()) == 1


@shared_guest
@given(text=REQUESTS.map(json.dumps) | st.text(max_size=20))
async def test_agent_commands(guest: MemoryDomain, text: str) -> None:
    try:
        assert "return" in json.loads(agent.command(guest, text, 0, 0))
    except DriverError as error:
        assert error.message  # noqa: PT017 - any other exception fails
