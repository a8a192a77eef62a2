"""Which messages are written, where, how, and that nobody waits for it."""

import json
import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from datagrams import listening_at

from virtbackupd.server import log_outputs, logs
from virtbackupd.server.config import ConfigError, Settings
from virtbackupd.server.log_outputs import JournalSink, SyslogSink, journal_datagram
from virtbackupd.server.log_syntax import AUDIT, Levels, LogSyntaxError
from virtbackupd.server.logs import LogOutputError, Logs, follow, open_logs

NAME = "virtbackupd.test.words"
log = logging.getLogger(NAME)


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for the writer gets what it writes, however slow the machine is."""
    monkeypatch.setattr(logs, "FLUSH_DEADLINE", 60.0)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "words.log"


@contextmanager
def logging_to(file: Path, **given: str) -> Iterator[Logs]:
    opened = Logs(outputs=f"1:file:{file}", **given)
    try:
        yield opened
    finally:
        opened.close()
        for name in ("virtbackupd", None):
            logging.getLogger(name).setLevel(logging.NOTSET)


def said(file: Path, opened: Logs) -> list[str]:
    opened.flush()
    return file.read_text().splitlines()


def test_line_has_time_level_category_and_text(file: Path) -> None:
    with logging_to(file) as opened:
        log.warning("a %s", "word")
        assert said(file, opened)[0].endswith(f" WARNING {NAME}: a word")


def test_fields_follow_the_text(file: Path) -> None:
    with logging_to(file) as opened:
        log.info("word", extra={"client": 3, "duration": 1.5})
        assert said(file, opened)[0].endswith(": word client=3 duration=1.5")


def test_below_the_level_nothing_is_written(file: Path) -> None:
    with logging_to(file, level="warning") as opened:
        log.info("no")
        assert said(file, opened) == []


def test_filter_opens_a_category(file: Path) -> None:
    with logging_to(file, level="error", filters="1:words") as opened:
        log.debug("yes")
        logging.getLogger("virtbackupd.test.other").debug("no")
        assert [line.split(": ")[1] for line in said(file, opened)] == ["yes"]


def test_filters_change_at_any_time(file: Path) -> None:
    with logging_to(file) as opened:
        log.debug("before")
        opened.set_filters("1:words")
        log.debug("after")
        assert [line.split(": ")[1] for line in said(file, opened)] == ["after"]


def test_wrong_filters_change_nothing(file: Path) -> None:
    with logging_to(file, filters="1:words") as opened:
        with pytest.raises(LogSyntaxError):
            opened.set_filters("9:words")
        assert opened.filters == "1:words"


def test_whoever_follows_the_levels_is_told(file: Path) -> None:
    told: list[Levels] = []
    with logging_to(file) as opened:
        opened.on_change.append(told.append)
        opened.set_level(4)
    assert [levels.general for levels in told] == [logging.ERROR]


def test_outputs_have_levels_of_their_own(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.log"
    with logging_to(file) as opened:
        opened.set_outputs(f"1:file:{file} 4:file:{other}")
        log.info("info")
        log.error("error")
        assert (len(said(file, opened)), len(said(other, opened))) == (2, 1)


def test_file_that_was_moved_away_is_opened_anew(file: Path) -> None:
    with logging_to(file) as opened:
        log.info("before")
        opened.flush()
        file.rename(file.with_suffix(".1"))
        opened.set_outputs(opened.outputs)
        log.info("after")
        assert said(file, opened)[0].endswith("after")


def test_output_that_cannot_be_opened_is_named_and_changes_nothing(file: Path) -> None:
    with logging_to(file) as opened:
        with pytest.raises(LogOutputError, match=r"cannot log to file /nowhere/x: No such file"):
            opened.set_outputs(f"1:file:{file} 1:file:/nowhere/x")
        assert opened.outputs == f"1:file:{file}"


def test_log_file_is_private(file: Path) -> None:
    with logging_to(file):
        assert file.stat().st_mode & 0o077 == 0


def test_traceback_is_written(file: Path) -> None:
    with logging_to(file) as opened:
        try:
            raise LookupError("lost")
        except LookupError:
            log.exception("oh")
        assert said(file, opened)[-1] == "LookupError: lost"


def test_badly_made_message_is_written_all_the_same(file: Path) -> None:
    with logging_to(file) as opened:
        record = log.makeRecord(NAME, logging.INFO, "", 0, "%d things", ("many",), None)
        opened._gate.handle(record)
        assert "%d things (badly logged:" in said(file, opened)[0]


def test_json_is_an_object_on_a_line(file: Path) -> None:
    with logging_to(file, form="json") as opened:
        log.info("two\nlines", extra={"client": 3})
        found = json.loads(said(file, opened)[0])
    assert (found["message"], found["category"], found["client"]) == ("two\nlines", NAME, 3)


def test_writer_that_is_stuck_holds_up_nobody(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = threading.Event()

    def stuck(_sink: object, _record: logging.LogRecord) -> None:
        free.wait(60)

    monkeypatch.setattr(log_outputs.FileSink, "write", stuck)
    monkeypatch.setattr(logs, "QUEUE_LIMIT", 5)
    with logging_to(file) as opened:
        for _ in range(20):
            log.info("word")
        assert opened.dropped >= 14
        free.set()


def test_output_that_fails_is_counted(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_sink: object, _record: logging.LogRecord) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(log_outputs.FileSink, "write", full)
    with logging_to(file) as opened:
        log.info("word")
        opened.flush()
        assert opened.failed == 1


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with listening_at(tmp_path / "socket") as found:
        yield found


def test_journal_gets_each_field(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    monkeypatch.setattr(JournalSink, "address", listener.getsockname())
    with logging_to(file) as opened:
        opened.set_outputs("1:journald")
        log.error("broken", extra={"client": 3, "domain": "vm"})
        found = listener.recv(65536).decode().splitlines()
    assert found[:3] == ["MESSAGE=broken", "PRIORITY=3", "SYSLOG_IDENTIFIER=virtbackupd"]
    assert found[-2:] == ["VIRTBACKUPD_CLIENT=3", "VIRTBACKUPD_DOMAIN=vm"]


def test_lines_within_a_journal_field_are_counted() -> None:
    assert journal_datagram({"MESSAGE": "a\nb"}) == b"MESSAGE\n\x03" + bytes(7) + b"a\nb\n"


def test_syslog_gets_priority_and_name(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    monkeypatch.setattr(SyslogSink, "address", listener.getsockname())
    with logging_to(file) as opened:
        opened.set_outputs("1:syslog:me")
        log.warning("careful")
        found = listener.recv(65536).decode()
    assert found.startswith("<28>me[")
    assert found.endswith(f"]: {NAME}: careful")


def test_syslog_that_starts_again_is_found_again(
    monkeypatch: pytest.MonkeyPatch, file: Path, tmp_path: Path
) -> None:
    path = str(tmp_path / "socket")
    monkeypatch.setattr(SyslogSink, "address", path)
    with logging_to(file) as opened, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as second:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as first:
            first.bind(path)
            opened.set_outputs("1:syslog:me")
            opened.flush()
        Path(path).unlink()
        second.bind(path)
        second.settimeout(20)
        log.warning("again")
        assert second.recv(65536).endswith(b"again")


async def test_reload_takes_level_filters_and_outputs(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.log"
    with logging_to(file) as opened:
        await follow(opened)(
            Settings(log_level=4, log_filters="1:words", log_outputs=f"2:file:{other}")
        )
        assert (opened.levels.general, opened.filters) == (logging.ERROR, "1:words")
        assert opened.outputs == f"2:file:{other}"


@pytest.mark.parametrize(
    ("level", "into_log", "on"),
    [(0, 1, False), (1, 1, True), (1, 0, False), (2, 1, True)],
)
def test_when_audit_lines_are_written(level: int, into_log: int, on: bool, file: Path) -> None:
    settings = Settings(
        audit_level=level, audit_logging=bool(into_log), log_outputs=f"1:file:{file}"
    )
    open_logs(settings).close()
    assert logging.getLogger(AUDIT).disabled is not on
    open_logs(msgspec.structs.replace(settings, audit_level=1, audit_logging=True)).close()


def test_audit_that_must_be_and_has_no_place_is_refused() -> None:
    with pytest.raises(ConfigError, match="set one of them to 1"):
        open_logs(Settings(audit_level=2, audit_logging=False))
