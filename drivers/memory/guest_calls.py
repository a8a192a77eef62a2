"""Single questions to the guest's agent: file systems, host name, addresses of interfaces."""

from typing import Final

from virtbackupd.drivers.errors import ArgumentUnsupported
from virtbackupd.drivers.flags import check_none
from virtbackupd.drivers.interface import FileSystemInfo, InterfaceAddresses
from virtbackupd.drivers.memory import guest_info as details
from virtbackupd.drivers.memory.agent import file_systems, require_agent, require_thawed
from virtbackupd.drivers.memory.guest import Guest, require_active

_LEASE: Final = 0
_AGENT: Final = 1
_ARP: Final = 2


def get_fsinfo(domain: Guest, flags: int) -> list[FileSystemInfo]:
    """What the guest has mounted."""
    check_none(flags, "virDomainGetFSInfo")
    require_agent(domain)
    require_thawed(domain, "guest-get-fsinfo")
    return [
        FileSystemInfo(system.mountpoint, system.disk.target, details.FS_TYPE, [system.disk.target])
        for system in file_systems(domain)
    ]


def get_hostname(domain: Guest, flags: int) -> str:
    """The guest calls itself as its domain is called."""
    if flags & ~(1 | 2):
        check_none(flags, "virDomainGetHostname")
    require_agent(domain)
    require_thawed(domain, "guest-get-host-name")
    return domain.ref.name


def interface_addresses(domain: Guest, source: int, flags: int) -> list[InterfaceAddresses]:
    """The agent tells the cards; no address is ever given to one."""
    check_none(flags, "virDomainInterfaceAddresses")
    require_active(domain)
    if source in (_LEASE, _ARP):
        return []
    if source != _AGENT:
        raise ArgumentUnsupported(f"there is no source {source} of interface addresses")
    require_agent(domain)
    require_thawed(domain, "guest-network-get-interfaces")
    cards = domain.definition.interfaces
    return [InterfaceAddresses(f"eth{index}", card.mac, []) for index, card in enumerate(cards)]
