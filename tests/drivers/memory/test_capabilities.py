"""The capabilities documents and the node."""

import pytest
from lxml import etree

from virtbackupd.drivers.capabilities_xml import node_info
from virtbackupd.drivers.errors import InvalidArgument, UnsupportedFlags
from virtbackupd.drivers.memory import capabilities


def found(document: str, path: str) -> str | None:
    return etree.fromstring(document).findtext(path)


def test_the_host_is_described() -> None:
    text = capabilities.capabilities()
    assert found(text, "host/cpu/arch")
    assert found(text, "host/topology/cells/cell/memory") == str(node_info().memory)


@pytest.mark.parametrize("kind", capabilities.DOMAIN_TYPES)
def test_each_domain_type_is_offered_for_each_architecture(kind: str) -> None:
    root = etree.fromstring(capabilities.capabilities())
    for arch in root.iterfind("guest/arch"):
        assert arch.find(f"domain[@type='{kind}']") is not None


def test_the_hosts_own_architecture_comes_first() -> None:
    arch = etree.fromstring(capabilities.capabilities()).find("guest/arch")
    assert arch is not None
    assert arch.get("name") == found(capabilities.capabilities(), "host/cpu/arch")


def test_backups_are_supported() -> None:
    root = etree.fromstring(capabilities.domain_capabilities(None, None, None, None, 0))
    backup = root.find("features/backup")
    assert backup is not None
    assert backup.get("supported") == "yes"


def test_a_choice_is_taken() -> None:
    text = capabilities.domain_capabilities("/bin/emu", "aarch64", "virt", "test", 0)
    given = [found(text, tag) for tag in ("path", "arch", "machine", "domain")]
    assert given == ["/bin/emu", "aarch64", "virt", "test"]


@pytest.mark.parametrize(
    ("arch", "machine", "virttype", "word"),
    [
        ("vax", None, None, "architecture 'vax'"),
        ("x86_64", "virt", None, "machine 'virt'"),
        (None, None, "xen", "type 'xen'"),
    ],
)
def test_an_unknown_choice_is_refused(
    arch: str | None, machine: str | None, virttype: str | None, word: str
) -> None:
    with pytest.raises(InvalidArgument, match=word):
        capabilities.domain_capabilities(None, arch, machine, virttype, 0)


def test_flags_are_refused() -> None:
    with pytest.raises(UnsupportedFlags):
        capabilities.domain_capabilities(None, None, None, None, 1)


@pytest.mark.parametrize("kind", [None, "test", "KVM"])
def test_processors_of_a_domain_are_bounded(kind: str | None) -> None:
    assert capabilities.max_vcpus(kind) == capabilities.MAX_VCPUS


def test_processors_of_an_unknown_type_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="xen"):
        capabilities.max_vcpus("xen")
