"""Starts the process that queries NVML, reads its output until a deadline, and returns it as one JSON document.

It starts, reads and kills the process, and reports how it ended; `nvml` interprets the answers. Recordings store the
document unchanged.

    outcome         answered, not-installed, failed, crashed, hung, stuck
    at              the last call before the process crashed, hung or failed
    signal          the signal's name, if crashed
    detail          the last line of the process, if failed
    output          what the library printed; normally nothing
    failed          {"call", "code"} if NVML could not be used at all
    system, devices as written by `nvml_child`
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

# NVML takes 1 to 2 seconds per GPU if no persistence daemon keeps them initialised: 8 GPUs need about 16.
DEADLINE_SECONDS = 25.0
_KILLED_WITHIN_SECONDS = 2.0
_LONGEST_ANSWER_BYTES = 1 << 20
_LONGEST_OUTPUT_BYTES = 4096
_LOOK_AFTER_SECONDS = 0.5
_END = b'{"end": true}\n'
_SCRIPT = Path(__file__).with_name("nvml_child.py")


def pynvml_folder() -> Optional[str]:
    """The folder in which nvidia-ml-py is installed, without importing it; None if it is not installed."""
    spec = find_spec("pynvml")
    if spec is None or spec.origin is None:
        return None
    module = Path(spec.origin)
    return str(module.parent.parent if module.name == "__init__.py" else module.parent)


@dataclass(frozen=True)
class _Received:
    answer: bytes
    output: bytes
    in_time: bool


def ask_nvml(bus_ids: Sequence[str]) -> dict[str, Any]:
    """Query NVML on this machine; see `NvmlCaller.ask`."""
    return _this_machine().ask(bus_ids)


@lru_cache(maxsize=1)
def _this_machine() -> NvmlCaller:
    """One for the whole process, because it remembers a query that hangs in the driver."""
    return NvmlCaller()


class NvmlCaller:
    """Queries NVML, with one process at a time. A process that even SIGKILL does not end (stuck in the driver) is
    remembered: no other is started as long as it exists."""

    def __init__(
        self, deadline_seconds: float = DEADLINE_SECONDS, environment: Optional[Mapping[str, str]] = None
    ) -> None:
        self._deadline_seconds = deadline_seconds
        self._environment = environment
        self._stuck: Optional[subprocess.Popen[bytes]] = None

    def ask(self, bus_ids: Sequence[str] = ()) -> dict[str, Any]:
        """The document about the GPUs with these bus ids, or about all that NVML lists. It takes at most the deadline
        plus two seconds; errors of the library do not raise."""
        if self._stuck is not None and self._stuck.poll() is None:
            return {"outcome": "stuck", "detail": f"process {self._stuck.pid} is still held in the driver"}
        self._stuck = None
        folder = pynvml_folder()
        if folder is None:
            return {"outcome": "not-installed"}
        process, answer_fd = self._start([folder, *bus_ids])
        try:
            received = _read_all(process, answer_fd, self._deadline_seconds)
        finally:
            os.close(answer_fd)
            ended = _end(process)
        document = _document(received, process.returncode)
        if not ended:
            self._stuck = process
        return document

    def _start(self, arguments: Sequence[str]) -> tuple[subprocess.Popen[bytes], int]:
        answer_fd, childs_end = os.pipe()
        alarm_seconds = int(self._deadline_seconds) + 2
        # -I -S: the user's environment and folders do not affect what is imported
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
                start_new_session=True,  # so that processes of the library can be killed with it
            )
        except BaseException:
            os.close(answer_fd)
            raise
        finally:
            os.close(childs_end)
        return process, answer_fd


def _childs_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without our settings, which may contain secrets, and without Python's variables."""
    return {name: value for name, value in environment.items() if not name.startswith(("DUXNET_", "PYTHON"))}


def _read_all(process: subprocess.Popen[bytes], answer_fd: int, deadline_seconds: float) -> _Received:
    """Read both pipes until the end of the answer or the deadline. Too long an answer counts as late."""
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
                return _Received(kept[answer_fd], kept[output_fd], in_time=False)
            ready = selector.select(min(left, _LOOK_AFTER_SECONDS))
            for key, _ in ready:
                _read(selector, key.fd, kept, output_fd)
            if not ready and process.poll() is not None:
                break  # it has ended, but a process that it started holds the pipe open
    _drain(output_fd, kept)
    return _Received(kept[answer_fd], kept[output_fd], in_time=True)


def _read(selector: selectors.BaseSelector, fd: int, kept: dict[int, bytes], output_fd: int) -> None:
    data = os.read(fd, 65536)
    if not data:
        selector.unregister(fd)
    elif fd != output_fd or len(kept[fd]) < _LONGEST_OUTPUT_BYTES:  # more output is read and discarded
        kept[fd] += data


def _drain(output_fd: int, kept: dict[int, bytes]) -> None:
    try:
        kept[output_fd] += os.read(output_fd, _LONGEST_OUTPUT_BYTES)
    except BlockingIOError:
        return


def _end(process: subprocess.Popen[bytes]) -> bool:
    """Kill the process and all that the library started in it; False if even SIGKILL does not end it.

    A process that is just exiting keeps its exit status: the kernel sets it before it closes the pipes.
    """
    with suppress(ProcessLookupError, PermissionError):  # all have ended already; one runs as root
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_KILLED_WITHIN_SECONDS)
    assert process.stdout is not None
    process.stdout.close()
    return process.poll() is not None


def _document(received: _Received, return_code: Optional[int]) -> dict[str, Any]:
    """The document from the received lines, complete or not, and from how the process ended."""
    document: dict[str, Any] = {"outcome": "failed", "devices": []}
    last_call = ""
    ended = False
    for line in received.answer.split(b"\n"):
        message = _object(line)
        last_call = str(message.get("at", last_call))
        ended = ended or "end" in message
        document.update({key: message[key] for key in ("system", "failed") if key in message})
        if "device" in message:
            document["devices"].append(message["device"])
    output = received.output[:_LONGEST_OUTPUT_BYTES].decode("utf-8", "replace").strip()
    if ended:
        document["outcome"] = "answered"
    elif not received.in_time:
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
        message = json.loads(line)
    except ValueError:  # a line truncated by a crash, or the empty one at the end
        return {}
    return message if isinstance(message, dict) else {}


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
