"""Queries NVIDIA's library (NVML) and writes its answers, one JSON object per line. Runs only as a separate process.

A vendor library may crash, hang or print; in a separate process that does no harm. `nvml_call` starts it as
`python -I -S nvml_child.py ANSWER_FD ALARM_SECONDS PYNVML_FOLDER [BUS_ID...]`. It imports nothing from this project
and judges nothing: `nvml` interprets the answers. The lines, in chronological order:

    {"at": CALL}                          written before this call: the last one is the cause of a crash or hang
    {"system": {...}}                     driver version, CUDA version, number of devices
    {"device": {...}}                     one device; its "errors" has NVML's codes of the calls that failed
    {"failed": {"call": CALL, "code": N}} NVML cannot be used at all
    {"end": true}                         the answer is complete
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from typing import Any, Optional

_MOST_DEVICES = 256
_MOST_INSTANCES = 64  # NVIDIA's own limit is 7 per GPU
_NOT_FOUND = 6
_FUNCTION_NOT_FOUND = 13


class _Session:
    """Writes each call's name before the call, and collects the errors."""

    def __init__(self, answer_fd: int, nvml: Any) -> None:
        self._answer_fd = answer_fd
        self.nvml = nvml

    def write(self, line: dict[str, Any]) -> None:
        data = json.dumps(line).encode() + b"\n"
        while data:
            data = data[os.write(self._answer_fd, data) :]

    def ask(self, errors: dict[str, Any], call: str, *arguments: Any) -> Any:
        """Return the result of `call`; None if it failed, with the code (or a description) in `errors`."""
        self.write({"at": call})
        function = getattr(self.nvml, call, None)
        if function is None:  # an nvidia-ml-py older than this function
            errors[call] = _FUNCTION_NOT_FOUND
            return None
        try:
            return function(*arguments)
        except self.nvml.NVMLError as error:
            errors[call] = error.value
        except ValueError:  # text that is not UTF-8
            errors[call] = "not text"
        return None


def _memory(session: _Session, errors: dict[str, Any], handle: Any) -> Optional[int]:
    memory = session.ask(errors, "nvmlDeviceGetMemoryInfo", handle)
    return None if memory is None else int(memory.total)


def _instances(session: _Session, errors: dict[str, Any], parent: Any) -> list[dict[str, Any]]:
    """The MIG instances of a GPU; an empty slot in its table is not an error."""
    count = session.ask(errors, "nvmlDeviceGetMaxMigDeviceCount", parent) or 0
    if count > _MOST_INSTANCES:
        errors["nvmlDeviceGetMaxMigDeviceCount"] = f"{count} instances"
        return []
    found = []
    for index in range(count):
        own: dict[str, Any] = {}
        handle = session.ask(own, "nvmlDeviceGetMigDeviceHandleByIndex", parent, index)
        if own.get("nvmlDeviceGetMigDeviceHandleByIndex") == _NOT_FOUND:
            continue
        instance: dict[str, Any] = {"errors": own}
        if handle is not None:
            instance["uuid"] = session.ask(own, "nvmlDeviceGetUUID", handle)
            instance["name"] = session.ask(own, "nvmlDeviceGetName", handle)
            instance["memory_bytes"] = _memory(session, own, handle)
        found.append(instance)
    return found


def _describe(session: _Session, device: dict[str, Any], handle: Any) -> None:
    errors = device["errors"]
    device["uuid"] = session.ask(errors, "nvmlDeviceGetUUID", handle)
    device["name"] = session.ask(errors, "nvmlDeviceGetName", handle)
    device["memory_bytes"] = _memory(session, errors, handle)
    pci = session.ask(errors, "nvmlDeviceGetPciInfo", handle)
    if pci is not None:
        device["bus_id"] = pci.busId.decode("ascii", "replace") if isinstance(pci.busId, bytes) else str(pci.busId)
    device["compute_capability"] = session.ask(errors, "nvmlDeviceGetCudaComputeCapability", handle)
    device["compute_mode"] = session.ask(errors, "nvmlDeviceGetComputeMode", handle)
    mode = session.ask(errors, "nvmlDeviceGetMigMode", handle)  # "not supported" on all but data-centre GPUs
    device["mig"] = mode is not None and mode[0] == 1
    if device["mig"]:
        device["instances"] = _instances(session, errors, handle)


def _devices(session: _Session, bus_ids: list[str], count: int) -> None:
    """Look devices up by bus id if given, so that lost GPUs are identified and sleeping ones are not woken."""
    lookups: list[tuple[str, Any]] = [("nvmlDeviceGetHandleByPciBusId", bus_id) for bus_id in bus_ids]
    if not bus_ids and count <= _MOST_DEVICES:
        lookups = [("nvmlDeviceGetHandleByIndex", index) for index in range(count)]
    for call, key in lookups:
        device: dict[str, Any] = {"index" if isinstance(key, int) else "bus_id": key, "errors": {}}
        handle = session.ask(device["errors"], call, key)
        if handle is not None:
            _describe(session, device, handle)
        session.write({"device": device})


def _query(session: _Session, bus_ids: list[str]) -> None:
    errors: dict[str, Any] = {}
    session.ask(errors, "nvmlInit")
    if errors:
        session.write({"failed": {"call": "nvmlInit", "code": errors["nvmlInit"]}})
    else:
        _describe_all(session, bus_ids)
    session.write({"end": True})


def _describe_all(session: _Session, bus_ids: list[str]) -> None:
    errors: dict[str, Any] = {}
    system = {
        "driver_version": session.ask(errors, "nvmlSystemGetDriverVersion"),
        "cuda_version": session.ask(errors, "nvmlSystemGetCudaDriverVersion_v2"),
        "device_count": session.ask(errors, "nvmlDeviceGetCount"),
        "errors": errors,
    }
    session.write({"system": system})
    _devices(session, bus_ids, system["device_count"] or 0)


def main(arguments: list[str]) -> None:
    """Query NVML; SIGALRM ends this process if its parent is gone."""
    answer_fd, alarm_seconds, folder, bus_ids = int(arguments[0]), int(arguments[1]), arguments[2], arguments[3:]
    os.set_inheritable(answer_fd, False)  # the library may start nvidia-modprobe
    signal.alarm(alarm_seconds)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash is reported; no core dump is needed
    sys.path.append(folder)
    import pynvml

    _query(_Session(answer_fd, pynvml), bus_ids)


if __name__ == "__main__":
    main(sys.argv[1:])
    os._exit(0)  # no clean-up: the library's may hang, and the end of the process frees everything
