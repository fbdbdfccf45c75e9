"""A machine made of a few files, for tests of one reader: what a recording is for the whole probe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

from agent.probe.source import Source, SourceError

Answers = Mapping[tuple[str, str], Any]


class Machine(Source):
    """`files` by path; a value that begins with "-> " is a link. `answers` by question and argument.

    Every path and question that was asked for is kept in `asked`.
    """

    def __init__(self, files: Mapping[str, str], answers: Optional[Answers] = None) -> None:
        self._files = dict(files)
        self._answers = dict(answers or {})
        self.asked: list[str] = []

    def read_text(self, path: str) -> Optional[str]:
        self.asked.append(path)
        text = self._files.get(path)
        return None if text is None or text.startswith("-> ") else text

    def list_dir(self, path: str) -> list[str]:
        self.asked.append(path)
        start = path.rstrip("/") + "/"
        return sorted({name[len(start) :].partition("/")[0] for name in self._files if name.startswith(start)})

    def read_link(self, path: str) -> Optional[str]:
        text = self._files.get(path, "")
        return text[3:] if text.startswith("-> ") else None

    def ask(self, question: str, argument: str = "") -> Any:
        self.asked.append(f"{question} {argument}")
        if (question, argument) not in self._answers:
            raise SourceError(f"{question} {argument} was not recorded")
        return self._answers[question, argument]


def pci_files(address: str, vendor: int, device: int, pci_class: int, driver: str = "", **more: str) -> dict[str, str]:
    """The files of one PCI device as the kernel writes them; in `more`, __ stands for / in a file's name."""
    folder = f"/sys/bus/pci/devices/{address}"
    files = {
        f"{folder}/vendor": f"0x{vendor:04x}\n",
        f"{folder}/device": f"0x{device:04x}\n",
        f"{folder}/class": f"0x{pci_class:06x}\n",
    }
    if driver:
        files[f"{folder}/driver"] = f"-> ../../../../bus/pci/drivers/{driver}"
    files.update({f"{folder}/{name.replace('__', '/')}": text for name, text in more.items()})
    return files
