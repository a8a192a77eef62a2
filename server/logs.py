"""Logging: which messages are taken, and a thread that writes them so that nothing else waits.

The daemon's own thread only puts messages into a queue with an end. What becomes of them is in
`log_outputs`; filters, outputs and level may change at any time.
"""

import logging
import threading
from collections.abc import Awaitable, Callable, Sequence
from copy import copy
from queue import SimpleQueue
from typing import Final

import trio

from virtbackupd.server.config import ConfigError, Settings
from virtbackupd.server.log_outputs import (
    Sink,
    opened,
    stderr_is_journal,
)
from virtbackupd.server.log_syntax import (
    AUDIT,
    Levels,
    Output,
    level_of,
    parse_filters,
    parse_outputs,
    spell,
)

QUEUE_LIMIT: Final = 10_000
"""Messages that may wait to be written; more are dropped and counted."""
FLUSH_DEADLINE: Final = 2.0
ROOT: Final = "virtbackupd"

_NO_AUDIT = (
    "audit_level: 2 asks for audit lines, and audit_logging = 0 leaves them nowhere to go; set one"
    " of them to 1"
)
_Order = Callable[[], None]


class LogOutputError(OSError):
    """An output cannot be opened; the text says which and why."""


class Logs:
    """The logging of this process from its making to `close`."""

    def __init__(
        self,
        *,
        level: int | str = "info",
        filters: str = "",
        outputs: str = "",
        form: str = "text",
    ) -> None:
        """LogSyntaxError or LogOutputError."""
        self.on_change: list[Callable[[Levels], None]] = []
        """Called after each change of level or filters, with those that hold."""
        self._levels = Levels(level_of(level), parse_filters(filters))
        self._form = form
        self._outputs: Sequence[Output] = ()
        self._writer = _Writer()
        self._gate = _Gate(self._writer, self._levels)
        self.set_outputs(outputs)
        self._apply()
        logging.getLogger().addHandler(self._gate)
        self._writer.start()

    @property
    def dropped(self) -> int:
        """Messages that there was no room for."""
        return self._writer.dropped

    @property
    def failed(self) -> int:
        """Messages that an output did not take."""
        return self._writer.failed

    @property
    def levels(self) -> Levels:
        return self._levels

    @property
    def filters(self) -> str:
        return spell(self._levels.filters)

    @property
    def outputs(self) -> str:
        return spell(self._outputs)

    def set_level(self, level: int | str) -> None:
        self._levels = self._levels._replace(general=level_of(level))
        self._apply()

    def set_filters(self, text: str) -> None:
        """LogSyntaxError, and nothing has changed."""
        self._levels = self._levels._replace(filters=parse_filters(text))
        self._apply()

    def set_outputs(self, text: str, form: str | None = None) -> None:
        """Open these, then close the others, and so reopen files that were moved away.

        LogSyntaxError or LogOutputError, and nothing has changed. Nothing given is the default.
        """
        outputs = parse_outputs(text) or (_default_output(),)
        self._form = form or self._form
        self._writer.replace(_opened(outputs, self._form))
        self._outputs = outputs

    def name_with(self, naming: Callable[[logging.LogRecord], bool]) -> None:
        """Have `naming` add fields to each message, in the thread that logs it."""
        self._gate.addFilter(naming)

    def flush(self) -> None:
        """Wait until what was logged by now is written, but not for ever."""
        written = threading.Event()
        self._writer.put(written.set)
        written.wait(FLUSH_DEADLINE)

    def close(self) -> None:
        """Write what is left."""
        logging.getLogger().removeHandler(self._gate)
        self._writer.stop()

    def _apply(self) -> None:
        logging.getLogger(ROOT).setLevel(self._levels.lowest)
        logging.getLogger().setLevel(max(self._levels.general, logging.INFO))
        self._gate.set(self._levels)
        for told in self.on_change:
            told(self._levels)


def open_logs(settings: Settings) -> Logs:
    """The logging that a configuration asks for; ConfigError or LogOutputError."""
    _set_audit(settings)
    return Logs(
        level=settings.log_level,
        filters=settings.log_filters,
        outputs=settings.log_outputs,
        form=settings.log_format,
    )


def follow(logs: Logs) -> Callable[[Settings], Awaitable[None]]:
    """What to do when the configuration was read again; files are opened anew."""

    async def changed(settings: Settings) -> None:
        _set_audit(settings)
        logs.set_level(settings.log_level)
        logs.set_filters(settings.log_filters)
        await trio.to_thread.run_sync(logs.set_outputs, settings.log_outputs, settings.log_format)

    return changed


def check_audit(settings: Settings) -> None:
    """ConfigError when audit lines have to be written and have nowhere to go."""
    if settings.audit_level > 1 and not settings.audit_logging:
        raise ConfigError(_NO_AUDIT)


def _set_audit(settings: Settings) -> None:
    check_audit(settings)
    logging.getLogger(AUDIT).disabled = not (settings.audit_level and settings.audit_logging)


def _default_output() -> Output:
    return Output(logging.DEBUG, "journald" if stderr_is_journal() else "stderr")


def _opened(outputs: Sequence[Output], form: str) -> list[Sink]:
    sinks: list[Sink] = []
    for output in outputs:
        try:
            sinks.append(opened(output, form))
        except OSError as error:
            for sink in sinks:
                sink.close()
            raise LogOutputError(
                f"cannot log to {output.kind} {output.target}: {error.strerror}".replace(" :", ":")
            ) from error
    return sinks


class _Gate(logging.Handler):
    """Lets pass what the levels say, and makes text of it before its arguments can change."""

    def __init__(self, writer: "_Writer", levels: Levels) -> None:
        super().__init__()
        self._writer = writer
        self.set(levels)

    def set(self, levels: Levels) -> None:
        self._levels = levels
        self._known: dict[str, int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        level = self._known.get(record.name)
        if level is None:
            level = self._known[record.name] = self._levels.of(record.name)
        return record.levelno >= level and bool(super().filter(record))

    def emit(self, record: logging.LogRecord) -> None:
        record = copy(record)
        try:
            record.msg, record.args = record.getMessage(), None
        except (TypeError, ValueError) as error:
            record.msg, record.args = f"{record.msg} (badly logged: {error})", None
        if record.exc_info:
            record.exc_text = record.exc_text or _TRACEBACK.formatException(record.exc_info)
            record.exc_info = None
        self._writer.put(record)


_TRACEBACK = logging.Formatter()


class _Writer:
    """The thread that writes, and its queue."""

    def __init__(self) -> None:
        self.dropped = 0
        self.failed = 0
        self._queue: SimpleQueue[logging.LogRecord | _Order | None] = SimpleQueue()
        self._sinks: list[Sink] = []
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._queue.put(None)
        self._thread.join(FLUSH_DEADLINE)

    def put(self, item: logging.LogRecord | _Order) -> None:
        if isinstance(item, logging.LogRecord) and self._queue.qsize() >= QUEUE_LIMIT:
            self.dropped += 1
        else:
            self._queue.put(item)

    def replace(self, sinks: list[Sink]) -> None:
        """In the order of messages: what was logged before goes where it was meant to go."""
        self._queue.put(lambda: self._exchange(sinks))

    def _exchange(self, sinks: list[Sink]) -> None:
        for sink in self._sinks:
            sink.close()
        self._sinks = sinks

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            if isinstance(item, logging.LogRecord):
                self._write(item)
            else:
                item()
        self._exchange([])

    def _write(self, record: logging.LogRecord) -> None:
        for sink in self._sinks:
            if record.levelno >= sink.level:
                try:
                    sink.write(record)
                except (OSError, ValueError):
                    self.failed += 1
