"""The parts of the two capabilities documents that do not depend on the hypervisor.

A driver adds its guests, machines and devices. What a host can really run is not known here.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import TypeAlias

from lxml import etree

from virtbackupd.drivers.host_uuid import host_uuid
from virtbackupd.drivers.interface import NodeInfo
from virtbackupd.drivers.node import host_arch, read_node_info

Enums: TypeAlias = Mapping[str, Iterable[str]]


@cache
def node_info() -> NodeInfo:
    """The host's processors and memory, read once."""
    return read_node_info()


def node(tag: str, *content: "etree._Element | str", **attributes: str) -> etree._Element:
    """An element with text or children."""
    element = etree.Element(tag, attributes)
    for part in content:
        if isinstance(part, str):
            element.text = part
        else:
            element.append(part)
    return element


def supported(name: str, enums: Enums, *content: etree._Element) -> etree._Element:
    """A kind of device with the values that its attributes may have."""
    return node(name, *content, *(enum(key, values) for key, values in enums.items()),
                supported="yes")  # fmt: skip


def enum(name: str, values: Iterable[str]) -> etree._Element:
    return node("enum", *(node("value", value) for value in values), name=name)


def host_element() -> etree._Element:
    """`<host>`: what the machine below is."""
    about = node_info()
    topology = node(
        "topology",
        sockets=str(about.sockets),
        dies="1",
        cores=str(about.cores),
        threads=str(about.threads),
    )
    return node(
        "host",
        node("uuid", host_uuid()),
        node("cpu", node("arch", host_arch()), topology),
        node("power_management"),
        node("iommu", support="no"),
        node("topology", node("cells", _cell(about), num="1")),
        node("secmodel", node("model", "none"), node("doi", "0")),
    )


def _cell(about: NodeInfo) -> etree._Element:
    cpus = [
        node(
            "cpu",
            id=str(index),
            socket_id=str(index // (about.cores * about.threads)),
            core_id=str(index // about.threads % about.cores),
            siblings=str(index),
        )
        for index in range(about.cpus)
    ]
    return node(
        "cell",
        node("memory", str(about.memory), unit="KiB"),
        node("cpus", *cpus, num=str(about.cpus)),
        id="0",
    )
