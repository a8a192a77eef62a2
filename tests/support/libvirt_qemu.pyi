# What the tests use of the stock binding's QEMU part.
# ruff: noqa: N802
from libvirt import virDomain

VIR_DOMAIN_QEMU_MONITOR_COMMAND_DEFAULT: int
VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP: int

def qemuMonitorCommand(domain: virDomain, cmd: str, flags: int) -> str: ...
def qemuAgentCommand(domain: virDomain, cmd: str, timeout: int, flags: int) -> str: ...
