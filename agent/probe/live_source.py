"""This machine as a source."""

from __future__ import annotations

import os
from typing import Any, Optional

from agent.probe.source import Source, read_file
from agent.probe.system_calls import answer

__all__ = ["LiveSource"]


class LiveSource(Source):
    """This machine. `root` is prepended to every path (a mounted host file system); calls go to the kernel."""

    def __init__(self, root: str = "") -> None:
        self._root = root.rstrip("/")

    def read_text(self, path: str) -> Optional[str]:
        return read_file(self._root + path)

    def list_dir(self, path: str) -> list[str]:
        try:
            return sorted(os.listdir(self._root + path))  # noqa: PTH208 - as in read_file
        except OSError:
            return []

    def read_link(self, path: str) -> Optional[str]:
        try:
            return os.readlink(self._root + path)  # noqa: PTH115 - as in read_file
        except OSError:
            return None

    def ask(self, question: str, argument: str = "") -> Any:
        return answer(question, argument)
