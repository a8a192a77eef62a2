"""UEFI firmware in flash memories, with files that stand in for an installed package."""

from pathlib import Path

import pytest
from machines import command, completed, domain, try_out, values

from virtbackupd.drivers.definitions.domain import DomainDefinition
from virtbackupd.drivers.definitions.machine import BootDefinition, read_machine
from virtbackupd.drivers.errors import ConfigUnsupported, SystemFailure
from virtbackupd.drivers.qemu.config import Settings
from virtbackupd.drivers.qemu.firmware import complete_firmware, make_nvram

UEFI = domain().replace("<os>", "<os firmware='efi'>")


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    folder = tmp_path / "OVMF"
    folder.mkdir()
    (folder / "OVMF_CODE_4M.fd").write_bytes(bytes(1 << 20))
    (folder / "OVMF_VARS_4M.fd").write_bytes(b"vars" + bytes((1 << 16) - 4))
    return folder


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    found = Settings(tmp_path, "/usr/bin/qemu-system-x86_64")
    found.nvram.mkdir()
    return found


def boot_of(definition: DomainDefinition) -> BootDefinition:
    return definition.view(read_machine).boot


def test_the_installed_firmware_is_found(installed: Path, settings: Settings) -> None:
    boot = boot_of(complete_firmware(completed(UEFI), settings, (str(installed),)))
    assert boot.loader == f"{installed}/OVMF_CODE_4M.fd"
    assert (boot.loader_type, boot.loader_read_only) == ("pflash", True)
    assert boot.nvram == str(settings.nvram / "m_VARS.fd")


def test_without_an_installed_one_the_remedy_is_told(settings: Settings) -> None:
    with pytest.raises(ConfigUnsupported, match="install the package ovmf"):
        complete_firmware(completed(UEFI), settings, ("/no/such",))


def test_a_choice_that_is_made_is_kept(installed: Path, settings: Settings) -> None:
    once = complete_firmware(completed(UEFI), settings, (str(installed),))
    assert complete_firmware(once, settings, ()).to_xml() == once.to_xml()


def test_a_template_is_found_beside_a_loader(installed: Path, settings: Settings) -> None:
    loader = f"<loader readonly='yes' type='pflash'>{installed}/OVMF_CODE_4M.fd</loader>"
    boot = boot_of(complete_firmware(completed(domain(boot=loader)), settings))
    assert boot.nvram_template == f"{installed}/OVMF_VARS_4M.fd"


def test_the_variables_are_copied_once(installed: Path, settings: Settings) -> None:
    definition = complete_firmware(completed(UEFI), settings, (str(installed),))
    path = settings.nvram / "m_VARS.fd"
    make_nvram(definition)
    assert path.read_bytes().startswith(b"vars")
    path.write_bytes(b"mine")
    make_nvram(definition)
    assert path.read_bytes() == b"mine"
    make_nvram(definition, reset=True)
    assert path.read_bytes().startswith(b"vars")


def test_a_template_that_is_not_there_leaves_nothing(settings: Settings) -> None:
    nvram = f"<nvram template='/no/such'>{settings.nvram}/v</nvram>"
    definition = completed(domain(boot=f"<loader type='pflash'>/c</loader>{nvram}"))
    with pytest.raises(SystemFailure, match="cannot make the variables"):
        make_nvram(definition)
    assert list(settings.nvram.iterdir()) == []


def test_a_template_beside_the_loader_serves_a_file_of_ones_own(
    installed: Path, settings: Settings
) -> None:
    loader = f"<loader readonly='yes' type='pflash'>{installed}/OVMF_CODE_4M.fd</loader>"
    own = settings.nvram / "own"
    make_nvram(completed(domain(boot=f"{loader}<nvram>{own}</nvram>")))
    assert own.read_bytes().startswith(b"vars")


def test_variables_need_a_template(settings: Settings) -> None:
    nvram = f"<nvram>{settings.nvram}/v</nvram>"
    definition = completed(domain(boot=f"<loader type='pflash'>/c</loader>{nvram}"))
    with pytest.raises(ConfigUnsupported, match="has no template"):
        make_nvram(definition)


def test_both_flash_memories_start(installed: Path, settings: Settings, tmp_path: Path) -> None:
    definition = complete_firmware(completed(UEFI), settings, (str(installed),))
    make_nvram(definition)
    argv = command(definition.to_xml(), tmp_path)
    assert "pflash0=libvirt-pflash0-format,pflash1=libvirt-pflash1-format" in " ".join(argv)
    assert try_out(argv) == ""


def test_a_rom_is_a_bios() -> None:
    argv = command(domain(boot="<loader type='rom'>/usr/share/seabios/bios.bin</loader>"))
    assert values(argv, "bios") == ["/usr/share/seabios/bios.bin"]
