"""Asks NVIDIA's library (NVML) and writes its answers, one JSON object a line. Runs only as a process of its own.

A vendor library may crash, hang or print: here it can do so without harm. Started by `nvml_call` as
`python -I -S nvml_child.py ANSWER_FD ALARM_SECONDS PYNVML_FOLDER [BUS_ID...]`, it imports nothing of this project
and judges nothing: what the answers mean is `nvml`'s business. Lines, in order of time:

    {"at": CALL}                          about to make this call: after a crash or a hang the last one is to blame
    {"system": {...}}                     driver version, CUDA version, number of devices
    {"device": {...}}                     one device; calls that failed stand in its "errors" with NVML's code
    {"failed": {"call": CALL, "code": N}} NVML as a whole cannot be used
    {"end": true}                         all was said
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from typing import Any, Optional

_MOST_DEVICES = 256
_MOST_INSTANCES = 64  # NVIDIA's own limit is 7 a GPU
_NOT_FOUND = 6
_FUNCTION_NOT_FOUND = 13


class _Conversation:
    """Each call is announced before it is made, and its failure is kept beside the values."""

    def __init__(self, answer_fd: int, nvml: Any) -> None:
        self._answer_fd = answer_fd
        self.nvml = nvml

    def write(self, line: dict[str, Any]) -> None:
        data = json.dumps(line).encode() + b"\n"
        while data:
            data = data[os.write(self._answer_fd, data) :]

    def ask(self, errors: dict[str, Any], call: str, *arguments: Any) -> Any:
        """What `call` returns; None where it failed, with the code (or the nature of the nonsense) in `errors`."""
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


def _memory(talk: _Conversation, errors: dict[str, Any], handle: Any) -> Optional[int]:
    memory = talk.ask(errors, "nvmlDeviceGetMemoryInfo", handle)
    return None if memory is None else int(memory.total)


def _instances(talk: _Conversation, errors: dict[str, Any], parent: Any) -> list[dict[str, Any]]:
    """The MIG instances of a GPU; a place in its table that holds none is no error."""
    count = talk.ask(errors, "nvmlDeviceGetMaxMigDeviceCount", parent) or 0
    if count > _MOST_INSTANCES:
        errors["nvmlDeviceGetMaxMigDeviceCount"] = f"{count} instances"
        return []
    found = []
    for index in range(count):
        own: dict[str, Any] = {}
        handle = talk.ask(own, "nvmlDeviceGetMigDeviceHandleByIndex", parent, index)
        if own.get("nvmlDeviceGetMigDeviceHandleByIndex") == _NOT_FOUND:
            continue
        instance: dict[str, Any] = {"errors": own}
        if handle is not None:
            instance["uuid"] = talk.ask(own, "nvmlDeviceGetUUID", handle)
            instance["name"] = talk.ask(own, "nvmlDeviceGetName", handle)
            instance["memory_bytes"] = _memory(talk, own, handle)
        found.append(instance)
    return found


def _describe(talk: _Conversation, device: dict[str, Any], handle: Any) -> None:
    errors = device["errors"]
    device["uuid"] = talk.ask(errors, "nvmlDeviceGetUUID", handle)
    device["name"] = talk.ask(errors, "nvmlDeviceGetName", handle)
    device["memory_bytes"] = _memory(talk, errors, handle)
    pci = talk.ask(errors, "nvmlDeviceGetPciInfo", handle)
    if pci is not None:
        device["bus_id"] = pci.busId.decode("ascii", "replace") if isinstance(pci.busId, bytes) else str(pci.busId)
    device["compute_capability"] = talk.ask(errors, "nvmlDeviceGetCudaComputeCapability", handle)
    device["compute_mode"] = talk.ask(errors, "nvmlDeviceGetComputeMode", handle)
    mode = talk.ask(errors, "nvmlDeviceGetMigMode", handle)  # "not supported" on all but data-centre GPUs
    device["mig"] = mode is not None and mode[0] == 1
    if device["mig"]:
        device["instances"] = _instances(talk, errors, handle)


def _devices(talk: _Conversation, bus_ids: list[str], count: int) -> None:
    """By bus id where the bus is known: a GPU that is lost, or asleep and not asked for, then still has its name."""
    lookups: list[tuple[str, Any]] = [("nvmlDeviceGetHandleByPciBusId", bus_id) for bus_id in bus_ids]
    if not bus_ids and count <= _MOST_DEVICES:
        lookups = [("nvmlDeviceGetHandleByIndex", index) for index in range(count)]
    for call, key in lookups:
        device: dict[str, Any] = {"index" if isinstance(key, int) else "bus_id": key, "errors": {}}
        handle = talk.ask(device["errors"], call, key)
        if handle is not None:
            _describe(talk, device, handle)
        talk.write({"device": device})


def _converse(talk: _Conversation, bus_ids: list[str]) -> None:
    errors: dict[str, Any] = {}
    talk.ask(errors, "nvmlInit")
    if errors:
        talk.write({"failed": {"call": "nvmlInit", "code": errors["nvmlInit"]}})
    else:
        _describe_all(talk, bus_ids)
    talk.write({"end": True})


def _describe_all(talk: _Conversation, bus_ids: list[str]) -> None:
    errors: dict[str, Any] = {}
    system = {
        "driver_version": talk.ask(errors, "nvmlSystemGetDriverVersion"),
        "cuda_version": talk.ask(errors, "nvmlSystemGetCudaDriverVersion_v2"),
        "device_count": talk.ask(errors, "nvmlDeviceGetCount"),
        "errors": errors,
    }
    talk.write({"system": system})
    _devices(talk, bus_ids, system["device_count"] or 0)


def main(arguments: list[str]) -> None:
    """Talk to NVML until done; SIGALRM ends a conversation whose listener has gone."""
    answer_fd, alarm_seconds, folder, bus_ids = int(arguments[0]), int(arguments[1]), arguments[2], arguments[3:]
    os.set_inheritable(answer_fd, False)  # the library may start nvidia-modprobe
    signal.alarm(alarm_seconds)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash is reported; nobody wants its memory on the disk
    sys.path.append(folder)
    import pynvml

    _converse(_Conversation(answer_fd, pynvml), bus_ids)


if __name__ == "__main__":
    main(sys.argv[1:])
    os._exit(0)  # no clean-up: the library's own may hang, and what it holds ends with the process
