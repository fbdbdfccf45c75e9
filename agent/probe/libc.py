"""Two questions that only the C library of Linux answers, asked by ctypes: the clock's state and the interfaces.

psutil knows the interfaces too, but importing it takes longer than the whole rest of a probe; a test holds both
to the same answer. Both calls only read and need no rights.
"""

from __future__ import annotations

import ctypes
from typing import Any

__all__ = ["clock_state", "interface_addresses"]

_UNSYNCHRONISED = 0x40  # STA_UNSYNC
_NANOSECONDS = 0x2000  # STA_NANO: `offset` is in nanoseconds instead of microseconds
_RUNNING = 0x1 | 0x40  # IFF_UP and IFF_RUNNING: switched on, and with a carrier
_ADDRESS_BYTES = {2: (4, 4), 10: (8, 16)}  # family → (offset, length) of the address in its sockaddr
_MOST_ENTRIES = 100_000  # a list that is longer has gone round in a circle


class _Timex(ctypes.Structure):
    """struct timex of <sys/timex.h>, to the members that are read; the kernel fills 208 bytes."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 256),
    )


class _Ifaddrs(ctypes.Structure):
    """struct ifaddrs of <ifaddrs.h>, to the members that are read."""

    _fields_ = (
        ("next", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("flags", ctypes.c_uint),
        ("address", ctypes.c_void_p),
    )


def clock_state() -> Any:
    """{"synchronised", "offset_seconds", "max_error_seconds"}, or None where the C library has no such call."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "adjtimex", None)
    state = _Timex()  # modes 0: read only
    if call is None or call(ctypes.byref(state)) < 0:
        return None
    return {
        "synchronised": not state.status & _UNSYNCHRONISED,
        "offset_seconds": state.offset / (1e9 if state.status & _NANOSECONDS else 1e6),
        "max_error_seconds": state.maxerror / 1e6,
    }


def interface_addresses() -> list[tuple[str, bool, int, bytes]]:
    """Name, whether it is up, address family and raw address; family 0 and no bytes for one without an address.

    Raises OSError when the C library refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    head = ctypes.c_void_p()
    if libc.getifaddrs(ctypes.byref(head)) != 0:
        raise OSError(ctypes.get_errno(), "getifaddrs failed")
    try:
        return _entries(head.value)
    finally:
        libc.freeifaddrs(head)


def _entries(pointer: Any) -> list[tuple[str, bool, int, bytes]]:
    found: list[tuple[str, bool, int, bytes]] = []
    while pointer and len(found) < _MOST_ENTRIES:
        entry = _Ifaddrs.from_address(pointer)
        family, raw = 0, b""
        if entry.address:
            family = ctypes.c_ushort.from_address(entry.address).value
            offset, length = _ADDRESS_BYTES.get(family, (0, 0))
            raw = ctypes.string_at(entry.address + offset, length)
        found.append((entry.name.decode("utf-8", "replace"), entry.flags & _RUNNING == _RUNNING, family, raw))
        pointer = entry.next
    return found
