"""What a world says of its host, its secrets, and domains as another server showed them."""

from pathlib import Path

import pytest
import trio

from virtbackupd.drivers.errors import DriverError
from virtbackupd.drivers.interface import BlockInfo, DriverOptions
from virtbackupd.drivers.memory.boot import make_host
from virtbackupd.drivers.memory.driver import MemoryDriver
from virtbackupd.drivers.profiles import find_profile

UUID = "11111111-2222-3333-4444-555555555555"
CAPABILITIES = (
    "<capabilities><guest><arch name='x86_64'><machine canonical='pc-q35-7.2'>q35</machine></arch>"
    "</guest></capabilities>"
)
DOMAIN_CAPABILITIES = (
    "<domainCapabilities><path>/q</path><domain>kvm</domain><machine>pc-q35-7.2</machine>"
    "<arch>x86_64</arch></domainCapabilities>"
)
HOST = f"""\
[host]
hostname = "there"
libvirt = "9.0.0"
hypervisor = "7.2.22"
capabilities = "{CAPABILITIES}"
domain_capabilities = ["{DOMAIN_CAPABILITIES}"]
"""
SECRET = f"""\
[[secrets]]
xml = "<secret><uuid>{UUID}</uuid><usage type='volume'><volume>/v</volume></usage></secret>"
"""


def domain_xml(path: str, extra: str = "") -> str:
    disk = (
        f"<disk type='file'><driver type='qcow2'/><source file='{path}'/><target dev='vda'/></disk>"
    )
    return (
        f"<domain type='kvm'><name>a</name><uuid>{UUID}</uuid><memory>1024</memory>"
        f"<os><type>hvm</type></os><devices>{disk}</devices>{extra}</domain>"
    )


def given(path: Path, **keys: str) -> str:
    """A domain with its XML, a disk of 1 MiB, and whatever else."""
    lines = [f"{key} = {value}" for key, value in keys.items()]
    return "\n".join(
        ["[[domains]]", 'name = "a"', f'xml = "{domain_xml(f"{path}/a.qcow2")}"', *lines,
         "[[domains.disks]]", 'target = "vda"', "size = 1048576", ""]
    )  # fmt: skip


def checkpoint(xml_name: str = "c", **keys: str) -> str:
    disks = "<disks><disk name='vda' checkpoint='bitmap' bitmap='c'/></disks>"
    xml = f"<name>{xml_name}</name><creationTime>1234</creationTime>{disks}"
    lines = [f"{key} = {value}" for key, value in keys.items()]
    return "\n".join(
        ["[[domains.checkpoints]]", 'name = "c"',
         f'xml = "<domaincheckpoint>{xml}</domaincheckpoint>"', *lines, ""]
    )  # fmt: skip


async def load(
    nursery: trio.Nursery, folder: Path, text: str, profile: str = "newest"
) -> MemoryDriver:
    file = folder / "world.toml"
    file.write_text(text)
    options = DriverOptions(state_dir=folder, world=file, profile=find_profile(profile))
    return MemoryDriver(await make_host(nursery, options))


async def refusal(nursery: trio.Nursery, folder: Path, text: str) -> str:
    with pytest.raises(DriverError) as caught:
        await load(nursery, folder, text)
    return caught.value.message.partition("world.toml:")[2]


async def test_the_host_is_shown_as_the_world_says(nursery: trio.Nursery, tmp_path: Path) -> None:
    driver = await load(nursery, tmp_path, HOST)
    assert driver.get_hostname() == "there"
    assert (driver.get_lib_version(), driver.get_version()) == (9_000_000, 7_002_022)
    assert driver.get_capabilities() == CAPABILITIES


async def test_a_profile_that_is_chosen_wins(nursery: trio.Nursery, tmp_path: Path) -> None:
    driver = await load(nursery, tmp_path, HOST, profile="7.6")
    assert driver.get_lib_version() == 7_006_000
    assert driver.get_capabilities() != CAPABILITIES


@pytest.mark.parametrize(
    "choice",
    [(None, None, None, None), ("/q", "x86_64", "pc-q35-7.2", "kvm"), (None, None, "q35", None)],
)
async def test_domain_capabilities_are_found_for_a_choice(
    nursery: trio.Nursery, tmp_path: Path, choice: tuple[str | None, ...]
) -> None:
    driver = await load(nursery, tmp_path, HOST)
    emulator, arch, machine, virttype = choice
    shown = driver.get_domain_capabilities(emulator, arch, machine, virttype, 0)
    assert shown == DOMAIN_CAPABILITIES


async def test_other_domain_capabilities_are_generated(
    nursery: trio.Nursery, tmp_path: Path
) -> None:
    driver = await load(nursery, tmp_path, HOST)
    assert "<domain>qemu</domain>" in driver.get_domain_capabilities(None, None, None, "qemu", 0)


async def test_secrets_are_defined_without_a_value(nursery: trio.Nursery, tmp_path: Path) -> None:
    driver = await load(nursery, tmp_path, SECRET)
    (secret,) = driver.list_all_secrets(0)
    with pytest.raises(DriverError, match="value"):
        driver.secret_get_value(secret.uuid, 0)


async def test_what_runs_can_differ_from_what_would_start(
    nursery: trio.Nursery, tmp_path: Path
) -> None:
    live = domain_xml(f"{tmp_path}/live.qcow2")
    driver = await load(nursery, tmp_path, given(tmp_path, live_xml=f'"{live}"'))
    domain = driver.domain_by_uuid(driver.domain_lookup_by_name("a").uuid)
    assert "live.qcow2" in domain.get_xml_desc(0)
    assert "a.qcow2" in domain.get_xml_desc(2)
    info = domain.get_block_info("vda", 0)
    assert isinstance(info, BlockInfo)
    assert info.capacity == 1 << 20


async def test_a_domain_can_be_transient(nursery: trio.Nursery, tmp_path: Path) -> None:
    driver = await load(nursery, tmp_path, given(tmp_path, persistent="false"))
    domain = driver.domain_by_uuid(driver.domain_lookup_by_name("a").uuid)
    assert (domain.is_persistent(), domain.is_active()) == (0, 1)


async def test_a_checkpoint_brings_its_own_document(nursery: trio.Nursery, tmp_path: Path) -> None:
    written = '[{ disk = "vda", offset = 0, length = 65536, byte = 1 }]'
    driver = await load(nursery, tmp_path, given(tmp_path) + checkpoint(written=written))
    domain = driver.domain_by_uuid(driver.domain_lookup_by_name("a").uuid)
    shown = domain.checkpoint_get_xml_desc("c", 4)
    assert "<creationTime>1234</creationTime>" in shown
    assert "bitmap='c' size='65536'" in shown


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('[host]\nlibvirt = "nine"\n', "2: host.libvirt: 'nine' is not a version like 9.0.0"),
        ('[host]\ncapabilities = "<x/>"\n', "2: host.capabilities: "),
        ('[host]\ndomain_capabilities = ["<"]\n', "2: host.domain_capabilities[0]: "),
        ('[[secrets]]\nxml = "<secret/"\n', "2: secrets[0].xml: "),
    ],
)
async def test_a_host_that_makes_no_sense_is_refused(
    nursery: trio.Nursery, tmp_path: Path, text: str, complaint: str
) -> None:
    assert (await refusal(nursery, tmp_path, text)).startswith(complaint)


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({"state": '"shutoff"', "live_xml": '"<domain/>"'}, "live_xml: the domain does not run"),
        ({"state": '"shutoff"', "persistent": "false"}, "persistent: a domain that does not run"),
        ({"live_xml": f'"{domain_xml("/x").replace("<name>a", "<name>b")}"'}, "is about 'b'"),
    ],
)
async def test_a_domain_that_makes_no_sense_is_refused(
    nursery: trio.Nursery, tmp_path: Path, keys: dict[str, str], complaint: str
) -> None:
    assert complaint in await refusal(nursery, tmp_path, given(tmp_path, **keys))


async def test_what_runs_needs_a_definition_beside_it(
    nursery: trio.Nursery, tmp_path: Path
) -> None:
    text = f'[[domains]]\nname = "a"\nlive_xml = "{domain_xml("/x")}"\n'
    assert "needs the key xml too" in await refusal(nursery, tmp_path, text)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (checkpoint(xml_name="d"), "the checkpoint's XML names it 'd'"),
        (checkpoint(created="1"), "created: the checkpoint's XML says this"),
        (checkpoint(bitmaps='{ vdb = "missing" }'), "no bitmap of disk 'vdb'"),
        (checkpoint().replace("creationTime", "time"), "xml: "),
    ],
)
async def test_a_checkpoint_that_makes_no_sense_is_refused(
    nursery: trio.Nursery, tmp_path: Path, text: str, complaint: str
) -> None:
    assert complaint in await refusal(nursery, tmp_path, given(tmp_path) + text)
