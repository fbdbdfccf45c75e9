"""The measurements as text for a terminal."""

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
    """One line for each measurement: the best round and how far the worst was below it, or why there is none."""
    conditions = found["conditions"]
    cpus = "1 CPU" if conditions["lanes"] == 1 else f"{conditions['lanes']} CPUs"
    busy = "" if conditions["busy_share"] is None else f", {100 * conditions['busy_share']:.0f} % busy before"
    lines = [f"\nMeasured in {found['seconds']:g} s on {cpus}{busy}; the best round of each:"]
    for name, label in _LABELS.items():
        one = found["measured"][name]
        if "value" not in one:
            lines.append(f"{label:22}not measured: {one['not_measured']}")
            continue
        times = f", median {one['median_us']:g} µs, 99 % under {one['p99_us']:g} µs" if "median_us" in one else ""
        cached = ", through the page cache" if one.get("direct") is False else ""
        lines.append(
            f"{label:22}{one['value']:g} {one['unit']} (worst round {100 * one['spread']:.0f} % lower{times}{cached})"
        )
    if conditions["idle"] is False:
        lines.append("This machine was busy: when idle it is faster than these figures.")
    return "\n".join([*lines, ""])
