"""Mutated documents: every reader answers with a definition or a `DriverError`, nothing else."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtbackupd.drivers.definitions.backup import format_backup, parse_backup
from virtbackupd.drivers.definitions.checkpoint import format_checkpoint, parse_checkpoint
from virtbackupd.drivers.definitions.domain import DomainDefinition
from virtbackupd.drivers.definitions.secret import format_secret, parse_secret
from virtbackupd.drivers.errors import DriverError

DOMAINS = [path.read_text() for path in (Path(__file__).parent / "samples").glob("*.xml")]
DOMAIN = min(DOMAINS, key=len)
CHECKPOINT = (
    "<domaincheckpoint><name>c</name><parent><name>p</name></parent><creationTime>5</creationTime>"
    f"<disks><disk name='vda' checkpoint='bitmap' bitmap='b'/></disks>{DOMAIN}</domaincheckpoint>"
)
BACKUP = (
    "<domainbackup mode='pull'><incremental>c</incremental><server name='h' port='1'/><disks>"
    "<disk name='vda' type='file' exportname='e'><scratch file='/s'/></disk></disks></domainbackup>"
)
SECRET = "<secret private='no'><uuid/><usage type='tls'><name>n</name></usage></secret>"
PIECES = ["", "<", ">", "'", "&", "\0", "\ud800", "x", "-1", "9" * 30, "<a/>", "xmlns='u'", "<!--"]

READERS: list[tuple[list[str], Callable[[str], str]]] = [
    (DOMAINS, lambda text: DomainDefinition.parse(text).to_xml(secure=False)),
    ([CHECKPOINT], lambda text: format_checkpoint(parse_checkpoint(text, redefine=True, now=1))),
    ([CHECKPOINT], lambda text: format_checkpoint(parse_checkpoint(text, redefine=False, now=1))),
    ([BACKUP], lambda text: format_backup(parse_backup(text))),
    ([SECRET], lambda text: format_secret(parse_secret(text))),
]


@st.composite
def mutated(draw: st.DrawFn, seeds: list[str]) -> str:
    text = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text)))
        length = draw(st.integers(0, 12))
        text = text[:start] + draw(st.sampled_from(PIECES)) + text[start + length :]
    return text


@pytest.mark.parametrize(("seeds", "read"), READERS)
@given(data=st.data())
def test_only_driver_errors_come_out(
    data: st.DataObject, seeds: list[str], read: Callable[[str], str]
) -> None:
    with suppress(DriverError):
        assert read(data.draw(mutated(seeds))).endswith(">\n")
