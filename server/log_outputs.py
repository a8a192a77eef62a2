"""Where log lines go: standard error, files, syslog and the journal, and how they are written.

Runs in the thread that writes; nothing here is called by the daemon's own thread.
"""

import io
import json
import logging
import os
import socket
import struct
import sys
import time
from collections.abc import Mapping
from typing import Final, TextIO

from virtbackupd.server.log_syntax import Output

FIELDS: Final = ("client", "procedure", "domain", "duration")
"""What a message may carry beside its text; `duration` is in milliseconds."""
IDENTIFIER: Final = "virtbackupd"
JOURNAL: Final = "/run/systemd/journal/socket"
SYSLOG: Final = "/dev/log"

_PRIVATE: Final = 0o600
_ESCAPES: Final = {
    code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if code != 9
} | {code: f"\\u{code:04x}" for code in (0x2028, 0x2029)}
"""What a peer has written must not look like a line of its own, nor move a terminal's cursor."""
_LONGEST: Final = 48 * 1024
"""Characters of a message in a datagram; the kernel takes no longer ones for sure."""
_SEND_DEADLINE: Final = 1.0
_PRIORITIES: Final = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3}
_LOG_DAEMON: Final = 3 << 3
"""The facility of daemons, RFC 5424 section 6.2.1."""


def fields_of(record: logging.LogRecord) -> dict[str, object]:
    """Those that the message carries."""
    return {name: value for name in FIELDS if (value := getattr(record, name, None)) is not None}


class TextForm(logging.Formatter):
    """A line for people: time, level, category, message, and the fields as `name=value`."""

    def __init__(self, text: str = "%(asctime)s %(levelname)s %(name)s: %(message)s") -> None:
        super().__init__(text)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        text = super().formatMessage(record)
        text += "".join(f" {name}={value}" for name, value in fields_of(record).items())
        return text.translate(_ESCAPES)


class JsonForm(logging.Formatter):
    """An object on a line."""

    def format(self, record: logging.LogRecord) -> str:
        found: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "category": record.name,
            "message": record.getMessage(),
            **fields_of(record),
        }
        if record.exc_text:
            found["traceback"] = record.exc_text
        return json.dumps(found, default=str)


class Sink:
    """One output, open."""

    def __init__(self, output: Output, form: logging.Formatter) -> None:
        """OSError when it cannot be opened."""
        self.level = output.level
        self._form = form

    def write(self, record: logging.LogRecord) -> None:
        """OSError when it does not work; the next message may."""
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


class StderrSink(Sink):
    """Standard error as it is at that moment."""

    def write(self, record: logging.LogRecord) -> None:
        sys.stderr.write(self._form.format(record) + "\n")
        sys.stderr.flush()

    def close(self) -> None:
        sys.stderr.flush()


class FileSink(Sink):
    """The end of a file that only its owner may read."""

    def __init__(self, output: Output, form: logging.Formatter) -> None:
        super().__init__(output, form)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._file: TextIO = io.TextIOWrapper(
            io.FileIO(os.open(output.target, flags, _PRIVATE), "w"),
            errors="backslashreplace",
            write_through=True,
        )

    def write(self, record: logging.LogRecord) -> None:
        self._file.write(self._form.format(record) + "\n")

    def close(self) -> None:
        self._file.close()


class _DatagramSink(Sink):
    """A local socket that takes a message as one datagram; connected anew after a failure."""

    address: str

    def __init__(self, output: Output, form: logging.Formatter) -> None:
        super().__init__(output, form)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(_SEND_DEADLINE)
        try:
            self._socket.connect(self.address)
        except OSError:
            self._socket.close()
            raise

    def _send(self, data: bytes) -> None:
        try:
            self._socket.send(data)
        except ConnectionError:
            self._socket.connect(self.address)
            self._socket.send(data)

    def close(self) -> None:
        self._socket.close()


class SyslogSink(_DatagramSink):
    """The local syslog daemon, RFC 3164 as libc writes it."""

    address = SYSLOG

    def __init__(self, output: Output, form: logging.Formatter) -> None:
        super().__init__(output, form)
        self._ident = output.target

    def write(self, record: logging.LogRecord) -> None:
        priority = _LOG_DAEMON | _PRIORITIES.get(record.levelno, 6)
        text = f"<{priority}>{self._ident}[{os.getpid()}]: {self._form.format(record)}"
        self._send(text[:_LONGEST].encode(errors="backslashreplace"))


class JournalSink(_DatagramSink):
    """The journal's native protocol: each field of a message is a field there."""

    address = JOURNAL

    def write(self, record: logging.LogRecord) -> None:
        text = record.getMessage() + (f"\n{record.exc_text}" if record.exc_text else "")
        self._send(
            journal_datagram(
                {
                    "MESSAGE": text[:_LONGEST],
                    "PRIORITY": _PRIORITIES.get(record.levelno, 6),
                    "SYSLOG_IDENTIFIER": IDENTIFIER,
                    "CODE_FILE": record.pathname,
                    "CODE_LINE": record.lineno,
                    "CODE_FUNC": record.funcName,
                    "VIRTBACKUPD_CATEGORY": record.name,
                    **{f"VIRTBACKUPD_{k.upper()}": v for k, v in fields_of(record).items()},
                }
            )
        )


SINKS: Final[dict[str, type[Sink]]] = {
    "stderr": StderrSink,
    "file": FileSink,
    "syslog": SyslogSink,
    "journald": JournalSink,
}
SHORT: Final = "%(name)s: %(message)s"
"""For outputs that add time and level themselves."""


def opened(output: Output, form: str) -> Sink:
    """OSError when that cannot be."""
    if form == "json":
        return SINKS[output.kind](output, JsonForm())
    return SINKS[output.kind](output, TextForm(SHORT) if output.kind == "syslog" else TextForm())


def journal_datagram(fields: Mapping[str, object]) -> bytes:
    """A value of several lines is preceded by its length, systemd.io/JOURNAL_NATIVE_PROTOCOL."""
    parts: list[bytes] = []
    for name, value in fields.items():
        data = str(value).encode(errors="backslashreplace")
        if b"\n" in data:
            parts.append(name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n")
        else:
            parts.append(name.encode() + b"=" + data + b"\n")
    return b"".join(parts)


def stderr_is_journal() -> bool:
    """systemd.exec(5): JOURNAL_STREAM holds device and inode of what the journal reads."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        found = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return (device, inode) == (str(found.st_dev), str(found.st_ino))
