"""Which interfaces lead nowhere but to containers and virtual machines of this same machine, or into their overlay.

Others cannot reach such an address, or reach another machine by it: hosts repeat 172.17.0.1 and 192.168.122.1.
Interfaces of VPNs (WireGuard, Tailscale, OpenVPN) are reached by their members and are not of this kind.
"""

from __future__ import annotations

import re

from agent.probe.source import Source

__all__ = ["is_for_guests"]

NET = "/sys/class/net"

# How the names begin that container engines, cluster networks and hypervisors give to theirs
_GUESTS = (
    "docker", "podman", "nerdctl", "cni", "cbr", "veth", "lxc", "lxdbr", "incusbr", "ve-", "vb-", "vz-",
    "flannel", "cali", "vxlan", "tunl", "cilium", "weave", "genev", "antrea", "kube-", "nodelocaldns", "ovn-k8s",
    "virbr", "vnet", "vmnet", "vboxnet", "fwbr", "fwpr", "fwln", "qbr", "qvb", "qvo", "mpqemubr", "waydroid",
)  # fmt: skip
_DOCKER_NETWORK = re.compile(r"br-[0-9a-f]{12}")  # br-lan, br-ex and their like are the operator's own
_OVERLAYS = ("DEVTYPE=vxlan", "DEVTYPE=geneve")


def is_for_guests(source: Source, name: str) -> bool:
    """Only for an interface that is no real device: known by its name, by being an overlay's end, or as a bridge
    whose ports all belong to guests.
    """
    if name.startswith(_GUESTS) or _DOCKER_NETWORK.fullmatch(name):
        return True
    if any(line in _OVERLAYS for line in (source.read_text(f"{NET}/{name}/uevent") or "").splitlines()):
        return True
    ports = source.list_dir(f"{NET}/{name}/brif")
    return bool(ports) and not any(_leads_out(source, port) for port in ports)


def _leads_out(source: Source, port: str) -> bool:
    """A port of a bridge that is a real device, or stands on another one (a bond, a VLAN)."""
    entries = source.list_dir(f"{NET}/{port}")
    return "device" in entries or any(entry.startswith("lower_") for entry in entries)
