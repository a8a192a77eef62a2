"""Definitions on the disk: written before a call returns, and gone with the domain."""

from pathlib import Path

import pytest

from virtbackupd.drivers.enums import DefinedDetail, Lifecycle, Undefine
from virtbackupd.drivers.errors import OperationFailed, OperationInvalid
from virtbackupd.drivers.events import DomainLifecycle, Event
from virtbackupd.drivers.qemu.domain import QemuDomain
from virtbackupd.drivers.qemu.driver import QemuDriver

XML = """<domain type='qemu'><name>{name}</name><memory unit='MiB'>32</memory>
<os><type arch='x86_64' machine='q35'>hvm</type></os><devices/></domain>"""
TITLE = 1


@pytest.fixture
async def plain(qemu: QemuDriver) -> QemuDomain:
    return await _define(qemu, "plain")


async def _define(qemu: QemuDriver, name: str) -> QemuDomain:
    return qemu.domain_by_uuid((await qemu.domain_define_xml(XML.format(name=name))).uuid)


@pytest.fixture
def definitions(state_dir: Path) -> Path:
    return state_dir / "qemu" / "definitions"


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_a_definition_is_a_file_with_what_the_api_prints(
    plain: QemuDomain, definitions: Path
) -> None:
    assert (definitions / "plain.xml").read_text() == plain.get_xml_desc(3)


async def test_defining_again_is_an_update(qemu: QemuDriver, plain: QemuDomain) -> None:
    heard: list[Event] = []
    with qemu.events.subscribed(heard.append):
        await qemu.domain_define_xml(plain.get_xml_desc(0))
    assert heard == [DomainLifecycle(plain.ref, Lifecycle.DEFINED, DefinedDetail.UPDATED)]


async def test_a_name_belongs_to_one_uuid(qemu: QemuDriver, plain: QemuDomain) -> None:
    with pytest.raises(OperationFailed, match=plain.ref.name):
        await qemu.domain_define_xml(XML.format(name="plain"))


async def test_a_running_domain_keeps_its_live_definition(
    qemu: QemuDriver, plain: QemuDomain
) -> None:
    await plain.create()
    await qemu.domain_define_xml(plain.get_xml_desc(2).replace("32768", "65536"))
    assert plain.definition.memory == 32768
    assert plain.persistent is not None
    assert plain.persistent.memory == 65536


async def test_an_undefined_domain_is_gone_from_the_disk(
    qemu: QemuDriver, plain: QemuDomain, definitions: Path
) -> None:
    await plain.undefine()
    assert _names(definitions) == []
    assert qemu.list_all_domains(0) == []


async def test_undefining_a_running_domain_makes_it_transient(plain: QemuDomain) -> None:
    await plain.create()
    await plain.undefine()
    assert not plain.is_persistent()
    assert plain.is_active()


async def test_firmware_variables_must_be_named(qemu: QemuDriver, tmp_path: Path) -> None:
    variables = tmp_path / "vars.fd"
    variables.write_bytes(b"x")
    loader = "<loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE.fd</loader>"
    nvram = f"</type>{loader}<nvram>{variables}</nvram>"
    xml = XML.format(name="efi").replace("</type>", nvram)
    domain = qemu.domain_by_uuid((await qemu.domain_define_xml(xml)).uuid)
    with pytest.raises(OperationInvalid, match="NVRAM"):
        await domain.undefine()
    await domain.undefine_flags(Undefine.NVRAM)
    assert not variables.exists()


async def test_a_rename_moves_the_file_and_the_checkpoints(
    plain: QemuDomain, definitions: Path, state_dir: Path
) -> None:
    folder = state_dir / "qemu" / "checkpoint"
    (folder / "plain").mkdir()
    (folder / "plain" / "c1.xml").write_text("kept")
    await plain.set_autostart(1)
    await plain.rename("other", 0)
    assert _names(definitions) == ["other.xml"]
    assert (folder / "other" / "c1.xml").read_text() == "kept"
    assert _names(state_dir / "qemu" / "autostart") == ["other.xml"]


async def test_a_rename_to_a_name_in_use_changes_nothing(
    qemu: QemuDriver, plain: QemuDomain, definitions: Path
) -> None:
    await _define(qemu, "other")
    with pytest.raises(OperationInvalid, match="other"):
        await plain.rename("other", 0)
    assert plain.ref.name == "plain"
    assert (definitions / "plain.xml").exists()


async def test_metadata_is_on_the_disk(plain: QemuDomain, definitions: Path) -> None:
    await plain.set_metadata(TITLE, "a title", None, None, 2)
    assert "<title>a title</title>" in (definitions / "plain.xml").read_text()


async def test_live_metadata_is_in_the_status_file(plain: QemuDomain, state_dir: Path) -> None:
    await plain.create()
    await plain.set_metadata(TITLE, "a title", None, None, 1)
    assert "a title" in (state_dir / "qemu" / "run" / "plain.xml").read_text()
    assert "a title" not in plain.get_xml_desc(2)


async def test_a_transient_domain_cannot_be_autostarted(qemu: QemuDriver) -> None:
    ref = await qemu.domain_create_xml(XML.format(name="brief"), 0)
    with pytest.raises(OperationInvalid, match="transient"):
        await qemu.domain_by_uuid(ref.uuid).set_autostart(1)
