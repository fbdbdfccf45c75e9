"""Log lines for people, for the journal, or as JSON. Only a process configures logging, never a library.

Under systemd a record goes to the socket of the journal, which keeps its fields (man systemd-journald): `journalctl
-o verbose` shows them and `journalctl DUXNET_NODE_ID=…` filters by them. Without that socket a line begins with its
priority (`<3>`, man sd-daemon) and the journal adds the time.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Callable, Optional

from duxnet.process.terminal import say_text
from registry_core.errors import printable

__all__ = ["JOURNAL_SOCKET", "Journal", "configure_logs", "datagram", "identifier", "is_journal"]

JOURNAL_SOCKET = "/run/systemd/journal/socket"
# A journal that does not read must not block the service. After this time the line is lost.
JOURNAL_TIMEOUT_SECONDS = 0.5
# Below the usual limit of a datagram (net.core.wmem_default, 208 KiB).
LONGEST_VALUE_BYTES = 32_000

_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_DEBUG_PRIORITY = 7


def is_journal(environ: Mapping[str, str], descriptor: int = 2) -> bool:
    """Whether `descriptor` is the stream that systemd connected to the journal ($JOURNAL_STREAM=device:inode)."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return environ.get("JOURNAL_STREAM", "") == f"{found.st_dev}:{found.st_ino}"


class _Lines(logging.Handler):
    """Writes each record as one line with `write`, which can draw it above a status line."""

    def __init__(self, formatter: logging.Formatter, write: Callable[[str], None]) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._write(self.format(record))
        except (OSError, ValueError):  # standard error is closed; the service goes on without it
            return


class _Plain(logging.Formatter):
    """`2026-01-31 12:00:00 warning text`. A traceback follows on indented lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        return f"{moment} {record.levelname.lower():<7} {_text(record)}"


class _WithPriority(logging.Formatter):
    """`<4>text`: every line begins with its priority."""

    def format(self, record: logging.LogRecord) -> str:
        priority = _priority(record.levelno)
        return "\n".join(f"<{priority}>{line}" for line in _text(record).splitlines() or [""])


class _Json(logging.Formatter):
    """One JSON object in each line: time, level, logger, message, and the `fields` of `extra`."""

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


def _text(record: logging.LogRecord) -> str:
    text = printable(record.getMessage())
    if record.exc_info:
        lines = logging.Formatter().formatException(record.exc_info).splitlines()
        text += "\n" + "\n".join(f"    {printable(line)}" for line in lines)
    return text


class Journal(logging.Handler):
    """Sends each record as one datagram. If that fails, the handler `otherwise` gets it."""

    def __init__(self, name: str, otherwise: logging.Handler, path: str = JOURNAL_SOCKET) -> None:
        super().__init__()
        self._name = name
        self._otherwise = otherwise
        self._path = path

    def emit(self, record: logging.LogRecord) -> None:
        fields: dict[str, object] = {
            "MESSAGE": _text(record),
            "PRIORITY": _priority(record.levelno),
            "SYSLOG_IDENTIFIER": self._name,
            "LOGGER": record.name,
        }
        for key, value in (getattr(record, "fields", None) or {}).items():
            fields["DUXNET_" + re.sub("[^A-Z0-9_]+", "_", str(key).upper())] = value
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
                out.settimeout(JOURNAL_TIMEOUT_SECONDS)
                out.sendto(datagram(fields), self._path)
        except socket.timeout:
            return
        except OSError:  # there is no journal, or the line is too long for it
            self._otherwise.handle(record)


def datagram(fields: Mapping[str, object]) -> bytes:
    """The fields in the journal's protocol: `NAME=text`, or name, length and bytes for text of several lines."""
    parts = []
    for name, value in fields.items():
        lines = map(printable, str(value).split("\n"))
        text = "\n".join(lines).encode("utf-8", "backslashreplace")[:LONGEST_VALUE_BYTES]
        if b"\n" in text:
            parts.append(name.encode() + b"\n" + len(text).to_bytes(8, "little") + text + b"\n")
        else:
            parts.append(name.encode() + b"=" + text + b"\n")
    return b"".join(parts)


def identifier(environ: Mapping[str, str]) -> str:
    """The journal's name for this service: the name of the unit's runtime directory, which is also the unit's name."""
    return Path(environ.get("RUNTIME_DIRECTORY", "").partition(":")[0] or "duxnet").name


def _to_stderr(line: str) -> None:
    say_text(line, err=True)


def configure_logs(
    log_format: str, level: str, environ: Mapping[str, str], write: Optional[Callable[[str], None]] = None
) -> None:
    """Send log lines to standard error, or each to `write`. This replaces what an earlier call configured."""
    to_journal = is_journal(environ) and log_format != "json"
    formatter = _Json() if log_format == "json" else _WithPriority() if to_journal else _Plain()
    chosen: logging.Handler = _Lines(formatter, write or _to_stderr)
    if to_journal and write is None:
        chosen = Journal(identifier(environ), chosen)
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
    root.addHandler(chosen)
    root.setLevel(level.upper())
    # APScheduler logs every run. Errors and skipped runs reach us as events.
    logging.getLogger("apscheduler").setLevel(logging.CRITICAL)
    # httpx logs each request. The agent logs the result of each report itself.
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)
