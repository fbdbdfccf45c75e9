"""The reasons why a GPU cannot be used: a fixed word, a colon, and a sentence that states what to do.

Programs use the word, people the sentence.
"""

from __future__ import annotations

__all__ = ["MOST_CHARACTERS", "driver_reason", "node_reason", "nvml_reason", "word_of"]

MOST_CHARACTERS = 256  # the registry's limit for `gpu.reason`

_PASS_THROUGH = ("vfio-pci", "pci-stub", "pciback", "xen-pciback", "uio_pci_generic")

LIBRARY_NOT_INSTALLED = (
    "library-not-installed: nvidia-ml-py is not installed, so the GPU cannot be queried; pip install nvidia-ml-py"
)
NOT_OFFERED = (
    "not-offered: the driver does not give this GPU to this process; "
    "a container was started without it, or the driver could not start it (check dmesg)"
)
MIG_EMPTY = "mig-empty: MIG mode is on but there is no instance; create one, or turn MIG mode off"
COMPUTE_PROHIBITED = "compute-prohibited: its compute mode forbids work; nvidia-smi -c DEFAULT allows it"
UNSUPPORTED = "unsupported: this version cannot query GPUs of this vendor"
OFF_PCI = "unsupported: this version cannot query GPUs that are not on a PCI bus"

# NVML's error codes whose cause the operator can fix
_NVML = {
    4: "no-permission: NVML may not open the device files; give the agent's user access to /dev/nvidia*",
    6: NOT_OFFERED,
    8: "no-power: its external power cable is not connected",
    9: "driver-not-loaded: the NVIDIA kernel module does not answer; modprobe nvidia, or check dmesg",
    10: "irq: the kernel reports a problem with its interrupts; check dmesg",
    12: "library-missing: libnvidia-ml.so.1 is not found; install the driver's libraries, "
    "or give them to the container (--gpus all)",
    13: "library-too-old: libnvidia-ml.so.1 lacks a required function; install the one of this driver's version",
    14: "inforom: its infoROM is damaged; the card needs service",
    15: "lost: it fell off the bus; reset the card or restart the machine",
    16: "reset-required: it needs a reset before it can be used again",
    17: "blocked: the operating system refuses the request; look at cgroup and sandbox rules for /dev/nvidia*",
    18: "version-mismatch: the NVIDIA library and the loaded kernel module are of different versions; "
    "restart the machine, or reload the module",
    999: "devices-lost: NVML fails without naming a cause; a container whose devices were taken away "
    "(systemctl daemon-reload does it) has to be restarted; elsewhere check dmesg",
}


def nvml_reason(code: object, call: str) -> str:
    """The reason for NVML's error code; it names `call` if the code is not in the table."""
    if isinstance(code, int) and code in _NVML:
        return _NVML[code]
    return f"nvml-error: {call} failed with {str(code)[:40]}"


def driver_reason(driver: str, wanted: tuple[str, ...]) -> str:
    """Empty if one of the `wanted` drivers is bound to the device; else why it cannot be used."""
    if driver in wanted:
        return ""
    if not driver:
        return f"no-driver: no kernel driver is bound to it; it needs {' or '.join(wanted)}"
    if driver in _PASS_THROUGH:
        return f"passed-through: {driver} reserves it for a virtual machine"
    return f"wrong-driver: {driver[:40]} is bound to it, which offers no compute; it needs {' or '.join(wanted)}"


def node_reason(path: str, access: object) -> str:
    """Empty if the device file at `path` can be opened; else the reason."""
    if access == "yes":
        return ""
    if access == "denied":
        return f"no-permission: {path} may not be opened; add the agent's user to the group that owns it"
    return f"no-device-file: {path} does not exist here; a container or a sandbox (PrivateDevices=) may hide it"


def word_of(reason: str) -> str:
    """The fixed word at the start of a reason."""
    return reason.partition(":")[0]
