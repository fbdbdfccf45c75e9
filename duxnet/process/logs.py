"""Log lines for people, for the journal, or as JSON. Only a process configures logging, never a library.

Under systemd a line begins with its priority (`<3>`, man sd-daemon) and leaves the time to the journal.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from typing import Callable, Optional

from duxnet.process.terminal import say_text
from registry_core.errors import printable

__all__ = ["LEVELS", "LOG_FORMATS", "configure_logs", "is_journal"]

LOG_FORMATS = ("plain", "json")
LEVELS = ("debug", "info", "warning", "error")

_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_DEBUG_PRIORITY = 7


def is_journal(environ: Mapping[str, str], descriptor: int = 2) -> bool:
    """True when `descriptor` is the stream that systemd connected to the journal ($JOURNAL_STREAM=device:inode)."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return environ.get("JOURNAL_STREAM", "") == f"{found.st_dev}:{found.st_ino}"


class _Lines(logging.Handler):
    """Writes each record as one line, through `write` so that a status line can step aside."""

    def __init__(self, formatter: logging.Formatter, write: Callable[[str], None]) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._write(self.format(record))
        except (OSError, ValueError):  # stderr is gone (a closed pipe, a closed file): reporting nodes goes on
            return


class _Plain(logging.Formatter):
    """`2026-01-31 12:00:00 warning agent: text`; a traceback follows on lines of its own, indented."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        return f"{moment} {record.levelname.lower():<7} {_text(self, record)}"


class _Journal(logging.Formatter):
    """`<4>text`, every line with its priority."""

    def format(self, record: logging.LogRecord) -> str:
        priority = _priority(record.levelno)
        return "\n".join(f"<{priority}>{line}" for line in _text(self, record).splitlines() or [""])


class _Json(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and the `fields` given in `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        import json

        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        plain: dict[str, object] = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields = getattr(record, "fields", None)
        if isinstance(fields, dict):
            plain.update({key: value for key, value in fields.items() if key not in plain})
        if record.exc_info:
            plain["traceback"] = self.formatException(record.exc_info)
        return json.dumps(plain, ensure_ascii=True, default=str)


def _priority(level: int) -> int:
    """The syslog priority of a level of `logging`."""
    return next((value for least, value in _PRIORITIES if level >= least), _DEBUG_PRIORITY)


def _text(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    text = printable(record.getMessage())
    if record.exc_info:
        text += "\n" + "\n".join(
            f"    {printable(line)}" for line in formatter.formatException(record.exc_info).splitlines()
        )
    return text


def _to_stderr(line: str) -> None:
    say_text(line, err=True)


def _to_journal(environ: Mapping[str, str], formatter: logging.Formatter, lines: logging.Handler) -> logging.Handler:
    """Over the journal's own socket, with fields; as lines on stderr where that does not go."""
    from duxnet.process.journal import Journal, identifier

    return Journal(identifier(environ), lambda record: _text(formatter, record), _priority, lines)


def configure_logs(
    log_format: str, level: str, environ: Mapping[str, str], write: Optional[Callable[[str], None]] = None
) -> None:
    """Send what is logged to stderr (or to `write`, one line at a time), replacing what an earlier call set up."""
    formatter: logging.Formatter = _Journal() if is_journal(environ) else _Plain()
    if log_format == "json":
        formatter = _Json()
    chosen: logging.Handler = _Lines(formatter, write or _to_stderr)
    if isinstance(formatter, _Journal) and write is None:
        chosen = _to_journal(environ, formatter, chosen)
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
    root.addHandler(chosen)
    root.setLevel(level.upper())
    # APScheduler logs every run; what matters of it (errors, skipped runs) reaches us as events.
    logging.getLogger("apscheduler").setLevel(logging.CRITICAL)
    # httpx tells each request; a report says what came of it, in our words.
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)
