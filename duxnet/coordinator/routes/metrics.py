"""Writes the text of `/metrics`. No label names a wallet or a node."""

from __future__ import annotations

from duxnet.coordinator.coordinator import Coordinator

__all__ = ["OPENMETRICS", "PLAIN", "metrics_text"]

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PLAIN = "text/plain; version=0.0.4; charset=utf-8"


def metrics_text(coordinator: Coordinator, *, openmetrics: bool) -> str:
    """The metrics in OpenMetrics, or in Prometheus' text format, where a counter's family name ends in `_total`."""
    registry = coordinator.registry
    live, suspect, down, left = registry.host.counts()
    page = _Page(openmetrics)
    page.family(
        "duxnet_nodes", "gauge", "Number of nodes by state; registered: all nodes, ready: nodes that may get work."
    )
    ready = registry.count_nodes(only_healthy=True)
    for state, count in (
        ("registered", live + suspect + down + left),
        ("live", live),
        ("suspect", suspect),
        ("down", down),
        ("left", left),
        ("ready", ready),
    ):
        page.sample("duxnet_nodes", count, f'state="{state}"')
    counters = coordinator.counters
    page.counter("duxnet_heartbeats", "Heartbeats accepted.", counters["heartbeats"])
    page.counter("duxnet_registrations", "Registrations accepted.", counters["registrations"])
    page.counter(
        "duxnet_removed", "Nodes removed because they were gone for longer than retention_hours.", counters["removed"]
    )
    page.counter("duxnet_flaps", "Number of times that a node went silent.", counters["flaps"])
    page.family("duxnet_refused", "counter", "Requests refused, by kind of problem.")
    for name in sorted(counters):
        if name.startswith(("refused ", "heartbeat refused ")):
            route, _, kind = name.rpartition("refused ")
            page.sample("duxnet_refused_total", counters[name], f'kind="{kind}",route="{route.strip() or "other"}"')
    page.gauge(
        "duxnet_heartbeat_interval_seconds",
        "Interval at which nodes are requested to report.",
        coordinator.interval_seconds,
    )
    page.gauge("duxnet_loop_lag_seconds", "Delay of the event loop's last pulse.", coordinator.loop_lag_seconds)
    age = round(coordinator.last_pulse_age_seconds, 3)
    page.gauge("duxnet_last_pulse_age_seconds", "Time since the last complete pulse of the background work.", age)
    failures = counters["background failures"]
    page.counter("duxnet_background_failures", "Number of failed steps of the background work.", failures)
    page.gauge("duxnet_followers", "Number of streams and long polls that wait for events.", coordinator.followers)
    page.counter(
        "duxnet_missed_seconds",
        "Total time during which the coordinator did not run.",
        coordinator.clock.missed_seconds,
    )
    page.gauge(
        "duxnet_breakers_open", "Number of open mass-failure breakers.", len(coordinator.mass_failure.open_breakers)
    )
    damaged = len(coordinator.node_search.damaged)
    page.gauge("duxnet_damaged_records", "Nodes left out of lists because their stored records are damaged.", damaged)
    page.gauge("duxnet_warming_up", "1 for three intervals after a start, else 0.", int(coordinator.is_warming))
    return page.text()


class _Page:
    def __init__(self, openmetrics: bool) -> None:
        self._openmetrics = openmetrics
        self._lines: list[str] = []

    def family(self, name: str, kind: str, help_text: str) -> None:
        shown = f"{name}_total" if kind == "counter" and not self._openmetrics else name
        self._lines += [f"# TYPE {shown} {kind}", f"# HELP {shown} {help_text}"]

    def sample(self, name: str, value: float, labels: str = "") -> None:
        self._lines.append(f"{name}{{{labels}}} {value}" if labels else f"{name} {value}")

    def gauge(self, name: str, help_text: str, value: float) -> None:
        self.family(name, "gauge", help_text)
        self.sample(name, value)

    def counter(self, name: str, help_text: str, value: float) -> None:
        self.family(name, "counter", help_text)
        self.sample(f"{name}_total", value)

    def text(self) -> str:
        return "\n".join([*self._lines, "# EOF", ""] if self._openmetrics else [*self._lines, ""])
