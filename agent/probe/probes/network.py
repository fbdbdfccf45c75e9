"""The addresses, the one that reaches the registry, and the interfaces with their speed if the kernel knows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Optional

from agent.probe.deadline import Deadlines, MissedDeadline
from agent.probe.interface_reach import is_for_guests
from agent.probe.options import ProbeOptions
from agent.probe.parsers.addresses import DEPRECATED, NOT_READY, TEMPORARY, Scope, ipv6_states, scope_of
from agent.probe.reading import Failure, Reading
from agent.probe.source import Source, SourceError
from agent.probe.visibility import NO_PROC, is_proc_hidden
from registry_core.models import limits

__all__ = ["NetworkProbe"]

_ADDRESSES = "psutil.net_if_addrs"
_IPV6_STATES = "/proc/net/if_inet6"
_MOST_NAMES = 5

# Targets that stand for the internet, from the blocks for documentation, which are never on a real link. Connecting a
# UDP socket sends nothing; the kernel only selects the route.
_OUTWARDS = ("192.0.2.1", "2001:db8::1")

_RESOLVE_SECONDS = 2.0  # unreachable name servers must not prevent the report of our addresses


class _Found(NamedTuple):
    """The addresses to offer, in order; the permanent address for each temporary one; a note."""

    offered: list[str]
    permanent: dict[str, str]
    note: str


class NetworkProbe:
    """Detects changed addresses, as after a new DHCP lease."""

    name = "network"
    cadence_seconds = 300.0
    deadline_seconds = 5.0

    def __init__(self) -> None:
        self._deadlines = Deadlines()

    def read(self, source: Source, options: ProbeOptions) -> tuple[list[Reading], list[Failure]]:
        failures = []
        try:
            interfaces = [_interface(source, item) for item in source.interfaces()]
        except (OSError, SourceError) as error:  # without /proc/net; the route to the registry still gives an address
            interfaces = []
            reason = NO_PROC if is_proc_hidden(source) else str(error)
            failures.append(Failure(self.name, f"{reason}: interfaces cannot be listed", "interfaces"))
        states = ipv6_states(source.read_text(_IPV6_STATES))
        addresses_read_from = f"{_ADDRESSES}, {_IPV6_STATES}" if states else _ADDRESSES
        found = _found(source, interfaces, states)
        primary, read_from = self._primary(source, options, found)
        addresses = list(dict.fromkeys([primary, *found.offered] if primary is not None else found.offered))
        offered = addresses[: limits.MAX_ADDRESSES]
        cut = len(addresses) - len(offered)
        limited_by = f"a record holds {limits.MAX_ADDRESSES} addresses: {cut} more are left out" if cut else None
        listed = None if failures else interfaces
        nothing = "no interface that is up has an address that others can reach" if primary is None else ""
        return [
            Reading("primary_address", primary, "", read_from, note=nothing),
            Reading("addresses", offered, "", addresses_read_from, limited_by, note=found.note),
            Reading("interfaces", listed, "", f"{_ADDRESSES}, psutil.net_if_stats, /sys/class/net"),
        ], failures

    def _primary(self, source: Source, options: ProbeOptions, found: _Found) -> tuple[Optional[str], str]:
        """The address from which the registry is reached, else the one from which the internet is, else the first.

        A temporary address is replaced by a permanent one of its interface, so that it does not change every day.
        """
        targets = (options.registry_address,) if options.registry_address else ()
        for target in (*targets, *_OUTWARDS):
            local = self._route(source, target)
            if isinstance(local, str) and scope_of(local) in (Scope.PUBLIC, Scope.PRIVATE):
                read_from = "outbound route" if target in _OUTWARDS else f"route to {target}"
                return found.permanent.get(local, local), read_from
        return (found.offered[0] if found.offered else None), _ADDRESSES

    def _route(self, source: Source, target: str) -> Any:
        try:
            if target in _OUTWARDS:
                return source.ask("route", target)
            return self._deadlines.call(f"route {target}", _RESOLVE_SECONDS, lambda: source.ask("route", target))
        except (MissedDeadline, OSError, SourceError):
            return None


def _interface(source: Source, item: dict[str, Any]) -> dict[str, Any]:
    """`speed_mbit` is what the driver of a physical device reports. -1, 0 and no value are null, and so are the values
    of tap and veth: always 10 and 10,000. A speed is never guessed.
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


def _found(source: Source, interfaces: list[dict[str, Any]], states: Mapping[tuple[str, str], int]) -> _Found:
    """Addresses of interfaces that are up, public before private; loopback and link-local are left out."""
    offered: list[tuple[int, int, str]] = []
    permanent: dict[str, str] = {}
    guests, left_out = [], 0
    for interface in interfaces:
        name = interface["name"]
        scopes = {address: scope_of(address) for address in interface["addresses"]}
        far = [address for address, scope in scopes.items() if scope in (Scope.PUBLIC, Scope.PRIVATE)]
        if not far or not interface["up"]:
            continue
        if not interface["physical"] and is_for_guests(source, name):
            guests.append(name)
            continue
        usable = [address for address in far if not states.get((name, address), 0) & (DEPRECATED | NOT_READY)]
        stable = {_kind(item): item for item in reversed(usable) if not states.get((name, item), 0) & TEMPORARY}
        for address in far:
            known = stable.get(_kind(address))
            if known is not None and states.get((name, address), 0) & (DEPRECATED | NOT_READY | TEMPORARY):
                permanent[address] = known
        kept = [address for address in usable if address not in permanent]
        left_out += len(far) - len(kept)
        offered.extend((scopes[address], len(offered) + index, address) for index, address in enumerate(kept))
    return _Found([address for _, _, address in sorted(offered)], permanent, _note(guests, left_out))


def _kind(address: str) -> tuple[bool, int]:
    """Family and scope: addresses that agree in both can replace each other."""
    return ":" in address, scope_of(address)


def _note(guests: list[str], left_out: int) -> str:
    parts = ["routable ones first"]
    if guests:
        more = f" and {len(guests) - _MOST_NAMES} more" if len(guests) > _MOST_NAMES else ""
        parts.append(f"not offered (for containers and virtual machines): {', '.join(guests[:_MOST_NAMES])}{more}")
    if left_out:
        parts.append(f"IPv6 addresses not offered (temporary, deprecated or not ready): {left_out}")
    return "; ".join(parts)
