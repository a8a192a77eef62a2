"""How options are written."""

import pytest

from virtbackupd.drivers.qemu.arguments import Arguments, known, on_off, option_text


def test_settings_follow_the_value() -> None:
    assert option_text("socket", {"id": "a", "wait": None, "path": "/b"}) == "socket,id=a,path=/b"


def test_a_comma_is_doubled() -> None:
    assert option_text("file", {"path": "/a,b"}) == "file,path=/a,,b"


def test_a_name_with_a_dash_is_written_with_an_underscore() -> None:
    assert option_text("", {"reboot_timeout": "5"}) == "reboot-timeout=5"


def test_devices_are_json() -> None:
    arguments = Arguments()
    arguments.device({"driver": "sga", "id": "a"})
    assert arguments.all() == ["-device", '{"driver":"sga","id":"a"}']
    assert arguments.drivers == ["sga"]


def test_properties_without_a_value_are_left_out() -> None:
    assert known(driver="x", write__cache=None, share__rw=True) == {"driver": "x", "share-rw": True}


@pytest.mark.parametrize(("value", "text"), [(None, None), (True, "on"), (False, "off")])
def test_switches(value: bool | None, text: str | None) -> None:
    assert on_off(value) == text
