"""The measurements as text for a person."""

from __future__ import annotations

from typing import Any

__all__ = ["bench_text"]

_LABELS = {
    "cpu_one_lane": "CPU, one process",
    "cpu_all_lanes": "CPU, all CPUs",
    "memory_one_lane": "memory, one process",
    "memory_all_lanes": "memory, all CPUs",
    "disk_write": "disk write",
    "disk_read": "disk random read",
    "gpu": "GPU, half precision",
}


def bench_text(found: dict[str, Any]) -> str:
    """One line a measurement: the best round and how far the worst was below it, or why it was not measured."""
    conditions = found["conditions"]
    busy = "" if conditions["busy_share"] is None else f", {100 * conditions['busy_share']:.0f} % busy before"
    lines = [f"\nMeasured in {found['seconds']:g} s on {conditions['lanes']} lanes{busy}; the best of each round:"]
    for name, label in _LABELS.items():
        one = found["measured"][name]
        if "value" not in one:
            lines.append(f"{label:22}not measured: {one['not_measured']}")
            continue
        times = f", median {one['median_us']:g} µs, 99 % below {one['p99_us']:g} µs" if "median_us" in one else ""
        cached = ", through the page cache" if one.get("direct") is False else ""
        lines.append(
            f"{label:22}{one['value']:g} {one['unit']} (worst round {100 * one['spread']:.0f} % less{times}{cached})"
        )
    if conditions["idle"] is False:
        lines.append("This machine was busy: when idle it is faster than these figures.")
    return "\n".join([*lines, ""])
