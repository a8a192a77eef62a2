"""What the annotations of the interface text demand."""

import permissions_page
import pytest

from virtbackupd.protocol import schema
from virtbackupd.server.access.permissions import demands, permission, seen_with

AFFECT_LIVE, AFFECT_CONFIG = 1, 2


def needed(name: str, *args: object) -> list[str]:
    """The permissions that a call with these arguments asks for."""
    found = demands(schema.load().by_name[name])
    return [str(one.permission) for one in found if one.needed is None or one.needed(args)]


def test_nothing_is_demanded_of_a_login() -> None:
    assert demands(schema.load().by_name["AUTH_LIST"]) == ()


def test_several_permissions() -> None:
    assert needed("DOMAIN_BACKUP_BEGIN") == ["domain:checkpoint", "domain:block-write"]


@pytest.mark.parametrize(
    ("flags", "asked"),
    [
        (0, ["domain:write", "domain:save"]),
        (AFFECT_LIVE, ["domain:write"]),
        (AFFECT_CONFIG, ["domain:write", "domain:save"]),
        (AFFECT_LIVE | AFFECT_CONFIG, ["domain:write", "domain:save"]),
    ],
)
def test_flags_that_are_set_or_of_which_none_is(flags: int, asked: list[str]) -> None:
    assert needed("DOMAIN_ATTACH_DEVICE_FLAGS", "domain", "xml", flags) == asked


def test_the_value_of_an_argument() -> None:
    assert needed("DOMAIN_INTERFACE_ADDRESSES", "d", 0, 0) == ["domain:read"]
    assert needed("DOMAIN_INTERFACE_ADDRESSES", "d", 1, 0) == ["domain:read", "domain:write"]


def test_what_lists_show() -> None:
    found = schema.load().by_name["CONNECT_GET_ALL_DOMAIN_STATS"]
    assert seen_with(found) == permission("domain:read")


def test_every_annotation_is_understood() -> None:
    for procedure in schema.load().by_number.values():
        demands(procedure)
        seen_with(procedure)


def test_the_page_is_current() -> None:
    assert permissions_page.PAGE.read_text() == permissions_page.page(), "run `make docs`"
