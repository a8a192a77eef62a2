"""Any arguments given to any control command: a result that JSON can say, or a refusal."""

import json

import msgspec
from controlling import control
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from virtbackupd.drivers.errors import DriverError
from virtbackupd.drivers.memory.control_commands import commands
from virtbackupd.drivers.memory.domain import MemoryDomain

UNFIT = {"world-save", "clock-step", "clock-next"}
"""They write files wherever one asks them to, or move the time that the test itself goes by."""
VALUES = st.one_of(
    st.sampled_from(
        ["vda", "vdb", "sda", "c1", "m", "now", "next-backup", "raw", "1 MiB", "64k", "/", "\0", ""]
    ),
    st.sampled_from([0, 1, 512, 65536, 4 << 20, 2**63 - 1, 2**63, -1, 255, 0.5, 1e308, True, None]),
    st.sampled_from([[], ["vda"], [1], {}, {"a": 1}, "AAAA", "/etc/hostname", "*"]),
)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None,
    max_examples=400,
)
@given(data=st.data())
async def test_any_arguments(guest: MemoryDomain, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(commands().keys() - UNFIT)), "command")
    fields = msgspec.structs.fields(commands()[name].arguments)
    keys = [field.name for field in fields if field.required]
    more = st.lists(st.sampled_from([field.name for field in fields] + ["colour"]), max_size=3)
    arguments = {key: data.draw(VALUES, key) for key in [*keys, *data.draw(more, "more keys")]}
    try:
        result = await control(guest, name, **arguments)
    except DriverError:
        return
    json.dumps(result)
