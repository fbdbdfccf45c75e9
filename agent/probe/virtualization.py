"""Whether this is a container, a virtual machine or the metal, from the traces that each kind leaves."""

from __future__ import annotations

from agent.probe.source import Source

__all__ = ["container_name", "virtual_machine_name"]

# What firmware writes as vendor or product, by hypervisor; the first that matches wins, so the particular come first.
_DMI = (
    ("amazon ec2", "amazon"), ("google compute engine", "google"), ("kvm", "kvm"), ("qemu", "qemu"),
    ("vmware", "vmware"), ("virtualbox", "oracle"), ("innotek", "oracle"), ("xen", "xen"), ("bochs", "bochs"),
    ("parallels", "parallels"), ("bhyve", "bhyve"), ("hyper-v", "microsoft"), ("virtual machine", "microsoft"),
    ("openstack", "kvm"), ("digitalocean", "kvm"), ("hetzner", "kvm"), ("alibaba", "kvm"),
)  # fmt: skip
# Clocks that only a guest of that hypervisor has; the small ones (Firecracker, Cloud Hypervisor) leave no other trace
_CLOCKS = (("kvm-clock", "kvm"), ("xen", "xen"), ("hyperv", "microsoft"))
_CGROUP_TRACES = (("/docker", "docker"), ("/kubepods", "kubernetes"), ("/lxc", "lxc"), ("libpod", "podman"),
                  ("/ecs/", "ecs"), ("/garden/", "garden"), ("machine.slice/machine-", "nspawn"))  # fmt: skip


# The kernel gives its first namespaces these fixed numbers (include/linux/proc_ns.h). A process in both is in no
# container, whatever traces an image has left: virtual machines are made from images too. Others than these two say
# nothing: systemd puts an ordinary service into its own uts, ipc or mount namespace.
_FIRST_NAMESPACES = {"pid": 4026531836, "cgroup": 4026531835}


def container_name(source: Source) -> str:
    """docker, podman, lxc, kubernetes, nspawn …; `container` when only the fact is known; empty outside of one."""
    links = [(source.read_link(f"/proc/self/ns/{kind}"), f"{kind}:[{n}]") for kind, n in _FIRST_NAMESPACES.items()]
    if all(link == first for link, first in links):
        return ""
    named = source.read_line("/run/systemd/container")
    if named:
        return named[:64]
    if source.read_text("/run/.containerenv") is not None:
        return "podman"
    if source.read_text("/.dockerenv") is not None:
        return "docker"
    traces = source.read_text("/proc/1/cgroup") or ""
    for trace, name in _CGROUP_TRACES:
        if trace in traces:
            return name
    if source.list_dir("/var/run/secrets/kubernetes.io/serviceaccount"):
        return "kubernetes"
    link, first = links[0]
    return "container" if link is not None and link != first else ""


def virtual_machine_name(source: Source) -> str:
    """kvm, qemu, vmware, xen, microsoft …; `vm` when only the CPU's hypervisor flag shows it; empty on the metal."""
    firmware = " ".join(
        source.read_line(f"/sys/class/dmi/id/{name}") for name in ("sys_vendor", "product_name", "bios_vendor")
    ).lower()
    for trace, name in _DMI:
        if trace in firmware:
            return name
    hypervisor = source.read_line("/sys/hypervisor/type")
    if hypervisor:
        return hypervisor[:64]
    if "microsoft" in source.read_line("/proc/sys/kernel/osrelease").lower():
        return "wsl"
    if source.read_text("/proc/device-tree/hypervisor/compatible") is not None:
        return "vm"
    clocks = source.read_line("/sys/devices/system/clocksource/clocksource0/available_clocksource")
    for trace, name in _CLOCKS:
        if trace in clocks:
            return name
    flags = _flags(source.read_text("/proc/cpuinfo") or "")
    return "vm" if "hypervisor" in flags else ""


def _flags(cpuinfo: str) -> list[str]:
    for line in cpuinfo.splitlines():
        if line.startswith("flags"):
            return line.partition(":")[2].split()
    return []
