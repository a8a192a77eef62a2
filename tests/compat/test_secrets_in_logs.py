"""What nobody is to read appears in no log, however much is logged."""

import json
from base64 import b64encode
from contextlib import suppress
from pathlib import Path

import libvirt
import libvirt_qemu
import pytest
from binding import connected
from daemon_process import running_daemon

SECRET = "xyzzy-plugh-3141"
SECRET_XML = (
    "<secret ephemeral='no' private='no'><usage type='volume'><volume>/v</volume></usage></secret>"
)


def use_secrets(connection: libvirt.virConnect) -> None:
    """All calls that carry something secret."""
    secret = connection.secretDefineXML(SECRET_XML)
    secret.setValue(SECRET.encode())
    assert secret.value() == SECRET.encode()
    domain = connection.lookupByName("test")
    with suppress(libvirt.libvirtError):
        domain.setUserPassword("root", SECRET)
    password = {"username": "root", "password": b64encode(SECRET.encode()).decode()}
    command = {"execute": "guest-set-user-password", "arguments": {**password, "crypted": False}}
    with suppress(libvirt.libvirtError):
        libvirt_qemu.qemuAgentCommand(domain, json.dumps(command), 5, 0)
    vnc = {"protocol": "vnc", "password": SECRET}
    with suppress(libvirt.libvirtError):
        libvirt_qemu.qemuMonitorCommand(
            domain, json.dumps({"execute": "set_password", "arguments": vnc}), 0
        )


@pytest.mark.parametrize("form", ["text", "json"])
def test_secrets_are_in_no_log(short_dir: Path, form: str) -> None:
    file, log = short_dir / "conf", short_dir / "all.log"
    file.write_text(
        f'log_level = 1\nlog_format = "{form}"\nlog_outputs = "1:file:{log} 1:stderr"\n'
    )
    with running_daemon(short_dir, "--config", str(file)) as daemon:
        with connected(daemon.uri) as connection:
            use_secrets(connection)
        daemon.stop()
        told = log.read_text() + daemon.log
    assert "virSecretSetValue" in told
    for form_of_it in (SECRET, b64encode(SECRET.encode()).decode(), SECRET.encode().hex()):
        assert form_of_it not in told
