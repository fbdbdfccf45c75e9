"""Log records into systemd's journal over its own socket, so that their fields stay fields (man systemd-journald).

`journalctl -o verbose` shows them, `journalctl DUXNET_NODE_ID=…` finds by them. Not here: when this way is taken
(`logs`).
"""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

from registry_core.errors import printable

__all__ = ["JOURNAL_SOCKET", "Journal", "datagram", "identifier"]

JOURNAL_SOCKET = "/run/systemd/journal/socket"
# A journal that does not read must not hold the service: after this a line is lost.
TIMEOUT_SECONDS = 0.5
# Below the usual limit of a datagram (net.core.wmem_default, 208 KiB).
LONGEST_VALUE_BYTES = 32_000

_NOT_IN_A_NAME = re.compile("[^A-Z0-9_]+")


class Journal(logging.Handler):
    """`text` gives the message of a record, `priority` its syslog priority; `otherwise` takes it where that fails."""

    def __init__(
        self,
        name: str,
        text: Callable[[logging.LogRecord], str],
        priority: Callable[[int], int],
        otherwise: logging.Handler,
        path: str = JOURNAL_SOCKET,
    ) -> None:
        super().__init__()
        self._name = name
        self._text = text
        self._priority = priority
        self._otherwise = otherwise
        self._path = path

    def emit(self, record: logging.LogRecord) -> None:
        """Send one datagram."""
        fields: dict[str, object] = {
            "MESSAGE": self._text(record),
            "PRIORITY": self._priority(record.levelno),
            "SYSLOG_IDENTIFIER": self._name,
            "LOGGER": record.name,
        }
        for key, value in (getattr(record, "fields", None) or {}).items():
            fields["DUXNET_" + _NOT_IN_A_NAME.sub("_", str(key).upper())] = value
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
                out.settimeout(TIMEOUT_SECONDS)
                out.sendto(datagram(fields), self._path)
        except socket.timeout:
            return
        except OSError:  # no journal here, or a line too long for it
            self._otherwise.handle(record)


def datagram(fields: Mapping[str, object]) -> bytes:
    """The fields as the journal reads them: `NAME=text`, or for text of several lines its name, length and bytes."""
    parts = []
    for name, value in fields.items():
        text = "\n".join(map(printable, str(value).split("\n"))).encode("utf-8", "backslashreplace")[
            :LONGEST_VALUE_BYTES
        ]
        if b"\n" in text:
            parts.append(name.encode() + b"\n" + len(text).to_bytes(8, "little") + text + b"\n")
        else:
            parts.append(name.encode() + b"=" + text + b"\n")
    return b"".join(parts)


def identifier(environ: Mapping[str, str]) -> str:
    """What the journal calls us: the name of the unit's runtime directory, which is the unit's own."""
    return Path(environ.get("RUNTIME_DIRECTORY", "").partition(":")[0] or "duxnet").name
