"""Attacks on availability and on the forecast of uptime, against a whole registry: being there little and looking well.

Each strategy is live for the same minutes of each cycle; what differs is how it goes, and when in the registry's hour.
The honest one with the same time live falls silent and comes back. Time is simulated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from registry_core import Node, NodeRegistry
from registry_core.models.reputation import Evidence

__all__ = ["Found", "Strategy", "evaluate_attendance", "simulate"]

STEP_SECONDS = 30
SILENCE_SECONDS = 60.0
PHASES = (0, 20, 40, 44, 55)
TASKS = 40


@dataclass(frozen=True)
class Strategy:
    """`way`: how it goes at the end of its time: "stays", "falls silent", "leaves", "is removed"."""

    name: str
    live_minutes: int
    way: str
    phase_minutes: int = 0
    cycle_minutes: int = 60

    def is_live(self, seconds: float) -> bool:
        """In this second of the simulation?"""
        return (seconds / 60 - self.phase_minutes) % self.cycle_minutes < self.live_minutes


@dataclass(frozen=True)
class Found:
    """What a registry makes of a strategy."""

    score: float
    availability: Evidence
    expected_uptime_6h: float


class _Clock:
    seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=self.seconds)


def simulate(strategies: Sequence[Strategy], days: int) -> dict[str, Found]:
    """What one registry makes of all of them together, by their names."""
    clock = _Clock()
    with NodeRegistry(clock=clock, heartbeat_timeout_seconds=SILENCE_SECONDS) as registry:
        for strategy in strategies:
            registry.register_node(Node("192.0.2.1", id=strategy.name))
            for _ in range(TASKS):
                registry.update_node_reputation(strategy.name, True)
        was_live = {strategy.name: True for strategy in strategies}
        for step in range(days * 86_400 // STEP_SECONDS):
            clock.seconds += STEP_SECONDS
            registry.tick()
            for strategy in strategies:
                is_live = strategy.is_live(clock.seconds)
                _act(registry, strategy, is_live=is_live, was_live=was_live[strategy.name])
                was_live[strategy.name] = is_live
            if step % (3600 // STEP_SECONDS) == 0:
                _settle(registry)
        for strategy in strategies:
            registry.register_node(Node("192.0.2.1", id=strategy.name))
        _settle(registry)
        return {strategy.name: _found(registry, strategy.name) for strategy in strategies}


def _act(registry: NodeRegistry, strategy: Strategy, *, is_live: bool, was_live: bool) -> None:
    if is_live:
        if registry.get_node(strategy.name) is None:
            registry.register_node(Node("192.0.2.1", id=strategy.name))
        registry.update_node_health(strategy.name)
    elif was_live and strategy.way == "leaves":
        registry.leave(strategy.name)
    elif was_live and strategy.way == "is removed":
        registry.deregister_node(strategy.name)


def _settle(registry: NodeRegistry) -> None:
    while registry.host.settle_hours(500):
        pass


def _found(registry: NodeRegistry, node_id: str) -> Found:
    reputation = registry.get_reputation(node_id)
    availability = reputation.evidence.get("availability", Evidence())
    return Found(reputation.score, availability, registry.expected_uptime(node_id, 6.0))


def evaluate_attendance(days: int = 10, live_minutes: int = 15) -> dict[str, Any]:
    """Every way of going at every phase, beside the honest one with the same time live at the same phase."""
    ways = ("falls silent", "leaves", "is removed")
    strategies = [
        Strategy(f"{way}-{phase}".replace(" ", "-"), live_minutes, way, phase) for phase in PHASES for way in ways
    ]
    found = simulate(strategies, days)
    honest = {each.phase_minutes: found[each.name] for each in strategies if each.way == "falls silent"}
    rows = [
        {
            "goes_by": each.way,
            "phase_minutes": each.phase_minutes,
            "score": round(found[each.name].score, 3),
            "score_of_honest_with_same_time_live": round(honest[each.phase_minutes].score, 3),
            "expected_uptime_6h": round(found[each.name].expected_uptime_6h, 3),
            "expected_uptime_6h_of_honest": round(honest[each.phase_minutes].expected_uptime_6h, 3),
        }
        for each in strategies
        if each.way != "falls silent"
    ]
    return {"days": days, "live_minutes_of_each_hour": live_minutes, "rows": rows}
