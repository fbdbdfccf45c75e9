"""Detects interfaces that lead only to containers and virtual machines of this machine, or into their overlay network.

Other machines cannot use such an address, or would reach a different host: many hosts have 172.17.0.1 and
192.168.122.1. Interfaces of VPNs (WireGuard, Tailscale, OpenVPN) are not of this kind: their members can reach them.
"""

from __future__ import annotations

import re

from agent.probe.source import Source

__all__ = ["is_for_guests"]

NET = "/sys/class/net"

# Prefixes of the interface names that container engines, cluster networks and hypervisors use
_GUESTS = (
    "docker", "podman", "nerdctl", "cni", "cbr", "veth", "lxc", "lxdbr", "incusbr", "ve-", "vb-", "vz-",
    "flannel", "cali", "vxlan", "tunl", "cilium", "weave", "genev", "antrea", "kube-", "nodelocaldns", "ovn-k8s",
    "virbr", "vnet", "vmnet", "vboxnet", "fwbr", "fwpr", "fwln", "qbr", "qvb", "qvo", "mpqemubr", "waydroid",
)  # fmt: skip
_DOCKER_NETWORK = re.compile(r"br-[0-9a-f]{12}")  # but not br-lan, br-ex and the like, which the operator made
_OVERLAYS = ("DEVTYPE=vxlan", "DEVTYPE=geneve")


def is_for_guests(source: Source, name: str) -> bool:
    """True for an interface with such a name, the end of an overlay, or a bridge whose ports all belong to guests.

    The interface must not be a physical device.
    """
    if name.startswith(_GUESTS) or _DOCKER_NETWORK.fullmatch(name):
        return True
    if any(line in _OVERLAYS for line in (source.read_text(f"{NET}/{name}/uevent") or "").splitlines()):
        return True
    ports = source.list_dir(f"{NET}/{name}/brif")
    return bool(ports) and not any(_leads_out(source, port) for port in ports)


def _leads_out(source: Source, port: str) -> bool:
    """True for a port that is a physical device or is built on one (a bond, a VLAN)."""
    entries = source.list_dir(f"{NET}/{port}")
    return "device" in entries or any(entry.startswith("lower_") for entry in entries)
