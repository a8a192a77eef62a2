"""QEMU's machine protocol: requests, errors, what the queries show, and the bitmap commands."""

import json
from typing import Any

import pytest
from controlling import at_once

from virtbackupd.drivers.errors import InternalError
from virtbackupd.drivers.memory import monitor
from virtbackupd.drivers.memory.domain import MemoryDomain
from virtbackupd.drivers.memory.image import Image

NODE = "libvirt-1-format"


def hmp(guest: MemoryDomain, line: str) -> str:
    return at_once(monitor.run(guest, line, monitor.HMP))


def qmp(guest: MemoryDomain, command: str, **arguments: object) -> Any:  # noqa: ANN401 - JSON
    request = {"execute": command, "arguments": arguments}
    return json.loads(at_once(monitor.run(guest, json.dumps(request), 0)))


def returned(guest: MemoryDomain, command: str, **arguments: object) -> Any:  # noqa: ANN401 - JSON
    return qmp(guest, command, **arguments)["return"]


def image_of(guest: MemoryDomain) -> Image:
    image = guest.disk_image("vda")
    assert image is not None
    return image


async def test_what_is_not_json_is_the_callers_fault(guest: MemoryDomain) -> None:
    with pytest.raises(InternalError, match="not JSON"):
        monitor.run(guest, "{bad]", 0)


async def test_deep_nesting_is_not_json_either(guest: MemoryDomain) -> None:
    with pytest.raises(InternalError, match="not JSON"):
        monitor.run(guest, "[" * 100_000, 0)


@pytest.mark.parametrize(
    ("request_", "description"),
    [
        ([1], "QMP input must be a JSON object"),
        ({"foo": 1}, "QMP input member 'foo' is unexpected"),
        ({"execute": 5}, "QMP input member 'execute' must be a string"),
        ({"execute": "stop", "arguments": 1}, "QMP input member 'arguments' must be an object"),
        ({"execute": "stop", "arguments": {"x": 1}}, "Parameter 'x' is unexpected"),
        ({"execute": "human-monitor-command"}, "Parameter 'command-line' is missing"),
        (
            {"execute": "human-monitor-command", "arguments": {"command-line": 3}},
            "Invalid parameter type for 'command-line', expected: string",
        ),
    ],
)
async def test_faulty_requests(guest: MemoryDomain, request_: object, description: str) -> None:
    answer = json.loads(at_once(monitor.run(guest, json.dumps(request_), 0)))
    assert answer["error"] == {"class": "GenericError", "desc": description}


async def test_an_unknown_command_has_its_own_class(guest: MemoryDomain) -> None:
    assert qmp(guest, "foo")["error"]["class"] == "CommandNotFound"


async def test_the_id_of_a_request_comes_back(guest: MemoryDomain) -> None:
    answer = at_once(monitor.run(guest, '{"execute": "query-status", "id": 7}', 0))
    assert '"id": 7' in answer


async def test_lines_for_humans_inside_json(guest: MemoryDomain) -> None:
    line = {"command-line": "info name"}
    assert returned(guest, "human-monitor-command", **line) == "guest\r\n"


async def test_each_listed_command_is_known(guest: MemoryDomain) -> None:
    names = {row["name"] for row in returned(guest, "query-commands")}
    assert {"query-status", "human-monitor-command", "x-virtbackupd-bitmap-remove"} <= names


async def test_status_version_name_and_uuid(guest: MemoryDomain) -> None:
    assert returned(guest, "query-status") == {"status": "running", "running": True}
    assert returned(guest, "query-version")["qemu"]["major"] == 10
    assert returned(guest, "query-name") == {"name": "guest"}
    assert returned(guest, "query-uuid")["UUID"].startswith("6695eb01")


async def test_nodes_show_their_bitmaps(guest: MemoryDomain) -> None:
    bitmap = image_of(guest).bitmaps.add("b")
    hmp(guest, 'qemu-io vda "write 0 1k"')
    node, other = returned(guest, "query-named-block-nodes", flat=True)
    assert (node["node-name"], node["drv"], node["file"]) == (NODE, "qcow2", "/images/vda.qcow2")
    assert node["dirty-bitmaps"][0]["count"] == bitmap.granularity
    assert "dirty-bitmaps" not in other


async def test_nodes_show_the_backing_image(guest: MemoryDomain) -> None:
    image_of(guest).backing = Image(1024, path="/images/base")
    node = returned(guest, "query-named-block-nodes")[0]
    assert (node["backing_file"], node["backing_file_depth"]) == ("/images/base", 1)
    assert node["image"]["backing-image"]["virtual-size"] == 1024


async def test_query_block_shows_empty_drives(guest: MemoryDomain) -> None:
    disk, _, drive = returned(guest, "query-block")
    assert disk["inserted"]["node-name"] == NODE
    assert drive["removable"]
    assert "inserted" not in drive


async def test_no_job_no_block_job(guest: MemoryDomain) -> None:
    assert returned(guest, "query-block-jobs") == []


async def test_block_figures(guest: MemoryDomain) -> None:
    hmp(guest, 'qemu-io vda "read 0 1k"')
    assert returned(guest, "query-blockstats")[0]["stats"]["rd_bytes"] == 1024


async def test_a_write_threshold_can_be_set(guest: MemoryDomain) -> None:
    arguments = {"node-name": NODE, "write-threshold": 4096}
    assert returned(guest, "block-set-write-threshold", **arguments) == {}
    assert guest.counters("vda").threshold == 4096


async def test_a_negative_threshold_is_refused(guest: MemoryDomain) -> None:
    arguments = {"node-name": NODE, "write-threshold": -1}
    assert "not negative" in qmp(guest, "block-set-write-threshold", **arguments)["error"]["desc"]


async def test_bitmaps_can_be_added_and_removed(guest: MemoryDomain) -> None:
    qmp(guest, "block-dirty-bitmap-add", node=NODE, name="b", persistent=True)
    assert image_of(guest).bitmaps.names() == ["b"]
    qmp(guest, "block-dirty-bitmap-remove", node=NODE, name="b")
    assert image_of(guest).bitmaps.names() == []


async def test_bitmaps_can_be_disabled_enabled_and_merged(guest: MemoryDomain) -> None:
    qmp(guest, "block-dirty-bitmap-add", node=NODE, name="a")
    qmp(guest, "block-dirty-bitmap-add", node=NODE, name="b", disabled=True)
    hmp(guest, 'qemu-io vda "write 0 1k"')
    qmp(guest, "block-dirty-bitmap-disable", node=NODE, name="a")
    hmp(guest, 'qemu-io vda "write 1M 1k"')
    qmp(guest, "block-dirty-bitmap-merge", node=NODE, target="b", bitmaps=["a"])
    qmp(guest, "block-dirty-bitmap-enable", node=NODE, name="b")
    found = image_of(guest).bitmaps.get("b")
    assert found is not None
    assert found.recording
    assert found.dirty_clusters() == [0]


@pytest.mark.parametrize(
    ("command", "arguments", "description"),
    [
        ("block-dirty-bitmap-add", {"node": "no", "name": "b"}, "Cannot find device='no'"),
        ("block-dirty-bitmap-add", {"node": NODE, "name": "a"}, "Bitmap already exists: a"),
        ("block-dirty-bitmap-add", {"node": NODE, "name": "b", "granularity": 512}, "granularity"),
        ("block-dirty-bitmap-remove", {"node": NODE, "name": "b"}, "Dirty bitmap 'b' not found"),
        ("block-dirty-bitmap-remove", {"node": NODE, "name": "a"}, "'a' is in use by another"),
        (
            "block-dirty-bitmap-merge",
            {"node": NODE, "target": "c", "bitmaps": [1]},
            "expects names",
        ),
        ("x-virtbackupd-bitmap-remove", {"disk": "vda", "bitmap": "b"}, "has no bitmap 'b'"),
    ],
)
async def test_bitmap_errors(
    guest: MemoryDomain, command: str, arguments: dict[str, object], description: str
) -> None:
    image_of(guest).bitmaps.add("a").busy = True
    image_of(guest).bitmaps.add("c")
    assert description in qmp(guest, command, **arguments)["error"]["desc"]


async def test_our_own_commands_damage_even_a_busy_bitmap(guest: MemoryDomain) -> None:
    bitmap = image_of(guest).bitmaps.add("a")
    bitmap.busy = True
    assert returned(guest, "x-virtbackupd-bitmap-inconsistent", disk="vda", bitmap="a") == {}
    assert bitmap.inconsistent
    assert returned(guest, "x-virtbackupd-bitmap-remove", disk="vda", bitmap="a") == {}
    assert "a" not in image_of(guest).bitmaps
