"""The tables of releases agree with the interface, with each other and with the documentation."""

import re
from itertools import pairwise
from pathlib import Path

import pytest
from lxml import etree

from virtbackupd.drivers.errors import (
    InternalError,
    InvalidArgument,
    UnsupportedFlags,
    XmlInvalidSchema,
)
from virtbackupd.drivers.profiles import (
    BACKUP_XML,
    EVENT_REGISTRATION,
    FLAGS,
    GUEST_INFO,
    GUEST_INFO_CALL,
    NEWEST,
    PROFILES,
    Profile,
    Version,
    find_profile,
)
from virtbackupd.protocol import schema

PAGE = Path(__file__).parents[2] / "docs" / "profiles.md"


@pytest.fixture(params=list(PROFILES.values()), ids=list(PROFILES))
def profile(request: pytest.FixtureRequest) -> Profile:
    found: Profile = request.param
    return found


def test_versions_are_numbers_as_libvirt_says_them() -> None:
    assert (Version(11, 10).number, str(Version(7, 6))) == (11_010_000, "7.6.0")


def test_names_are_looked_up() -> None:
    assert find_profile("9.0") is PROFILES["9.0"]


def test_unknown_names_are_told_the_known_ones() -> None:
    with pytest.raises(InvalidArgument, match=re.escape("6.0, 7.6, 9.0, 11.10, newest")):
        find_profile("9.1")


def test_later_profiles_know_more() -> None:
    rows = PROFILES.values()
    for earlier, later in pairwise(rows):
        assert earlier.libvirt <= later.libvirt
        assert earlier.last_remote <= later.last_remote
        assert earlier.events <= later.events


def test_the_newest_knows_every_procedure() -> None:
    for procedure in schema.load().by_number.values():
        assert NEWEST.knows(procedure.name, procedure.number)


def test_the_newest_restricts_nothing() -> None:
    for procedure in schema.load().by_number.values():
        assert not NEWEST.restricts(procedure.name)


@pytest.mark.parametrize(
    ("procedure", "first"),
    [
        ("DOMAIN_BACKUP_BEGIN", "6.0"),
        ("DOMAIN_GET_MESSAGES", "7.6"),
        ("DOMAIN_ABORT_JOB_FLAGS", "9.0"),
        ("QEMU_DOMAIN_MONITOR_COMMAND_WITH_FILES", "9.0"),
        ("DOMAIN_GRAPHICS_RELOAD", "11.10"),
    ],
)
def test_the_first_profile_with_a_procedure(procedure: str, first: str) -> None:
    number = schema.load().by_name[procedure].number
    knowing = [name for name, row in PROFILES.items() if row.knows(procedure, number)]
    assert knowing[0] == first


@pytest.mark.parametrize("row", FLAGS, ids=lambda row: f"{row.procedure}-{row.name}")
def test_flag_rows_name_procedures_whose_last_argument_is_flags(row: object) -> None:
    procedure = schema.load().by_name[getattr(row, "procedure")]  # noqa: B009
    assert procedure.args is not None
    assert procedure.args.fields[-1].name == "flags"


@pytest.mark.parametrize("name", [EVENT_REGISTRATION, GUEST_INFO_CALL])
def test_special_rows_name_procedures(name: str) -> None:
    assert name in schema.load().by_name


def test_a_later_flag_is_refused_by_its_bits() -> None:
    with pytest.raises(UnsupportedFlags, match="0x2 in virDomainBackupBegin"):
        PROFILES["9.0"].check_call("DOMAIN_BACKUP_BEGIN", "virDomainBackupBegin", ("", None, 3))


def test_a_known_flag_is_let_through() -> None:
    PROFILES["9.0"].check_call("DOMAIN_BACKUP_BEGIN", "virDomainBackupBegin", ("", None, 1))


def test_a_later_event_is_refused() -> None:
    old = PROFILES["6.0"]
    old.check_call(EVENT_REGISTRATION, "", (24, None))
    with pytest.raises(InternalError, match="unsupported event ID 25"):
        old.check_call(EVENT_REGISTRATION, "", (25, None))


def test_later_guest_information_is_refused() -> None:
    old = PROFILES["7.6"]
    old.check_call(GUEST_INFO_CALL, "", (None, 63, 0))
    with pytest.raises(InvalidArgument, match="types 0x40"):
        old.check_call(GUEST_INFO_CALL, "", (None, 64, 0))


@pytest.mark.parametrize(
    ("xml", "since"),
    [
        ("<server tls='yes'/>", "7.6"),
        ("<disks><disk backupmode='full'/></disks>", "7.6"),
        ("<disks><disk incremental='c'/></disks>", "7.6"),
        ("<server transport='fd'/>", "11.10"),
        ("<server transport='unix'/>", "6.0"),
    ],
)
def test_the_first_profile_with_an_element(xml: str, since: str) -> None:
    root = etree.fromstring(f"<domainbackup>{xml}</domainbackup>")
    accepting = []
    for name, row in PROFILES.items():
        try:
            row.check_backup(root)
        except XmlInvalidSchema:
            continue
        accepting.append(name)
    assert accepting[0] == since


def test_the_page_shows_every_profile(profile: Profile) -> None:
    row = f"| `{profile.name}` | {profile.libvirt} | {profile.qemu} |"
    assert row in PAGE.read_text()


@pytest.mark.parametrize(
    ("name", "since"),
    [(row.name, row.since) for row in (*FLAGS, *GUEST_INFO)]
    + [(row.about, row.since) for row in BACKUP_XML],
)
def test_the_page_shows_every_row(name: str, since: Version) -> None:
    lines = [line for line in PAGE.read_text().splitlines() if name in line]
    assert [line for line in lines if f"| {since} |" in line]
