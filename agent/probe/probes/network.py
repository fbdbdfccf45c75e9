"""Addresses, the one that reaches the registry, and the interfaces with their speed where the kernel knows it."""

from __future__ import annotations

from typing import Any, Optional

from agent.probe.deadline import Deadlines, MissedDeadline
from agent.probe.options import ProbeOptions
from agent.probe.parsers.addresses import Scope, scope_of
from agent.probe.reading import Failure, Reading
from agent.probe.source import Source

__all__ = ["NetworkProbe"]

_ADDRESSES = "psutil.net_if_addrs"

# Addresses that only say "outwards": from the blocks kept for documentation, which are never on a real link. A
# connected UDP socket sends nothing; the kernel only picks the route.
_OUTWARDS = ("192.0.2.1", "2001:db8::1")

# Bridges that engines make for the containers of this machine: nobody else reaches their addresses
_LOCAL_BRIDGES = ("docker", "br-", "virbr", "veth", "cni", "flannel", "cali", "lxcbr", "lxdbr", "incusbr", "podman")


_RESOLVE_SECONDS = 2.0  # a registry is named; servers of names that are away must not cost us our own addresses


class NetworkProbe:
    """Addresses change when a lease does."""

    name = "network"
    cadence_seconds = 300.0
    deadline_seconds = 5.0

    def __init__(self) -> None:
        self._deadlines = Deadlines()

    def read(self, source: Source, options: ProbeOptions) -> tuple[list[Reading], list[Failure]]:
        interfaces = [_interface(source, item) for item in source.interfaces()]
        addresses = _in_order(interfaces)
        primary, told_by = self._primary(source, options, addresses)
        if primary is not None:
            addresses = [primary, *(address for address in addresses if address != primary)]
        note = "no interface that is up has an address that others can reach" if primary is None else ""
        return [
            Reading("primary_address", primary, "", told_by, note=note),
            Reading("addresses", addresses, "", _ADDRESSES, note="routable ones first"),
            Reading("interfaces", interfaces, "", f"{_ADDRESSES}, psutil.net_if_stats, /sys/class/net"),
        ], []

    def _primary(self, source: Source, options: ProbeOptions, addresses: list[str]) -> tuple[Optional[str], str]:
        """The address from which the registry is reached; without one, from which the outside is; else the first."""
        targets = (options.registry_address,) if options.registry_address else ()
        for target in (*targets, *_OUTWARDS):
            local = self._route(source, target)
            if isinstance(local, str) and scope_of(local) in (Scope.PUBLIC, Scope.PRIVATE):
                return local, "route outwards" if target in _OUTWARDS else f"route to {target}"
        return (addresses[0] if addresses else None), _ADDRESSES

    def _route(self, source: Source, target: str) -> Any:
        if target in _OUTWARDS:
            return source.ask("route", target)
        try:
            return self._deadlines.call(f"route {target}", _RESOLVE_SECONDS, lambda: source.ask("route", target))
        except MissedDeadline:
            return None


def _interface(source: Source, item: dict[str, Any]) -> dict[str, Any]:
    """`speed_mbit` is what the driver of a real device states. -1, 0 and no answer are null, and so is what tap and
    veth say: 10 and 10,000, whatever lies beneath. A speed is never invented.
    """
    name, mtu = str(item.get("name", "")), item.get("mtu")
    folder = f"/sys/class/net/{name}"
    physical = source.read_link(f"{folder}/device") is not None
    real = physical or source.read_text(f"{folder}/bonding/mode") is not None
    speed = source.read_int(f"{folder}/speed") if real else None
    return {
        "name": name,
        "up": bool(item.get("up")),
        "physical": physical,
        "mtu": mtu if isinstance(mtu, int) else None,
        "speed_mbit": speed if speed is not None and 0 < speed < 10_000_000 else None,
        "addresses": [address.partition("%")[0] for address in item.get("addresses", ())],
    }


def _in_order(interfaces: list[dict[str, Any]]) -> list[str]:
    """Addresses of interfaces that are up, public before private; loopback and link-local are left out."""
    found: list[tuple[int, int, str]] = []
    for interface in interfaces:
        local = not interface["up"] or (not interface["physical"] and interface["name"].startswith(_LOCAL_BRIDGES))
        for address in () if local else interface["addresses"]:
            scope = scope_of(address)
            if scope in (Scope.PUBLIC, Scope.PRIVATE):
                found.append((scope, len(found), address))
    return list(dict.fromkeys(address for _, _, address in sorted(found)))
