"""Error code and error domain of checkpoint and backup documents that must be refused.

Opened as qemu:///system, so that the driver's own errors carry QEMU's error domain. The numbers
are those observed from libvirt 9.0 with QEMU.
"""

import libvirt
import pytest
from binding import error_numbers
from documents import checkpoint_xml, push_xml

QEMU, DOMAIN, CHECKPOINT, XML = 10, 20, 69, 5
VDA = "<disk name='vda'/>"
FIVE_DISKS = "".join(f"<disk name='vd{letter}' checkpoint='no'/>" for letter in "abcde")


@pytest.mark.parametrize(
    ("xml", "expected"),
    [
        pytest.param("<domaincheckpoint/>", (67, QEMU), id="raw disk in the default set"),
        pytest.param(checkpoint_xml("c", disks="<disk name='vdz'/>"), (67, CHECKPOINT), id="disk"),
        pytest.param(checkpoint_xml("c", disks="<disk name='sda'/>"), (67, CHECKPOINT), id="empty"),
        pytest.param(checkpoint_xml("c", disks=VDA * 2), (67, CHECKPOINT), id="disk twice"),
        pytest.param(checkpoint_xml("c", disks=FIVE_DISKS), (67, CHECKPOINT), id="too many"),
        pytest.param(
            checkpoint_xml("c", disks="<disk name='vda' bitmap='other'/>"),
            (67, QEMU),
            id="foreign bitmap",
        ),
        pytest.param(checkpoint_xml(".hidden"), (92, XML), id="leading dot"),
        pytest.param(checkpoint_xml("a/b"), (92, XML), id="slash"),
        pytest.param("<domaincheckpoint><disks/></domaincheckpoint>", (92, XML), id="no disks"),
        pytest.param("<domaincheckpoint><x/></domaincheckpoint>", (92, XML), id="unknown element"),
        pytest.param("<domainsnapshot/>", (27, XML), id="wrong root"),
        pytest.param("<domaincheckpoint>", (35, CHECKPOINT), id="not well formed"),
    ],
)
def test_checkpoint_documents_refused(
    machine: libvirt.virDomain, xml: str, expected: tuple[int, int]
) -> None:
    assert error_numbers(lambda: machine.checkpointCreateXML(xml)) == expected


@pytest.mark.parametrize(
    ("xml", "expected"),
    [
        pytest.param("<domainbackup mode='pull'/>", (92, XML), id="pull without server"),
        pytest.param("<domainbackup mode='sideways'/>", (92, XML), id="unknown mode"),
        pytest.param("<domainbackup><disks/></domainbackup>", (92, XML), id="no disks"),
        pytest.param(push_xml("<disk name='vda' type='network'/>"), (92, XML), id="network target"),
        pytest.param(
            "<domainbackup mode='pull'><server transport='unix' socket='x.sock'/></domainbackup>",
            (92, XML),
            id="relative socket",
        ),
        pytest.param(
            "<domainbackup mode='pull'><server transport='unix' socket='/x/s'/><disks><disk"
            " name='vda' type='file'><driver type='raw'/><scratch file='/x/y'/></disk></disks>"
            "</domainbackup>",
            (92, XML),
            id="raw scratch",
        ),
        pytest.param(
            "<domainbackup mode='pull'><server transport='tcp' name='127.0.0.1'/></domainbackup>",
            (84, QEMU),
            id="tcp without port",
        ),
        pytest.param(push_xml("<disk name='vdz'/>"), (67, DOMAIN), id="unknown disk"),
        pytest.param(push_xml(VDA * 2), (67, DOMAIN), id="disk twice"),
        pytest.param(push_xml("<disk name='sda'/>"), (67, DOMAIN), id="no media"),
        pytest.param(push_xml("<disk name='vda' backup='no'/>"), (67, QEMU), id="nothing selected"),
        pytest.param(
            push_xml("<disk name='vda' backupmode='incremental'/>"), (67, DOMAIN), id="no start"
        ),
        pytest.param(push_xml(VDA, "missing"), (103, QEMU), id="unknown checkpoint"),
        pytest.param("<backup/>", (27, XML), id="wrong root"),
        pytest.param("<domainbackup", (35, DOMAIN), id="not well formed"),
    ],
)
def test_backup_documents_refused(
    machine: libvirt.virDomain, xml: str, expected: tuple[int, int]
) -> None:
    assert error_numbers(lambda: machine.backupBegin(xml, None)) == expected


@pytest.mark.parametrize(
    ("xml", "expected"),
    [
        pytest.param(checkpoint_xml("c"), (1, CHECKPOINT), id="no time"),
        pytest.param(
            "<domaincheckpoint><creationTime>1</creationTime></domaincheckpoint>",
            (27, CHECKPOINT),
            id="no name",
        ),
        pytest.param(checkpoint_xml("c", parent="d", created=1), (8, DOMAIN), id="unknown parent"),
        pytest.param(checkpoint_xml("c", parent="c", created=1), (8, DOMAIN), id="own parent"),
        pytest.param(checkpoint_xml("c1", parent="c2", created=1), (8, DOMAIN), id="cycle"),
    ],
)
def test_redefinition_refused(
    machine: libvirt.virDomain, xml: str, expected: tuple[int, int]
) -> None:
    for name in ("c1", "c2"):
        machine.checkpointCreateXML(checkpoint_xml(name, disks=VDA))
    redefine = libvirt.VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE
    assert error_numbers(lambda: machine.checkpointCreateXML(xml, redefine)) == expected
