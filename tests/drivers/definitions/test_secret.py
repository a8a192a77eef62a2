"""The secret document, both ways."""

from uuid import UUID

import pytest

from virtbackupd.drivers.definitions.secret import SecretDefinition, format_secret, parse_secret
from virtbackupd.drivers.errors import ConfigUnsupported, Origin, XmlDetail, XmlError

ID = "0a81f5b2-8403-7b23-c8d6-21ccc2f80d6f"
FULL = f"""<secret ephemeral='yes' private='no'>
  <uuid>{ID}</uuid>
  <description>LUKS &amp; key</description>
  <usage type='volume'>
    <volume>/images/a.qcow2</volume>
  </usage>
</secret>
"""


def test_a_full_document() -> None:
    assert parse_secret(FULL) == SecretDefinition(
        uuid=UUID(ID).bytes,
        ephemeral=True,
        description="LUKS & key",
        usage_type="volume",
        usage="/images/a.qcow2",
    )


def test_it_is_printed_as_it_was() -> None:
    assert format_secret(parse_secret(FULL)) == FULL


def test_defaults() -> None:
    found = parse_secret("<secret/>")
    assert (found.ephemeral, found.private, found.usage_type) == (False, False, None)
    assert len(found.uuid) == 16


@pytest.mark.parametrize(
    ("usage", "child"),
    [
        ("volume", "volume"),
        ("ceph", "name"),
        ("iscsi", "target"),
        ("tls", "name"),
        ("vtpm", "name"),
    ],
)
def test_usage_types(usage: str, child: str) -> None:
    text = f"<secret><usage type='{usage}'><{child}>x</{child}></usage></secret>"
    found = parse_secret(text)
    assert (found.usage_type, found.usage) == (usage, "x")
    assert parse_secret(format_secret(found)) == found


@pytest.mark.parametrize(
    "inner",
    [
        "<uuid>x</uuid>",
        "<usage type='ceph'/>",
        "<usage type='ceph'><target>x</target></usage>",
    ],
)
def test_refusals(inner: str) -> None:
    with pytest.raises(XmlError) as caught:
        parse_secret(f"<secret>{inner}</secret>")
    assert caught.value.origin is Origin.SECRET


@pytest.mark.parametrize("usage", ["<usage/>", "<usage type='other'/>"])
def test_unknown_usage(usage: str) -> None:
    with pytest.raises(ConfigUnsupported) as caught:
        parse_secret(f"<secret>{usage}</secret>")
    assert caught.value.origin is Origin.SECRET


def test_flags_are_yes_or_no() -> None:
    with pytest.raises(XmlError, match="private attribute is '1'"):
        parse_secret("<secret private='1'/>")


def test_a_secret_without_usage() -> None:
    assert parse_secret("<secret><usage type='none'/></secret>").usage_type is None


def test_not_well_formed_is_35_from_secret() -> None:
    with pytest.raises(XmlDetail) as caught:
        parse_secret("<secret>")
    assert caught.value.origin is Origin.SECRET
