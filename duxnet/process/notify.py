"""Reports the state of the service to systemd: the sd_notify protocol over a datagram socket (man sd_notify).

Without $NOTIFY_SOCKET every call does nothing. A failed notification is never an error of the service.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from typing import Optional

__all__ = ["Notifier"]


class Notifier:
    """Notifies the manager named in `environ`. `watchdog_seconds` is the limit without progress, or None."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address: Optional[str] = None
        if address.startswith("/"):
            self._address = address
        elif address.startswith("@"):
            self._address = "\0" + address[1:]  # the abstract namespace
        self.watchdog_seconds = _watchdog_seconds(environ) if self._address else None

    def ready(self, status: str) -> None:
        """Report that the service has started, or has finished a reload."""
        self._send(f"READY=1\nSTATUS={_line(status)}")

    def status(self, text: str) -> None:
        """Set the line that `systemctl status` shows."""
        self._send(f"STATUS={_line(text)}")

    def reloading(self) -> None:
        """Report that the service is reading its configuration again, until `ready` is called."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """Report that the service is stopping."""
        self._send("STOPPING=1\nSTATUS=stopping")

    def watchdog(self) -> None:
        """Report progress, so that systemd does not restart the service. Does nothing without a watchdog."""
        if self.watchdog_seconds is not None:
            self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
                out.settimeout(0.2)  # a manager that does not read must not block the service
                out.sendto(message.encode("utf-8", "replace"), self._address)
        except OSError:
            return


def _line(text: str) -> str:
    """The text in one line: a line break would begin another assignment."""
    return " ".join(text.split())


def _watchdog_seconds(environ: Mapping[str, str]) -> Optional[float]:
    """$WATCHDOG_USEC in seconds, if $WATCHDOG_PID is this process; else None."""
    text, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not (text.isascii() and text.isdigit()) or int(text) == 0 or pid not in ("", str(os.getpid())):
        return None
    return int(text) / 1_000_000
