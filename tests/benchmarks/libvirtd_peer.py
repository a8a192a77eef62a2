"""Debian's libvirtd as the peer to measure beside: private sockets, no authentication.

It runs as an unprivileged user, because a second system daemon would fight the first for its locks.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

START_DEADLINE = 15.0
PEER_USER = "nobody"
CONFIG = """\
unix_sock_dir = "{root}"
auth_unix_rw = "none"
auth_unix_ro = "none"
unix_sock_rw_perms = "0700"
log_outputs = "4:file:{root}/log"
"""


@dataclass(frozen=True, slots=True)
class Peer:
    """A running libvirtd."""

    root: Path
    process: subprocess.Popen[bytes]

    @property
    def socket(self) -> Path:
        return self.root / "libvirt-sock"

    @property
    def uri(self) -> str:
        return f"test+unix:///default?socket={self.socket}"


def _wait_for_socket(peer: Peer) -> None:
    deadline = time.monotonic() + START_DEADLINE
    while time.monotonic() < deadline:
        done = subprocess.run(
            ["virsh", "-c", peer.uri, "uri"],
            capture_output=True,
            timeout=START_DEADLINE,
            check=False,
        )
        if done.returncode == 0:
            return
        time.sleep(0.05)
    raise RuntimeError(f"libvirtd did not answer within {START_DEADLINE:.0f} s")


@contextmanager
def running_libvirtd(root: Path) -> Iterator[Peer]:
    """Run libvirtd (as root) until the block ends."""
    root.mkdir(parents=True, exist_ok=True)
    config = root / "libvirtd.conf"
    config.write_text(CONFIG.format(root=root))
    root.parent.chmod(0o755)
    shutil.chown(root, PEER_USER)
    process = subprocess.Popen(
        ["/usr/sbin/libvirtd", "-f", str(config), "-p", str(root / "pid"), "-t", "0"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        user=PEER_USER,
        env={"PATH": os.defpath, "HOME": str(root), "XDG_RUNTIME_DIR": str(root)},
    )
    with process:
        peer = Peer(root, process)
        try:
            _wait_for_socket(peer)
            yield peer
        finally:
            process.terminate()
