"""Where the UUID of the machine comes from."""

from collections.abc import Iterator
from contextvars import copy_context
from pathlib import Path

import pytest

from virtbackupd.drivers import host_uuid
from virtbackupd.drivers.capabilities_xml import host_element
from virtbackupd.drivers.host_uuid import CHOSEN, HostUuid

UUID = "12345678-9abc-def0-1234-56789abcdef0"


@pytest.fixture
def machine_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    path = tmp_path / "machine-id"
    monkeypatch.setitem(host_uuid._FILES, "machine-id", path)
    host_uuid._found.cache_clear()
    yield path
    host_uuid._found.cache_clear()


def shown(chosen: HostUuid) -> str | None:
    """What capabilities say."""

    def look() -> str | None:
        CHOSEN.set(chosen)
        return host_element().findtext("uuid")

    return copy_context().run(look)


def test_configured_uuid_wins() -> None:
    assert shown(HostUuid(UUID.replace("-", ""), "machine-id")) == UUID


def test_uuid_of_the_system(machine_id: Path) -> None:
    machine_id.write_text(UUID.replace("-", "") + "\n")
    assert shown(HostUuid(source="machine-id")) == UUID


@pytest.mark.parametrize("text", [None, "", "none", "0" * 32, "f" * 32])
def test_without_a_usable_one_it_is_made_of_the_name(machine_id: Path, text: str | None) -> None:
    if text is not None:
        machine_id.write_text(text)
    first = shown(HostUuid(source="machine-id"))
    host_uuid._found.cache_clear()
    assert first == shown(HostUuid(source="machine-id"))
    assert first is not None
    assert len(set(first)) > 2
