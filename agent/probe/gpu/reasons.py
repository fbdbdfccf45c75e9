"""Why a GPU that is there cannot be used: a fixed word, a colon, and a sentence that says what to do.

Programs read the word, people the sentence. Here: all of them. Not here: how a reader comes to know.
"""

from __future__ import annotations

__all__ = ["MOST_CHARACTERS", "driver_reason", "node_reason", "nvml_reason", "word_of"]

MOST_CHARACTERS = 256  # the registry's limit for `gpu.reason`

_PASS_THROUGH = ("vfio-pci", "pci-stub", "pciback", "xen-pciback", "uio_pci_generic")

LIBRARY_NOT_INSTALLED = (
    "library-not-installed: nvidia-ml-py is not installed, so NVIDIA's driver cannot be queried; "
    "pip install nvidia-ml-py"
)
NOT_OFFERED = (
    "not-offered: the driver does not give this GPU to this process; "
    "a container was started without it, or the driver could not start it (look into dmesg)"
)
MIG_EMPTY = "mig-empty: MIG mode is on and no instance was made; make some, or switch MIG mode off"
COMPUTE_PROHIBITED = "compute-prohibited: its compute mode forbids work; nvidia-smi -c DEFAULT allows it"
UNSUPPORTED = "unsupported: this version cannot ask this maker's GPUs what they can do"
OFF_PCI = "unsupported: this version cannot ask GPUs that are on no PCI bus what they can do"

# NVML's error codes that have a cause which the operator can mend
_NVML = {
    4: "no-permission: NVML may not open the device files; let the agent's user open /dev/nvidia*",
    6: NOT_OFFERED,
    8: "no-power: its external power cable is not connected",
    9: "driver-not-loaded: the NVIDIA kernel module does not answer; modprobe nvidia, or look into dmesg",
    10: "irq: the kernel has trouble with its interrupts; look into dmesg",
    12: "library-missing: libnvidia-ml.so.1 is not found; install the driver's libraries, "
    "or give them to the container (--gpus all)",
    13: "library-too-old: libnvidia-ml.so.1 lacks a function that is needed; install the one of this driver",
    14: "inforom: its infoROM is damaged; the card needs service",
    15: "lost: it fell off the bus; reset the card or restart the machine",
    16: "reset-required: it needs a reset before it can be used again",
    17: "blocked: the operating system refuses the request; look at cgroup and sandbox rules for /dev/nvidia*",
    18: "version-mismatch: the NVIDIA library and the loaded kernel module are of different versions; "
    "restart the machine, or reload the module",
    999: "devices-lost: NVML fails without naming a cause; a container whose devices were taken away "
    "(systemctl daemon-reload does it) has to be restarted; elsewhere look into dmesg",
}


def nvml_reason(code: object, call: str) -> str:
    """What NVML's error code means for the operator; `call` is named where the code says little."""
    if isinstance(code, int) and code in _NVML:
        return _NVML[code]
    return f"nvml-error: {call} failed with {str(code)[:40]}"


def driver_reason(driver: str, wanted: tuple[str, ...]) -> str:
    """Empty where one of the `wanted` drivers is bound to the device; else why it can do no work."""
    if driver in wanted:
        return ""
    if not driver:
        return f"no-driver: no kernel driver is bound to it; it needs {' or '.join(wanted)}"
    if driver in _PASS_THROUGH:
        return f"passed-through: {driver} keeps it for a virtual machine"
    return f"wrong-driver: {driver[:40]} is bound to it, which offers no compute; it needs {' or '.join(wanted)}"


def node_reason(path: str, access: object) -> str:
    """Empty where the device file at `path` can be opened; else what is wrong with it."""
    if access == "yes":
        return ""
    if access == "denied":
        return f"no-permission: {path} may not be opened; add the agent's user to the group that owns it"
    return f"no-device-file: {path} is not here; a container or a sandbox (PrivateDevices=) hides it?"


def word_of(reason: str) -> str:
    """The fixed word that a reason begins with."""
    return reason.partition(":")[0]
