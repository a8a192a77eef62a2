"""Our two grammars, row by row of the specification, and how a refusal is explained."""

import pytest
from lxml import etree

from virtbackupd.drivers.definitions.schema import (
    CHECKPOINT_SCHEMA,
    PULL_SCHEMA,
    PUSH_SCHEMA,
    Schema,
)
from virtbackupd.drivers.errors import Origin, XmlInvalidSchema

SECRET = "<secret type='passphrase' usage='u'/>"
SERVER = "<server transport='unix' socket='/s'/>"


def valid(schema: Schema, text: str) -> bool:
    try:
        schema.validate(etree.fromstring(text))
    except XmlInvalidSchema:
        return False
    return True


def checkpoint(inner: str) -> bool:
    return valid(CHECKPOINT_SCHEMA, f"<domaincheckpoint>{inner}</domaincheckpoint>")


def checkpoint_disk(attributes: str) -> bool:
    return checkpoint(f"<disks><disk {attributes}/></disks>")


def push(inner: str) -> bool:
    return valid(PUSH_SCHEMA, f"<domainbackup>{inner}</domainbackup>")


def push_disk(disk: str) -> bool:
    return push(f"<disks>{disk}</disks>")


def pull(inner: str) -> bool:
    return valid(PULL_SCHEMA, f"<domainbackup mode='pull'>{inner}</domainbackup>")


def pull_disk(disk: str) -> bool:
    return pull(f"{SERVER}<disks>{disk}</disks>")


@pytest.mark.parametrize(
    "inner",
    [
        "",
        "<name>c1</name>",
        "<name>_a-B.9</name>",
        "<name>-</name>",
        f"<name>{'x' * 5000}</name>",
        "<description/>",
        "<description>any\ntext ü</description>",
        "<creationTime>0</creationTime>",
        "<creationTime>18446744073709551615</creationTime>",
        "<parent><name>p</name></parent>",
        "<disks><disk name='vda'/></disks><name>free-order</name>",
        "<domain type='x'><name>d</name>text<any xmlns='urn:x' a='1'/></domain>",
    ],
)
def test_valid_checkpoints(inner: str) -> None:
    assert checkpoint(inner)


@pytest.mark.parametrize(
    "inner",
    [
        "<name/>",
        "<name>.hidden</name>",
        "<name>a/b</name>",
        "<name>a b</name>",
        "<name>a:b</name>",
        "<name>a\nb</name>",
        "<name>ä</name>",
        "<name>a</name><name>b</name>",
        "<creationTime>-1</creationTime>",
        "<creationTime>18446744073709551616</creationTime>",
        "<creationTime>soon</creationTime>",
        "<creationTime/>",
        "<parent/>",
        "<parent><name>p</name><name>q</name></parent>",
        "<parent><name>.p</name></parent>",
        "<disks/>",
        "<active>1</active>",
        "<unknown/>",
        "text",
    ],
)
def test_invalid_checkpoints(inner: str) -> None:
    assert not checkpoint(inner)


def test_the_checkpoint_element_has_no_attributes() -> None:
    assert not valid(CHECKPOINT_SCHEMA, "<domaincheckpoint x='1'/>")


@pytest.mark.parametrize(
    "attributes",
    [
        "name='vda'",
        "name='ioemu:hda'",
        "name='fda'",
        "name='sdaa1'",
        "name='xvda'",
        "name='ubd0'",
        "name='/var/lib/a b.qcow2'",
        "name='vda' checkpoint='no'",
        "name='vda' checkpoint='bitmap'",
        "name='vda' checkpoint='bitmap' bitmap='any text' size='65536'",
        "name='vda' bitmap='b'",
        "name='vda' size='0'",
    ],
)
def test_valid_checkpoint_disks(attributes: str) -> None:
    assert checkpoint_disk(attributes)


@pytest.mark.parametrize(
    "attributes",
    [
        "",
        "name=''",
        "name='vd'",
        "name='nvme0n1'",
        "name='relative/path'",
        "name='/'",
        "name='vda' checkpoint='yes'",
        "name='vda' checkpoint='no' bitmap='b'",
        "name='vda' checkpoint='no' size='1'",
        "name='vda' size='-1'",
        "name='vda' unknown='1'",
    ],
)
def test_invalid_checkpoint_disks(attributes: str) -> None:
    assert not checkpoint_disk(attributes)


@pytest.mark.parametrize(
    "inner",
    ["", "<incremental/>", "<incremental>not/checked</incremental>"],
)
def test_valid_push_backups(inner: str) -> None:
    assert push(inner)


@pytest.mark.parametrize("inner", ["<disks/>", SERVER, "<unknown/>"])
def test_invalid_push_backups(inner: str) -> None:
    assert not push(inner)


@pytest.mark.parametrize(
    "disk",
    [
        "<disk name='vda'/>",
        "<disk name='vda' backup='yes'/>",
        "<disk name='vda' backup='no'/>",
        "<disk name='vda' backup='no' backupmode='full'/>",
        "<disk name='vda' backupmode='full'/>",
        "<disk name='vda' backupmode='incremental'/>",
        "<disk name='vda' backupmode='incremental' incremental='c'/>",
        "<disk name='vda' incremental='c'/>",
        "<disk name='vda' type='file'/>",
        "<disk name='vda' backup='yes' type='file'><target file='/t'/></disk>",
        "<disk name='vda' type='file'><target/></disk>",
        "<disk name='vda' type='file'><driver type='vmdk'/><target file='/t'/></disk>",
        "<disk name='vda' type='file'><target file='/t'/><driver type='qed'/></disk>",
        "<disk name='vda' type='block'/>",
        "<disk name='vda' type='block'><target dev='/dev/x'/><driver type='raw'/></disk>",
    ],
)
def test_valid_push_disks(disk: str) -> None:
    assert push_disk(disk)


@pytest.mark.parametrize(
    "disk",
    [
        "<disk/>",
        "<disk name='/by/path'/>",
        "<disk name='nvme0n1'/>",
        "<disk name='vda' exportname='x'/>",
        "<disk name='vda' exportbitmap='x'/>",
        "<disk name='vda' index='1'/>",
        "<disk name='vda' state='running'/>",
        "<disk name='vda'><privateData/></disk>",
        "<disk name='vda'><driver type='qcow2'/></disk>",
        "<disk name='vda' backup='no' type='file'/>",
        "<disk name='vda' backupmode='full' incremental='c'/>",
        "<disk name='vda' backupmode='other'/>",
        "<disk name='vda' type='network'/>",
        "<disk name='vda' type='file'><scratch file='/t'/></disk>",
        "<disk name='vda' type='file'><target file='relative'/></disk>",
        "<disk name='vda' type='file'><target dev='/dev/x'/></disk>",
        "<disk name='vda' type='block'><target/></disk>",
        "<disk name='vda' type='file'><driver type='auto'/></disk>",
    ],
)
def test_invalid_push_disks(disk: str) -> None:
    assert not push_disk(disk)


def store(extras: str) -> str:
    return f"<disk name='vda' type='file'><target file='/t'>{extras}</target></disk>"


@pytest.mark.parametrize(
    "extras",
    [
        "<seclabel model='dac' relabel='no'/>",
        "<seclabel><label>l</label></seclabel><seclabel/>",
        f"<encryption format='luks'>{SECRET}</encryption>",
        f"<encryption format='luks' engine='qemu'>{SECRET}<ivgen name='plain64'/></encryption>",
        f"<encryption format='luks'><cipher name='aes' size='256'/>{SECRET}</encryption>",
    ],
)
def test_valid_store_extras(extras: str) -> None:
    assert push_disk(store(extras))


@pytest.mark.parametrize(
    "extras",
    [
        "<encryption format='luks'/>",
        f"<encryption format='qcow'>{SECRET}</encryption>",
        f"<encryption>{SECRET}</encryption>",
        "<encryption format='luks'><secret type='passphrase' uuid='x'/></encryption>",
        "<seclabel relabel='maybe'/>",
        "<unknown/>",
    ],
)
def test_invalid_store_extras(extras: str) -> None:
    assert not push_disk(store(extras))


@pytest.mark.parametrize(
    "server",
    [
        "<server name='localhost'/>",
        "<server name='host-1.example.org' port='10809'/>",
        "<server name='192.0.2.1' port='0'/>",
        "<server name='2001:db8::1' port='4294967295'/>",
        "<server transport='tcp' name='h' tls='yes'/>",
        "<server transport='unix' socket='/run/s' tls='no'/>",
        "<server transport='fd' fdgroup='any group'/>",
    ],
)
def test_valid_servers(server: str) -> None:
    assert pull(server)


@pytest.mark.parametrize(
    "server",
    [
        "",
        "<server/>",
        "<server transport='tcp'/>",
        "<server name='h' port='4294967296'/>",
        "<server name='h' port='-1'/>",
        "<server name='a b'/>",
        "<server name='h' socket='/s'/>",
        "<server name='h' tls='maybe'/>",
        "<server transport='unix'/>",
        "<server transport='unix' socket='relative'/>",
        "<server transport='fd'/>",
        "<server transport='rdma' name='h'/>",
        "<server transport='vsock' name='h'/>",
        "<server name='h'/><server name='h'/>",
    ],
)
def test_invalid_servers(server: str) -> None:
    assert not pull(server)


@pytest.mark.parametrize(
    "disk",
    [
        "<disk name='vda'/>",
        "<disk name='vda' exportname='e' exportbitmap='b'/>",
        "<disk name='vda' backup='no' exportname='e' backupmode='incremental'/>",
        "<disk name='vda'><scratch file='/s'/></disk>",
        "<disk name='vda' type='file'/>",
        "<disk name='vda' backup='yes' type='file'><driver/><scratch file='/s'/></disk>",
        "<disk name='vda' type='file'><scratch file='/s'/><driver type='qcow2'/></disk>",
        "<disk name='vda' type='block'><scratch dev='/dev/s'/></disk>",
    ],
)
def test_valid_pull_disks(disk: str) -> None:
    assert pull_disk(disk)


@pytest.mark.parametrize(
    "disk",
    [
        "<disk name='vda' backup='yes'/>",
        "<disk name='vda' type='file'><target file='/t'/></disk>",
        "<disk name='vda' type='file'><driver type='raw'/><scratch file='/s'/></disk>",
        "<disk name='vda' type='file'><driver type='qcow2'/></disk>",
        "<disk name='vda' type='block'/>",
        "<disk name='vda' type='block'><scratch file='/s'/></disk>",
        "<disk name='vda' backup='no'><scratch file='/s'/></disk>",
        "<disk name='vda' type='network'><scratch file='/s'/></disk>",
    ],
)
def test_invalid_pull_disks(disk: str) -> None:
    assert not pull_disk(disk)


@pytest.mark.parametrize("mode", ["default", "", "PULL"])
def test_unknown_modes(mode: str) -> None:
    assert not valid(PUSH_SCHEMA, f"<domainbackup mode='{mode}'/>")


def test_the_mode_may_be_given() -> None:
    assert valid(PUSH_SCHEMA, "<domainbackup mode='push'/>")


def test_a_refusal_names_line_element_and_rule() -> None:
    text = "<domaincheckpoint>\n<disks>\n<disk name='vda'/>\n<disk name='vdb' x='1'/></disks>"
    with pytest.raises(XmlInvalidSchema) as caught:
        CHECKPOINT_SCHEMA.validate(etree.fromstring(text + "</domaincheckpoint>"))
    assert caught.value.message.startswith("line 4, /domaincheckpoint/disks/disk[2]: ")
    assert "attribute x" in caught.value.message
    assert caught.value.origin is Origin.XML


def test_a_fault_of_the_root_is_named_by_its_rule() -> None:
    with pytest.raises(XmlInvalidSchema, match="mode 'pull', a server"):
        PULL_SCHEMA.validate(etree.fromstring("<domainbackup mode='pull'/>"))
