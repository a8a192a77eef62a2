"""virsh: what it shows of a domain: information, disks, documents, descriptions."""

from xml.etree import ElementTree as ET

import pytest
from virsh_guest import Guest

DRIVERS = ("memory", "qemu")


def _fields(text: str) -> dict[str, str]:
    return {key: value.strip() for key, value in (line.split(":", 1) for line in text.splitlines())}


def test_dominfo_of_a_running_domain(guest: Guest) -> None:
    fields = _fields(guest.virsh("dominfo"))
    assert fields["Name"] == guest.name
    assert fields["State"] == "running"
    assert fields["OS Type"] == "hvm"
    assert fields["Max memory"] == "65536 KiB"
    assert (fields["Persistent"], fields["Autostart"]) == ("yes", "disable")


def test_dominfo_of_an_inactive_domain(spare: Guest) -> None:
    fields = _fields(spare.virsh("dominfo"))
    assert (fields["Id"], fields["State"], fields["Managed save"]) == ("-", "shut off", "no")


def test_domid_is_a_dash_while_inactive(spare: Guest) -> None:
    assert spare.virsh("domid") == "-"


def test_domain_is_found_by_id_and_uuid(guest: Guest) -> None:
    for key in (guest.virsh("domid"), guest.virsh("domuuid")):
        assert Guest(guest.uri, key, guest.folder).virsh("domname") == guest.name


def test_domblklist(guest: Guest) -> None:
    rows = [line.split() for line in guest.virsh("domblklist").splitlines()[2:]]
    files = [[name, f"{guest.folder}/{name}.qcow2"] for name in ("vda", "vdb")]
    assert rows == [*files, ["sda", "-"]]


def test_domblklist_details(guest: Guest) -> None:
    rows = [line.split()[:3] for line in guest.virsh("domblklist", "--details").splitlines()[2:]]
    assert rows == [["file", "disk", "vda"], ["file", "disk", "vdb"], ["file", "cdrom", "sda"]]


def test_domblklist_inactive(spare: Guest) -> None:
    assert "vda.qcow2" in spare.virsh("domblklist", "--inactive")


def test_domblkinfo(guest: Guest) -> None:
    fields = _fields(guest.virsh("domblkinfo", "vda"))
    assert int(fields["Capacity"]) > 0
    assert int(fields["Allocation"]) >= 0
    assert int(fields["Physical"]) >= 0


def test_domblkinfo_by_source_path(guest: Guest) -> None:
    path = str(guest.folder / "vda.qcow2")
    assert guest.virsh("domblkinfo", path) == guest.virsh("domblkinfo", "vda")


def test_domblkinfo_of_all_disks(guest: Guest) -> None:
    rows = [line.split() for line in guest.virsh("domblkinfo", "--all").splitlines()[2:]]
    assert [row[0] for row in rows] == ["vda", "vdb", "sda"]
    assert rows[2] == ["sda", "-", "-", "-"]


def test_domblkinfo_human(guest: Guest) -> None:
    assert "iB" in guest.virsh("domblkinfo", "--all", "--human")


def test_domblkinfo_of_an_unknown_disk(guest: Guest) -> None:
    assert "vdq" in guest.virsh("domblkinfo", "vdq", status=1)


@pytest.mark.only("memory")
def test_domblkinfo_grows_with_the_guests_writes(guest: Guest) -> None:
    before = int(_fields(guest.virsh("domblkinfo", "vda"))["Allocation"])
    guest.monitor('qemu-io vda "write -P 0xab 0 1M"')
    assert int(_fields(guest.virsh("domblkinfo", "vda"))["Allocation"]) >= before + 2**20


def test_blockresize(guest: Guest) -> None:
    guest.virsh("blockresize", "vda", "2G")
    assert _fields(guest.virsh("domblkinfo", "vda"))["Capacity"] == str(2**31)


def test_blockresize_of_an_unknown_disk(guest: Guest) -> None:
    assert "error: invalid argument: " in guest.virsh("blockresize", "vdq", "2G", status=1)


def _counters(guest: Guest, disk: str) -> dict[str, int]:
    words = [line.split() for line in guest.virsh("domblkstat", disk).splitlines()]
    return {row[-2]: int(row[-1]) for row in words}


@pytest.mark.only("memory")
def test_domblkstat_counts_writes(guest: Guest) -> None:
    before = _counters(guest, "vda")
    guest.monitor('qemu-io vda "write -P 0xab 0 64k"')
    after = _counters(guest, "vda")
    assert after["wr_bytes"] - before["wr_bytes"] == 65536
    assert after["wr_req"] - before["wr_req"] == 1


@pytest.mark.only("memory")
def test_domblkstat_counts_reads(guest: Guest) -> None:
    before = _counters(guest, "vdb")
    guest.monitor('qemu-io vdb "read 0 4k"')
    assert _counters(guest, "vdb")["rd_bytes"] - before["rd_bytes"] == 4096


def test_domblkstat_human(guest: Guest) -> None:
    assert "number of bytes written:" in guest.virsh("domblkstat", "vda", "--human")


@pytest.mark.only("memory")
def test_domblkstat_of_all_disks_together(guest: Guest) -> None:
    guest.monitor('qemu-io vdb "write 0 4k"')
    assert _counters(guest, "")["wr_bytes"] >= 4096


def test_dumpxml_of_the_live_domain_has_an_id(guest: Guest) -> None:
    assert guest.virsh("dumpxml", "--xpath", "/domain/@id") == f'id="{guest.virsh("domid")}"'


def test_dumpxml_inactive_has_no_id(guest: Guest) -> None:
    root = ET.fromstring(guest.virsh("dumpxml", "--inactive"))
    assert root.get("id") is None
    assert root.findtext("name") == guest.name


@pytest.mark.parametrize("option", ["--security-info", "--update-cpu", "--migratable"])
def test_dumpxml_option(guest: Guest, option: str) -> None:
    assert ET.fromstring(guest.virsh("dumpxml", option)).findtext("name") == guest.name


def test_dumpxml_keeps_passwords_for_those_who_ask(spare: Guest) -> None:
    graphics = "<graphics type='vnc' port='-1' passwd='s3cret'/></devices>"
    document = spare.virsh("dumpxml").replace("</devices>", graphics)
    spare.define(document)
    assert "s3cret" not in spare.virsh("dumpxml")
    assert "s3cret" in spare.virsh("dumpxml", "--security-info")


def test_dumpxml_defines_the_same_again(spare: Guest) -> None:
    document = spare.virsh("dumpxml")
    spare.define(document)
    assert spare.virsh("dumpxml") == document


@pytest.mark.only("memory")
def test_unmodelled_elements_survive(spare: Guest) -> None:
    extra = "<memtune><hard_limit unit='KiB'>1048576</hard_limit></memtune>"
    document = spare.virsh("dumpxml").replace("<os>", f"{extra}<os>")
    spare.define(document)
    assert "1048576" in spare.virsh("dumpxml", "--xpath", "/domain/memtune/hard_limit")


def test_edit_changes_the_definition(spare: Guest) -> None:
    editor = {"PATH": "/usr/bin:/bin", "EDITOR": "sed -i s/65536/131072/"}
    assert "edited" in spare.virsh("edit", environment=editor)
    assert _fields(spare.virsh("dominfo"))["Max memory"] == "131072 KiB"


def test_desc_is_empty_at_first(spare: Guest) -> None:
    assert "No description" in spare.virsh("desc")


def test_desc_sets_the_description(spare: Guest) -> None:
    spare.virsh("desc", "--config", "some", "words")
    assert spare.virsh("desc") == "some words"


def test_desc_of_the_live_domain_is_not_its_configuration(guest: Guest) -> None:
    guest.virsh("desc", "--live", "now")
    assert guest.virsh("desc", "--live") == "now"
    assert "No description" in guest.virsh("desc", "--config")


def test_desc_title(spare: Guest) -> None:
    spare.virsh("desc", "--title", "--config", "Short")
    assert spare.virsh("desc", "--title") == "Short"


def test_desc_empty_text_removes(spare: Guest) -> None:
    spare.virsh("desc", "text")
    spare.virsh("desc", "--new-desc", "")
    assert "No description" in spare.virsh("desc")


def test_title_with_a_newline_is_refused(spare: Guest) -> None:
    assert "error: " in spare.virsh("desc", "--title", "--new-desc", "a\nb", status=1)


METADATA = ("metadata", "http://example.invalid/m")


def test_metadata_is_absent_at_first(spare: Guest) -> None:
    assert "metadata not found" in spare.virsh(*METADATA, status=1)


def test_metadata_is_stored_under_its_namespace(spare: Guest) -> None:
    spare.virsh(*METADATA, "--key", "k", "--set", "<a b='1'/>")
    assert ET.fromstring(spare.virsh(*METADATA)).attrib == {"b": "1"}
    assert 'xmlns:k="http://example.invalid/m"' in spare.virsh("dumpxml", "--xpath", "//metadata")


def test_metadata_can_be_removed(spare: Guest) -> None:
    spare.virsh(*METADATA, "--key", "k", "--set", "<a/>")
    spare.virsh(*METADATA, "--remove")
    assert "metadata not found" in spare.virsh(*METADATA, status=1)


def test_autostart_and_back(spare: Guest) -> None:
    spare.virsh("autostart")
    assert _fields(spare.virsh("dominfo"))["Autostart"] == "enable"
    spare.virsh("autostart", "--disable")
    assert _fields(spare.virsh("dominfo"))["Autostart"] == "disable"


def _stats(text: str) -> dict[str, str]:
    return dict(line.strip().split("=", 1) for line in text.splitlines() if "=" in line)


def test_domstats_of_one_group(guest: Guest) -> None:
    assert _stats(guest.virsh("domstats", "--state")) == {"state.state": "1", "state.reason": "1"}


def test_domstats_of_an_inactive_domain(spare: Guest) -> None:
    assert _stats(spare.virsh("domstats", "--state")) == {"state.state": "5", "state.reason": "0"}


@pytest.mark.parametrize(
    ("option", "key", "value"),
    [
        ("--balloon", "balloon.maximum", "65536"),
        ("--vcpu", "vcpu.maximum", "1"),
        ("--vcpu", "vcpu.0.state", "1"),
        ("--interface", "net.count", "0"),
        ("--block", "block.count", "3"),
        ("--block", "block.1.name", "vdb"),
        ("--block", "block.0.wr.reqs", "0"),
    ],
)
def test_domstats_group(guest: Guest, option: str, key: str, value: str) -> None:
    assert _stats(guest.virsh("domstats", option))[key] == value


@pytest.mark.parametrize("option", ["--cpu-total", "--backing", "--nowait", "--raw", "--enforce"])
@pytest.mark.only("memory")
def test_domstats_option(guest: Guest, option: str) -> None:
    assert guest.virsh("domstats", option).startswith(f"Domain: '{guest.name}'")


def test_domstats_of_a_backing_chain_show_the_scratch_image(guest: Guest) -> None:
    guest.begin_pull()
    stats = _stats(guest.virsh("domstats", "--block", "--backing"))
    assert stats["block.count"] == "5"
    assert stats["block.1.name"] == "vda"
    assert stats["block.1.path"].startswith(f"{guest.folder}/vda.qcow2.")
