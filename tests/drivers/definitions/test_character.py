"""The view on serial ports, consoles and channels."""

import pytest
from lxml import etree

from virtbackupd.drivers.definitions.character import CharacterPort, read_ports
from virtbackupd.drivers.errors import XmlError


def port(kind: str, text: str) -> CharacterPort:
    (found,) = read_ports(etree.fromstring(f"<devices>{text}</devices>"), kind)
    return found


def test_a_bare_port_is_a_terminal() -> None:
    found = port("serial", "<serial/>")
    assert (found.type, found.mode, found.path, found.target_port) == ("pty", "bind", None, None)


def test_a_channel_has_a_name() -> None:
    found = port("channel", "<channel type='unix'><target type='virtio' name='a.b'/></channel>")
    assert (found.target_type, found.target_name) == ("virtio", "a.b")


def test_a_socket_has_an_end_on_the_host() -> None:
    source = "<source mode='connect' host='h' service='7'/><protocol type='telnet'/>"
    found = port("serial", f"<serial type='tcp'>{source}</serial>")
    assert (found.mode, found.host, found.service, found.telnet) == ("connect", "h", "7", True)


def test_output_may_be_kept() -> None:
    assert port("serial", "<serial><log file='/l'/></serial>").log_file == "/l"


def test_a_port_that_is_no_number_is_refused() -> None:
    with pytest.raises(XmlError, match="port of a <serial>"):
        port("serial", "<serial><target port='x'/></serial>")
