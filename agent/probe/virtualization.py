"""Detects containers and virtual machines by the traces that each kind leaves."""

from __future__ import annotations

from typing import Optional

from agent.probe.parsers.cpu import cpuinfo_value
from agent.probe.source import Source

__all__ = ["container_name", "can_show_hypervisor", "virtual_machine_name"]

_DMI_FOLDER = "/sys/class/dmi/id"
_DMI_FILES = ("sys_vendor", "product_name", "board_vendor", "bios_vendor")
# Prefixes of the firmware's vendor or product names, with the hypervisor; the specific ones come first.
_DMI = (
    ("amazon ec2", "amazon"), ("google compute engine", "google"), ("alibaba cloud", "kvm"), ("openstack", "kvm"),
    ("digitalocean", "kvm"), ("hetzner", "kvm"), ("kubevirt", "kvm"), ("rhev", "kvm"), ("ovirt", "kvm"),
    ("nutanix", "kvm"), ("kvm", "kvm"), ("qemu", "qemu"), ("vmware", "vmware"), ("vmw", "vmware"),
    ("virtualbox", "oracle"), ("innotek", "oracle"), ("hvm domu", "xen"), ("xen", "xen"), ("bochs", "bochs"),
    ("parallels", "parallels"), ("bhyve", "bhyve"), ("hyper-v", "microsoft"), ("virtual machine", "microsoft"),
    ("apple virtualization", "apple"), ("acrn", "acrn"), ("cloud hypervisor", "kvm"), ("crosvm", "kvm"),
)  # fmt: skip
# Clouds whose firmware has the same names on bare-metal machines
_RENTED_WHOLE = ("amazon ec2", "google compute engine", "alibaba cloud", "openstack", "hetzner", "digitalocean")
# Clocks that only guests have; small hypervisors (Firecracker, Cloud Hypervisor) leave no other trace
_CLOCKS = (("kvm-clock", "kvm"), ("xen", "xen"), ("hyperv", "microsoft"))
_XEN_PRIVILEGED = 1 << 11  # XENFEAT_dom0: the system that manages the guests
# Virtual devices of hypervisors, by PCI vendor: for guests whose firmware has no name
_DEVICES = (("80ee", "oracle"), ("15ad", "vmware"), ("1ab8", "parallels"), ("1414", "microsoft"), ("5853", "xen"),
            ("1b36", "qemu"), ("1234", "qemu"))  # fmt: skip
# Parts of the control-group path of a container
_CGROUP_TRACES = (("/kubepods", "kubernetes"), ("kubepods.slice", "kubernetes"), ("kubepods-", "kubernetes"),
                  ("/docker/", "docker"), ("/docker-", "docker"), ("/libpod-", "podman"), ("/libpod/", "podman"),
                  ("/lxc.payload", "lxc"), ("/lxc/", "lxc"), ("/ecs/", "ecs"), ("/garden/", "garden"),
                  ("/nerdctl-", "containerd"), ("/cri-containerd-", "kubernetes"), ("/crio-", "kubernetes"),
                  ("/machine.slice/machine-", "nspawn"), ("/buildkit/", "buildkit"))  # fmt: skip
# Host programs that accompany a container or run a guest, but are not in a container themselves
_NO_CONTAINER = ("/libpod-conmon", "/crio-conmon", "/machine-qemu", "/machine-lxc", "/docker-proxy")


# The kernel gives its initial namespaces these fixed numbers (include/linux/proc_ns.h). A process in both is not in a
# container, whatever traces an image has left, because virtual machines are made from images too. The only exception is
# shown by its control group: node agents run in a container with the host's namespaces (--pid=host). Other namespaces
# prove nothing: systemd runs ordinary services in their own uts, ipc or mount namespace.
_FIRST_NAMESPACES = {"pid": 4026531836, "cgroup": 4026531835}


def container_name(source: Source) -> str:
    """docker, podman, lxc, kubernetes, nspawn …; `container` if the kind is unknown; empty outside a container."""
    own = _cgroup_trace(source.read_text("/proc/self/cgroup"))
    links = [(source.read_link(f"/proc/self/ns/{kind}"), f"{kind}:[{n}]") for kind, n in _FIRST_NAMESPACES.items()]
    if all(link == first for link, first in links):
        return own
    named = source.read_line("/run/systemd/container")
    if named:
        return named[:64]
    if source.read_text("/run/.containerenv") is not None:
        return "podman"
    if source.read_text("/.dockerenv") is not None:
        return "docker"
    trace = own or _cgroup_trace(source.read_text("/proc/1/cgroup"))
    if trace:
        return trace
    if source.list_dir("/var/run/secrets/kubernetes.io/serviceaccount"):
        return "kubernetes"
    link, first = links[0]
    inside = link is not None and link != first
    return "container" if inside and not _is_wsl(source) else ""  # WSL runs each distribution in its own namespace


def _cgroup_trace(text: Optional[str]) -> str:
    for line in (text or "").splitlines():
        path = line.partition(":")[2].partition(":")[2] + "/"
        if not any(trace in path for trace in _NO_CONTAINER):
            name = next((name for trace, name in _CGROUP_TRACES if trace in path), "")
            if name:
                return name
    return ""


def virtual_machine_name(source: Source) -> str:
    """kvm, qemu, vmware, xen, microsoft …; `vm` if only the CPU's hypervisor flag shows it; empty on bare metal."""
    if _is_xen_dom0(source):
        return ""
    cpuinfo = source.read_text("/proc/cpuinfo")
    flags = cpuinfo_value(cpuinfo, "flags").split()
    for name in (_by_firmware(source, flags), _by_architecture(source, cpuinfo), _by_kernel(source)):
        if name is not None:
            return name
    devices = [line.split()[1][:4] for line in _lines(source, "/proc/bus/pci/devices") if len(line.split()) > 1]
    for maker, name in _DEVICES:
        if maker in devices:
            return name
    return "vm" if "hypervisor" in flags else ""


def can_show_hypervisor(source: Source) -> bool:
    """Whether this machine has any source that would reveal a hypervisor, so that no trace means bare metal."""
    if any(source.list_dir(folder) for folder in (_DMI_FOLDER, "/proc/device-tree", "/sys/hypervisor")):
        return True
    cpuinfo = source.read_text("/proc/cpuinfo")
    return bool(
        any(cpuinfo_value(cpuinfo, key) for key in ("flags", "platform"))
        or source.read_text("/proc/sysinfo")
        or source.read_text("/proc/bus/pci/devices")
    )


def _is_xen_dom0(source: Source) -> bool:
    """True in Xen's dom0, which runs under the hypervisor but controls the machine's devices."""
    if "control_d" in source.read_line("/proc/xen/capabilities"):
        return True
    try:
        features = int(source.read_line("/sys/hypervisor/properties/features") or "0", 16)
    except ValueError:
        return False
    return bool(features & _XEN_PRIVILEGED)


def _by_firmware(source: Source, flags: list[str]) -> Optional[str]:
    names = [source.read_line(f"{_DMI_FOLDER}/{file}").lower() for file in _DMI_FILES]
    for beginning, name in _DMI:
        if not any(text.startswith(beginning) for text in names):
            continue
        whole = "metal" in names[1] or (bool(flags) and "hypervisor" not in flags)
        return "" if beginning in _RENTED_WHOLE and whole else name
    return None


def _by_architecture(source: Source, cpuinfo: Optional[str]) -> Optional[str]:
    """The name according to the specific files of s390, POWER, ARM and user-mode Linux."""
    program = next((line for line in _lines(source, "/proc/sysinfo") if line.startswith("VM00 Control Program")), "")
    if program:
        name = program.partition(":")[2].strip().lower()
        return "kvm" if name.startswith("kvm") else "zvm" if name.startswith("z/vm") else "vm"
    if cpuinfo_value(cpuinfo, "vendor_id") == "User Mode Linux":
        return "uml"
    tree = "/proc/device-tree"
    hypervisor = source.read_line(f"{tree}/hypervisor/compatible").lower()
    if hypervisor:
        return next((name for name in ("kvm", "xen", "vmware") if name in hypervisor), "vm")
    compatible = source.read_line(f"{tree}/compatible")
    if any(name.startswith("fw-cfg") for name in source.list_dir(tree)) or "qemu" in compatible:
        return "qemu"
    if "linux,dummy-virt" in compatible:
        return "vm"
    if source.read_text(f"{tree}/ibm,partition-name") is not None:
        return "powervm"
    if cpuinfo_value(cpuinfo, "platform") == "pSeries":  # always under a hypervisor: IBM's, or QEMU's emulation
        return "qemu" if "qemu" in cpuinfo_value(cpuinfo, "machine") else "powervm"
    return None


def _by_kernel(source: Source) -> Optional[str]:
    hypervisor = source.read_line("/sys/hypervisor/type")
    if hypervisor:
        return hypervisor[:64]
    if _is_wsl(source):
        return "wsl"
    clocks = source.read_line("/sys/devices/system/clocksource/clocksource0/available_clocksource")
    return next((name for trace, name in _CLOCKS if trace in clocks), None)


def _is_wsl(source: Source) -> bool:
    return "microsoft" in source.read_line("/proc/sys/kernel/osrelease").lower()


def _lines(source: Source, path: str) -> list[str]:
    return (source.read_text(path) or "").splitlines()
