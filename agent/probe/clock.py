"""The state of the kernel's clock, by adjtimex(2), which psutil lacks. The call only reads and needs no privileges."""

from __future__ import annotations

import ctypes
from typing import Any

__all__ = ["clock_state"]

_UNSYNCHRONISED = 0x40  # STA_UNSYNC
_NANOSECONDS = 0x2000  # STA_NANO: `offset` is in nanoseconds instead of microseconds


class _Timex(ctypes.Structure):
    """struct timex of <sys/timex.h>, up to the members that are used; the kernel fills 208 bytes."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 256),
    )


def clock_state() -> Any:
    """{"synchronised", "offset_seconds", "max_error_seconds"}, or None if the C library has no such call."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "adjtimex", None)
    state = _Timex()  # modes 0: read only
    if call is None or call(ctypes.byref(state)) < 0:
        return None
    return {
        "synchronised": not state.status & _UNSYNCHRONISED,
        "offset_seconds": state.offset / (1e9 if state.status & _NANOSECONDS else 1e6),
        "max_error_seconds": state.maxerror / 1e6,
    }
