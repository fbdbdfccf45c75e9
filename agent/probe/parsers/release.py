"""Parser of /etc/os-release: the name of the operating system."""

from __future__ import annotations

from typing import Optional

__all__ = ["os_release", "pretty_name"]


def os_release(text: Optional[str]) -> dict[str, str]:
    """Key → value without shell quotes; lines that are not assignments are skipped."""
    values = {}
    for line in (text or "").splitlines():
        key, equals, value = line.strip().partition("=")
        if not equals or not key.isidentifier():
            continue
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        values[key] = value.replace('\\"', '"').replace("\\$", "$").replace("\\\\", "\\")
    return values


def pretty_name(text: Optional[str]) -> str:
    """The system's name: PRETTY_NAME, else name and version, else id; empty if the file has none."""
    values = os_release(text)
    plain = " ".join(part for part in (values.get("NAME", ""), values.get("VERSION", "")) if part)
    return " ".join((values.get("PRETTY_NAME") or plain or values.get("ID", "")).split())
