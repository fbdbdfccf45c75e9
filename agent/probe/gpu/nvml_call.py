"""Starts the process that talks to NVML, listens until a deadline, and makes one JSON document of what it heard.

Here: starting, listening, killing, and what became of the process. Not here: what NVML's answers mean (`nvml`). The
document is the answer of a call: a recording keeps it as it is.

    outcome         answered, not-installed, failed, crashed, hung, stuck
    at              the call that was under way when the process crashed, hung or failed
    signal          the signal's name, when crashed
    detail          what the process said last, when failed
    output          what the library printed: it should print nothing
    failed          {"call", "code"} when NVML as a whole could not be used
    system, devices as `nvml_child` wrote them
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Optional

__all__ = ["DEADLINE_SECONDS", "NvmlCaller", "ask_nvml", "pynvml_folder"]

# NVML takes 1 to 2 seconds a GPU where no persistence daemon keeps them initialised: 8 GPUs need about 16.
DEADLINE_SECONDS = 25.0
_KILLED_WITHIN_SECONDS = 2.0
_LONGEST_ANSWER_BYTES = 1 << 20
_LONGEST_OUTPUT_BYTES = 4096
_LOOK_AFTER_SECONDS = 0.5
_END = b'{"end": true}\n'
_SCRIPT = Path(__file__).with_name("nvml_child.py")


def pynvml_folder() -> Optional[str]:
    """Where nvidia-ml-py is installed, without importing it; None where it is not."""
    spec = find_spec("pynvml")
    if spec is None or spec.origin is None:
        return None
    module = Path(spec.origin)
    return str(module.parent.parent if module.name == "__init__.py" else module.parent)


@dataclass(frozen=True)
class _Heard:
    answer: bytes
    output: bytes
    in_time: bool


def ask_nvml(bus_ids: Sequence[str]) -> dict[str, Any]:
    """Ask NVML on this machine; see `NvmlCaller.ask`."""
    return _this_machine().ask(bus_ids)


@lru_cache(maxsize=1)
def _this_machine() -> NvmlCaller:
    """One for the process: it knows of a question that is still held in the driver."""
    return NvmlCaller()


class NvmlCaller:
    """Asks NVML, one process at a time. A process that even SIGKILL does not end (stuck in the driver) is kept in mind:
    as long as it lives no other is started."""

    def __init__(
        self, deadline_seconds: float = DEADLINE_SECONDS, environment: Optional[Mapping[str, str]] = None
    ) -> None:
        self._deadline_seconds = deadline_seconds
        self._environment = environment
        self._stuck: Optional[subprocess.Popen[bytes]] = None

    def ask(self, bus_ids: Sequence[str] = ()) -> dict[str, Any]:
        """The document about the GPUs with these bus ids, or about all that NVML lists. Takes at most the deadline
        and two seconds; never raises for what the library does."""
        if self._stuck is not None and self._stuck.poll() is None:
            return {"outcome": "stuck", "detail": f"process {self._stuck.pid} is still held in the driver"}
        self._stuck = None
        folder = pynvml_folder()
        if folder is None:
            return {"outcome": "not-installed"}
        process, answer_fd = self._start([folder, *bus_ids])
        try:
            heard = _listen(process, answer_fd, self._deadline_seconds)
        finally:
            os.close(answer_fd)
            ended = _end(process)
        document = _document(heard, process.returncode)
        if not ended:
            self._stuck = process
        return document

    def _start(self, arguments: Sequence[str]) -> tuple[subprocess.Popen[bytes], int]:
        answer_fd, childs_end = os.pipe()
        alarm_seconds = int(self._deadline_seconds) + 2
        # -I -S: nothing of the user's environment or folders decides what is imported
        command = [sys.executable, "-I", "-S", str(_SCRIPT), str(childs_end), str(alarm_seconds), *arguments]
        try:
            process = subprocess.Popen(  # noqa: S603 - our own script, under our own interpreter
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=[childs_end],
                env=_childs_environment(os.environ if self._environment is None else self._environment),
                cwd="/",
                start_new_session=True,  # so that what the library starts can be killed with it
            )
        except BaseException:
            os.close(answer_fd)
            raise
        finally:
            os.close(childs_end)
        return process, answer_fd


def _childs_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without our own settings (they may hold secrets) and without what changes NVML's numbering."""
    return {name: value for name, value in environment.items() if not name.startswith(("DUXNET_", "PYTHON"))}


def _listen(process: subprocess.Popen[bytes], answer_fd: int, deadline_seconds: float) -> _Heard:
    """Read both pipes until the answer's is closed or the time is over. Too long an answer counts as over."""
    assert process.stdout is not None
    output_fd = process.stdout.fileno()
    os.set_blocking(output_fd, False)
    kept = {answer_fd: b"", output_fd: b""}
    deadline = time.monotonic() + deadline_seconds
    with selectors.DefaultSelector() as selector:
        selector.register(answer_fd, selectors.EVENT_READ)
        selector.register(output_fd, selectors.EVENT_READ)
        while answer_fd in selector.get_map() and not kept[answer_fd].endswith(_END):
            left = deadline - time.monotonic()
            if left <= 0 or len(kept[answer_fd]) > _LONGEST_ANSWER_BYTES:
                return _Heard(kept[answer_fd], kept[output_fd], in_time=False)
            ready = selector.select(min(left, _LOOK_AFTER_SECONDS))
            for key, _ in ready:
                _read(selector, key.fd, kept, output_fd)
            if not ready and process.poll() is not None:
                break  # it is gone, and something that it started holds the pipe open
    _drain(output_fd, kept)
    return _Heard(kept[answer_fd], kept[output_fd], in_time=True)


def _read(selector: selectors.BaseSelector, fd: int, kept: dict[int, bytes], output_fd: int) -> None:
    data = os.read(fd, 65536)
    if not data:
        selector.unregister(fd)
    elif fd != output_fd or len(kept[fd]) < _LONGEST_OUTPUT_BYTES:  # what is printed beyond that is read and dropped
        kept[fd] += data


def _drain(output_fd: int, kept: dict[int, bytes]) -> None:
    try:
        kept[output_fd] += os.read(output_fd, _LONGEST_OUTPUT_BYTES)
    except BlockingIOError:
        return


def _end(process: subprocess.Popen[bytes]) -> bool:
    """End the process and all that the library started in it; False where even SIGKILL does not.

    One that is ending by itself keeps its own exit status: the kernel sets it before it closes the pipes.
    """
    with suppress(ProcessLookupError, PermissionError):  # all gone already; one that runs as root
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_KILLED_WITHIN_SECONDS)
    assert process.stdout is not None
    process.stdout.close()
    return process.poll() is not None


def _document(heard: _Heard, return_code: Optional[int]) -> dict[str, Any]:
    """One document of the lines that were heard, whole or not, and of how the process ended."""
    document: dict[str, Any] = {"outcome": "failed", "devices": []}
    last_call = ""
    ended = False
    for line in heard.answer.split(b"\n"):
        said = _object(line)
        last_call = str(said.get("at", last_call))
        ended = ended or "end" in said
        document.update({key: said[key] for key in ("system", "failed") if key in said})
        if "device" in said:
            document["devices"].append(said["device"])
    output = heard.output[:_LONGEST_OUTPUT_BYTES].decode("utf-8", "replace").strip()
    if ended:
        document["outcome"] = "answered"
    elif not heard.in_time:
        document.update(outcome="hung", at=last_call)
    elif return_code is not None and return_code < 0:
        document.update(outcome="crashed", at=last_call, signal=_signal_name(-return_code))
    else:
        document.update(at=last_call, detail=output.rpartition("\n")[2] or f"exit code {return_code}")
    if output and document["outcome"] != "failed":
        document["output"] = output
    return document


def _object(line: bytes) -> dict[str, Any]:
    try:
        said = json.loads(line)
    except ValueError:  # a line cut short by a crash, or the empty one at the end
        return {}
    return said if isinstance(said, dict) else {}


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
