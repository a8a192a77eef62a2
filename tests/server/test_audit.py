"""The lines that tell who did what to which domain, and how it ended."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import libvirt
import pytest
from binding import connected, wait_until

from virtbackupd.server import audit
from virtbackupd.server.log_syntax import AUDIT
from virtbackupd.testing import Server, serve

CHECKPOINT = "<domaincheckpoint><name>monday</name></domaincheckpoint>"
UUID = "domain=test uuid="


@pytest.fixture
def server(caplog: pytest.LogCaptureFixture) -> Iterator[Server]:
    caplog.set_level(logging.INFO, AUDIT)
    with serve() as found:
        yield found


@pytest.fixture
def domain(server: Server) -> Iterator[libvirt.virDomain]:
    with connected(server.uri) as connection:
        yield connection.lookupByName("test")


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == AUDIT]


def test_checkpoint_made(domain: libvirt.virDomain, caplog: pytest.LogCaptureFixture) -> None:
    domain.checkpointCreateXML(CHECKPOINT)
    assert lines(caplog)[-1].startswith(
        f"action=checkpoint-create domain=test uuid={domain.UUIDString()} checkpoint=monday"
    )
    assert lines(caplog)[-1].endswith("result=success")


def test_who_did_it(domain: libvirt.virDomain, caplog: pytest.LogCaptureFixture) -> None:
    domain.checkpointCreateXML(CHECKPOINT)
    assert f" transport=unix uid={os.getuid()} pid={os.getpid()} " in lines(caplog)[-1]


def test_checkpoint_deleted(domain: libvirt.virDomain, caplog: pytest.LogCaptureFixture) -> None:
    domain.checkpointCreateXML(CHECKPOINT).delete()
    assert "action=checkpoint-delete domain=test" in lines(caplog)[-1]
    assert "checkpoint=monday" in lines(caplog)[-1]


def test_failure_with_its_reason(
    domain: libvirt.virDomain, caplog: pytest.LogCaptureFixture
) -> None:
    domain.checkpointCreateXML(CHECKPOINT)
    with pytest.raises(libvirt.libvirtError) as refused:
        domain.checkpointCreateXML(CHECKPOINT)
    code = refused.value.get_error_code()
    assert f' code={code} error="' in lines(caplog)[-1]
    assert lines(caplog)[-1].endswith("result=failed")


def test_backup_begun_and_aborted_and_ended(
    domain: libvirt.virDomain, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    server = f"<server transport='unix' socket='{tmp_path}/nbd'/>"
    domain.backupBegin(f"<domainbackup mode='pull'>{server}</domainbackup>", None)
    domain.abortJob()
    wait_until(lambda: len(lines(caplog)) == 3, "the backup has ended")
    actions = sorted(line.split()[0] for line in lines(caplog))
    assert actions == ["action=backup-abort", "action=backup-begin", "action=backup-end"]


def test_refused_call(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    with connected(f"{server.uri}-ro") as connection, pytest.raises(libvirt.libvirtError):
        connection.lookupByName("test").checkpointCreateXML(CHECKPOINT)
    assert lines(caplog)[-1].startswith(
        "action=call procedure=DOMAIN_CHECKPOINT_CREATE_XML missing=read-write client="
    )
    assert " readonly=yes " in lines(caplog)[-1]


def test_nothing_is_said_of_calls_that_only_read(
    domain: libvirt.virDomain, caplog: pytest.LogCaptureFixture
) -> None:
    domain.XMLDesc()
    assert lines(caplog) == []


@pytest.mark.parametrize(
    ("value", "shown"),
    [("plain-1", "plain-1"), ("two words", '"two words"'), ("a=b", '"a=b"'), ("x\ny", r'"x\ny"')],
)
def test_value_cannot_look_like_another_field(
    value: str, shown: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, AUDIT)
    audit.line("call", "refused", {"name": value, "empty": ""})
    assert lines(caplog) == [f"action=call name={shown} result=refused"]


def test_name_of_any_length_makes_no_line_of_any_length(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, AUDIT)
    audit.line("call", "refused", {"domain": "a" * 1_000_000})
    assert lines(caplog) == [f"action=call domain={'a' * audit.LONGEST} result=refused"]
