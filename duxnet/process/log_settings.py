"""The section [log]: how and how much a process says."""

from __future__ import annotations

from typing import Literal

from duxnet.process.settings import Section

__all__ = ["LogSettings"]


class LogSettings(Section):
    """[log]"""

    format: Literal["plain", "json"] = "plain"
    level: Literal["debug", "info", "warning", "error"] = "info"
