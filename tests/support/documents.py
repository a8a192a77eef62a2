"""The XML documents the client tests send: domains, checkpoints, backups.

Written out as a user would write them; nothing here is shared with the daemon.
"""

from collections.abc import Sequence
from pathlib import Path


def disk_element(target: str, path: Path, format_name: str = "qcow2") -> str:
    """A writable disk backed by a file."""
    return f"""
    <disk type='file' device='disk'>
      <driver name='qemu' type='{format_name}'/>
      <source file='{path}'/>
      <target dev='{target}' bus='virtio'/>
    </disk>"""


EMPTY_CDROM = """
    <disk type='file' device='cdrom'>
      <driver name='qemu' type='raw'/>
      <target dev='sda' bus='sata'/>
      <readonly/>
    </disk>"""


def domain_xml(name: str, devices: str, kind: str = "qemu", machine: str = "") -> str:
    """A small machine with the given devices."""
    chosen = f" machine='{machine}'" if machine else ""
    return f"""
<domain type='{kind}'>
  <name>{name}</name>
  <memory unit='MiB'>64</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64'{chosen}>hvm</type></os>
  <features><acpi/></features>
  <devices>{devices}
  </devices>
</domain>"""


def checkpoint_xml(name: str, *, parent: str = "", disks: str = "", created: int = 0) -> str:
    """A checkpoint; `disks` are ready-made elements, `parent` and `created` serve redefinition."""
    parts = [f"<name>{name}</name>"]
    if parent:
        parts.append(f"<parent><name>{parent}</name></parent>")
    if created:
        parts.append(f"<creationTime>{created}</creationTime>")
    if disks:
        parts.append(f"<disks>{disks}</disks>")
    return f"<domaincheckpoint>{''.join(parts)}</domaincheckpoint>"


def _incremental(checkpoint: str) -> str:
    return f"<incremental>{checkpoint}</incremental>" if checkpoint else ""


def scratch_disk(target: str, folder: Path, more: str = "") -> str:
    """One disk of a pull backup with its scratch file below `folder`."""
    return f"<disk name='{target}' {more}><scratch file='{folder}/scratch-{target}'/></disk>"


def pull_xml(
    server: str, folder: Path, targets: Sequence[str] = ("vda",), incremental: str = ""
) -> str:
    """A pull backup of the targets; `server` is the inside of the server element."""
    disks = "".join(scratch_disk(target, folder) for target in targets)
    return (
        f"<domainbackup mode='pull'>{_incremental(incremental)}"
        f"<server {server}/><disks>{disks}</disks></domainbackup>"
    )


def unix_server(socket: Path) -> str:
    return f"transport='unix' socket='{socket}'"


def tcp_server(port: int, host: str = "127.0.0.1") -> str:
    return f"transport='tcp' name='{host}' port='{port}'"


def push_disk(target: str, path: Path, format_name: str = "qcow2", kind: str = "file") -> str:
    """One disk of a push backup."""
    attribute = "file" if kind == "file" else "dev"
    return (
        f"<disk name='{target}' type='{kind}'><target {attribute}='{path}'/>"
        f"<driver type='{format_name}'/></disk>"
    )


def push_xml(disks: str, incremental: str = "") -> str:
    """A push backup of ready-made disk elements."""
    return f"<domainbackup>{_incremental(incremental)}<disks>{disks}</disks></domainbackup>"
