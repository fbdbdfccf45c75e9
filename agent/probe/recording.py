"""Recordings: text files with everything that was read from a machine, which can be replayed as a source.

The format has one entry per line, in any order; `docs/probe.md` explains how to write one by hand:

    # a comment
    option work_dir = /var/lib/duxnet        the options with which the recording was made
    file /sys/devices/system/cpu/online = 0-7          a file of one line
    file /proc/meminfo                                  a longer file: its lines follow, each after a bar
    |MemTotal:       16315488 kB
    link /sys/bus/pci/devices/0000:01:00.0/driver = ../../../../bus/pci/drivers/nvidia
    dir /sys/fs/btrfs = ["features"]         only names that do not follow from other entries
    ask affinity = [0, 1, 2, 3]              the result of a call, as JSON
    fail disk_usage /mnt/gone = Stale file handle
    hang disk_usage /mnt/dead                a call that never returned

A path without an entry does not exist; a query without an entry has no answer. NUL is written as ␀. Recordings of
versions before psutil was the main source can be read too (`earlier_recordings.py`). `masking.py` masks a recording
before it is written.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

from agent.probe.earlier_recordings import answers_of_files, renamed_call
from agent.probe.source import Source, SourceError
from registry_core.errors import ValidationError

__all__ = ["FILE_NAME", "Recorder", "RecordingSource", "load_recording", "written"]

FILE_NAME = "machine.recording"
_NUL = "␀"


class RecordingSource(Source):
    """Answers from a recording. `options` are those of the recording run."""

    def __init__(self, text: str, name: str = FILE_NAME) -> None:
        self.options: dict[str, str] = {}
        self._name = name
        self._files: dict[str, str] = {}
        self._links: dict[str, str] = {}
        self._dirs: dict[str, set[str]] = {}
        self._answers: dict[str, Any] = {}
        self._failures: dict[str, str] = {}
        self._hanging: set[str] = set()
        self._read(text)
        self._answers = answers_of_files(self._files, self._answers)

    def read_text(self, path: str) -> Optional[str]:
        return self._files.get(path)

    def read_link(self, path: str) -> Optional[str]:
        return self._links.get(path)

    def list_dir(self, path: str) -> list[str]:
        return sorted(self._dirs.get(path.rstrip("/"), ()))

    def ask(self, question: str, argument: str = "") -> Any:
        key = f"{question} {argument}".rstrip()
        if key in self._hanging:
            threading.Event().wait()  # hangs like the recorded call; the caller has a deadline
        if key in self._failures:
            raise _error(self._failures[key])
        return self._answers.get(key)

    def _read(self, text: str) -> None:
        body: list[str] = []
        path = ""
        for number, line in enumerate(text.splitlines(), 1):
            if line.startswith("|"):
                body.append(line[1:])
                continue
            if body:
                self._files[path] = self._with_nul("\n".join([*body, ""]))
                body = []
            if line.strip() and not line.startswith("#"):
                path = self._entry(line, number)
        if body:
            self._files[path] = self._with_nul("\n".join([*body, ""]))

    @staticmethod
    def _with_nul(text: str) -> str:
        return text.replace(_NUL, "\x00")

    def _entry(self, line: str, number: int) -> str:
        """Parse one entry; returns the path of a file, whose lines may follow."""
        kind, _, rest = line.partition(" ")
        key, equals, value = rest.partition(" = ")
        key = key.strip()
        if kind == "file":
            self._files[key] = self._with_nul(value + "\n") if equals else ""
            self._imply(key)
        elif kind == "link" and equals:
            self._links[key] = value
            self._imply(key)
        elif kind == "dir" and equals:
            self._dirs.setdefault(key.rstrip("/"), set()).update(self._json(value, number))
            self._imply(key.rstrip("/"))
        elif kind == "ask" and equals:
            self._answers[key] = self._json(value, number)
        elif kind == "fail" and equals:
            self._failures[renamed_call(key)] = value
        elif kind == "hang":
            self._hanging.add(renamed_call(key))
        elif kind == "option" and equals:
            self.options[key] = value
        else:
            raise ValidationError(f"{self._name} line {number}", line, "is not an entry of a recording")
        return key

    def _imply(self, path: str) -> None:
        """Add the parent folders of an existing path."""
        parent, _, name = path.rpartition("/")
        while name:
            names = self._dirs.setdefault(parent, set())
            if name in names:
                return
            names.add(name)
            parent, _, name = parent.rpartition("/")

    def _json(self, text: str, number: int) -> Any:
        import json

        try:
            return json.loads(text)
        except ValueError as error:
            raise ValidationError(f"{self._name} line {number}", text, f"must be JSON: {error}") from None


def _error(text: str) -> OSError:
    """The system error with this text, so that a replay raises the same exception type."""
    number = next((code for code in errno.errorcode if os.strerror(code) == text), None)
    return OSError(text) if number is None else OSError(number, text)


class Recorder(Source):
    """Passes all calls to `source` and records the results."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._lines: dict[str, str] = {}

    def read_text(self, path: str) -> Optional[str]:
        text = self._source.read_text(path)
        if text is not None:
            self._lines[f"file {path}"] = _file_lines(path, text)
        return text

    def read_link(self, path: str) -> Optional[str]:
        target = self._source.read_link(path)
        if target is not None:
            self._lines[f"link {path}"] = f"link {path} = {target}"
        return target

    def list_dir(self, path: str) -> list[str]:
        import json

        names = self._source.list_dir(path)
        if names:
            self._lines[f"dir {path}"] = f"dir {path} = {json.dumps(names)}"
        return names

    def ask(self, question: str, argument: str = "") -> Any:
        import json

        key = f"{question} {argument}".rstrip()
        self._lines[f"ask {key}"] = f"hang {key}"  # unless an answer follows
        try:
            answer = self._source.ask(question, argument)
        except SourceError:
            del self._lines[f"ask {key}"]  # without an answer here it has none in a replay either
            raise
        except OSError as error:
            self._lines[f"ask {key}"] = f"fail {key} = {error.strerror or error}"
            raise
        self._lines[f"ask {key}"] = f"ask {key} = {json.dumps(answer)}"
        return answer

    def text(self, options: Mapping[str, str]) -> str:
        """Everything read so far, in the recording format, not masked."""
        head = ["# duxnet recording 2", *(f"option {name} = {value}" for name, value in options.items())]
        return "\n".join([*head, *(line for _, line in sorted(self._lines.items())), ""])


def _file_lines(path: str, text: str) -> str:
    text = text.replace("\x00", _NUL)
    lines = text.splitlines()
    if len(lines) == 1 and lines[0] == lines[0].strip():
        return f"file {path} = {lines[0]}"
    return "\n".join([f"file {path}", *(f"|{line}" for line in lines)])


def load_recording(folder: str) -> RecordingSource:
    """The recording in a folder or file. Raises ValidationError."""
    path = Path(folder)
    path = path / FILE_NAME if path.is_dir() else path
    try:
        return RecordingSource(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        raise ValidationError("root", str(path), f"must be a recording: {reason}") from None


def written(folder: str, text: str) -> str:
    """Write a recording into `folder` and return its path. Raises ValidationError."""
    path = Path(folder) / FILE_NAME
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ValidationError("record", folder, f"must be a writable folder: {error.strerror}") from None
    return str(path)
