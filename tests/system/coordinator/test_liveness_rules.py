"""Silence, flapping, pacing and the mass-failure breaker: tables of numbers, and a registry with a clock in hand."""

from __future__ import annotations

import pytest

from duxnet.coordinator.liveness.listening_clock import ListeningClock
from duxnet.coordinator.liveness.mass_failure import MassFailureDetector
from registry_core.embedded.node_registry import NodeRegistry
from registry_core.models.node import Node
from registry_core.models.status import Liveness
from registry_core.rules.breaker import DOMAIN_LIMIT, GLOBAL_LIMIT, hold_is_over, must_open
from registry_core.rules.flapping import Flapping, beats_owed, fell_silent, is_forgotten
from registry_core.rules.liveness import paced_interval
from tests.system.coordinator.test_hosting import MovedClock, liveness_of

INTERVAL = 10.0


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [(0, 5), (1, 5), (10_000, 5), (10_001, 5.0005), (20_000, 10), (1_800_000, 900), (10_000_000, 900)],
)
def test_the_interval_follows_the_fleet_within_its_bounds(nodes: int, expected: float) -> None:
    assert paced_interval(nodes, 2000, 5, 900) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("fell", "alive", "globally", "in_domain"),
    [
        (0, 100, False, False),
        (4, 0, False, False),  # fewer than five are never a mass failure
        (5, 0, True, True),
        (5, 29, False, False),
        (6, 29, True, False),
        (15, 85, False, False),
        (16, 84, True, False),
        (50, 50, True, False),
        (51, 49, True, True),
    ],
)
def test_the_breaker_opens_at_its_limits(fell: int, alive: int, globally: bool, in_domain: bool) -> None:
    assert must_open(fell, alive, GLOBAL_LIMIT) is globally
    assert must_open(fell, alive, DOMAIN_LIMIT) is in_domain


@pytest.mark.parametrize(
    ("open_intervals", "silent", "over"),
    [(0, 20, False), (0, 5, True), (0, 6, False), (39.9, 20, False), (40, 20, True)],
)
def test_the_breaker_closes_by_itself(open_intervals: float, silent: int, over: bool) -> None:
    assert hold_is_over(open_intervals * INTERVAL, INTERVAL, silent, 20) is over


@pytest.mark.parametrize(("silences", "owed"), [(1, 1), (1.2, 2), (2, 2), (3, 4), (4, 8), (5, 8), (50, 8)])
def test_what_a_node_owes_grows_with_its_silences_up_to_a_cap(silences: float, owed: int) -> None:
    assert beats_owed(Flapping(silences, 0.0)) == owed
    assert beats_owed(Flapping(silences, 0.0, good=owed)) == 0


def test_silences_are_forgotten_with_time() -> None:
    state = fell_silent(fell_silent(None, 0.0, INTERVAL), 0.0, INTERVAL)
    assert state.silences == 2
    assert fell_silent(state, 40 * INTERVAL, INTERVAL).silences == pytest.approx(2)
    assert not is_forgotten(state, 79 * INTERVAL, INTERVAL)
    assert is_forgotten(state, 80 * INTERVAL, INTERVAL)


class Watched:
    """A registry with one node, whose time a test moves."""

    def __init__(self) -> None:
        self.clock = MovedClock()
        self.registry = NodeRegistry(clock=self.clock, heartbeat_timeout_seconds=4 * INTERVAL)
        self.registry.register_node(Node("192.0.2.1", id="a"))

    def silence(self, intervals: float) -> None:
        for _ in range(int(intervals * 4)):
            self.clock.seconds += INTERVAL / 4
            self.registry.tick()

    def beats_until_live(self) -> int:
        for count in range(1, 20):
            self.registry.update_node_health("a", 1.0)
            if liveness_of(self.registry, "a") is Liveness.LIVE:
                return count
            self.silence(1)
        return 20


def test_a_flapping_node_owes_more_each_time_and_a_steady_one_is_forgiven() -> None:
    watched = Watched()
    owed = []
    for _ in range(5):
        watched.silence(5)
        assert liveness_of(watched.registry, "a") is Liveness.DOWN
        owed.append(watched.beats_until_live())
    assert owed == [1, 2, 4, 8, 8]
    for _ in range(250):
        watched.silence(1)
        watched.registry.update_node_health("a", 1.0)
    watched.silence(5)
    assert watched.beats_until_live() == 1


def test_good_reports_must_follow_each_other() -> None:
    watched = Watched()
    for _ in range(2):
        watched.silence(5)
        watched.beats_until_live()
    watched.silence(5)
    for _ in range(6):  # one report every three intervals is not recovering
        watched.registry.update_node_health("a", 1.0)
        watched.silence(3)
        assert liveness_of(watched.registry, "a") is not Liveness.LIVE
    assert watched.beats_until_live() == 4


def test_a_long_sleep_is_one_recovery() -> None:
    watched = Watched()
    index = watched.registry.events.last_index
    watched.silence(120)
    for _ in range(10):
        watched.registry.update_node_health("a", 1.0)
        watched.silence(1)
    changes = [event.details["to"] for event in watched.registry.events.after(index) if str(event.kind) == "liveness"]
    assert changes == ["suspect", "down", "live"]


def test_time_stands_still_while_nobody_listens() -> None:
    seconds = 0.0
    clock = ListeningClock(0.5, monotonic=lambda: seconds)
    start = clock.monotonic()
    for _ in range(10):
        seconds += 0.25
        assert clock.pulse() == 0
    assert clock.monotonic() - start == pytest.approx(2.5)
    seconds += 3600  # stopped, or asleep
    assert clock.monotonic() - start == pytest.approx(3.0)
    assert clock.pulse() == pytest.approx(3599.5)
    assert clock.monotonic() - start == pytest.approx(3.0)
    seconds += 0.25
    assert clock.monotonic() - start == pytest.approx(3.25)
    assert clock.missed_seconds == pytest.approx(3599.5)


def fleet_of(domains: dict[str, int]) -> MassFailureDetector:
    mass_failure = MassFailureDetector()
    for domain, count in domains.items():
        for number in range(count):
            mass_failure.put(f"{domain}-{number}", domain=domain or None, silent=False, now=0.0)
    return mass_failure


def silence(mass_failure: MassFailureDetector, domain: str, count: int, now: float) -> None:
    for number in range(count):
        mass_failure.put(f"{domain}-{number}", domain=None, silent=True, now=now)


def test_a_network_has_one_voice_however_many_nodes_it_runs() -> None:
    mass_failure = fleet_of({"sybil": 1000, **{f"net{n}": 1 for n in range(30)}})
    silence(mass_failure, "sybil", 400, 1.0)
    assert mass_failure.judge(1.0, INTERVAL) == ((), ())  # neither half of the domain nor a mass failure
    silence(mass_failure, "sybil", 1000, 2.0)
    assert mass_failure.judge(2.0, INTERVAL) == (("sybil",), ())
    assert mass_failure.is_held("sybil-7")
    assert not mass_failure.is_held("net3-0")


def test_a_verified_wallet_has_one_voice_however_many_networks_it_rents() -> None:
    mass_failure = fleet_of({f"net{n}": 1 for n in range(50)})
    for number in range(20):
        mass_failure.put(f"net{number}-0", domain=None, silent=False, now=0.0, wallet="0xsybil")
    for number in range(20):
        silence(mass_failure, f"net{number}", 1, 5.0)
    assert mass_failure.judge(5.0, INTERVAL) == ((), ())
    for number in range(20, 30):  # others as well, of no wallet
        silence(mass_failure, f"net{number}", 1, 6.0)
    assert mass_failure.judge(6.0, INTERVAL) == (("global",), ())


def test_many_wallets_in_one_network_have_one_voice_too() -> None:
    mass_failure = fleet_of({"sybil": 40, **{f"net{n}": 1 for n in range(30)}})
    for number in range(40):
        mass_failure.put(f"sybil-{number}", domain=None, silent=False, now=0.0, wallet=f"0x{number}")
    silence(mass_failure, "sybil", 20, 5.0)
    assert mass_failure.judge(5.0, INTERVAL) == ((), ())
    silence(mass_failure, "sybil", 40, 6.0)
    assert mass_failure.judge(6.0, INTERVAL) == (("sybil",), ())  # its own breaker, and not everybody's
    assert not mass_failure.is_held("net3-0")


def test_many_wallets_in_one_network_neither_drown_the_others_nor_end_their_grace() -> None:
    mass_failure = fleet_of({"sybil": 300, **{f"net{n}": 1 for n in range(30)}})
    for number in range(300):
        mass_failure.put(f"sybil-{number}", domain=None, silent=False, now=0.0, wallet=f"0x{number}")
    for number in range(29):
        silence(mass_failure, f"net{number}", 1, 5.0)
    assert mass_failure.judge(5.0, INTERVAL) == (("global",), ())  # 29 of 31 networks, whatever 300 wallets say
    mass_failure = fleet_of({"sybil": 300, **{f"net{n}": 1 for n in range(30)}})
    for number in range(300):
        mass_failure.put(f"sybil-{number}", domain=None, silent=False, now=0.0, wallet=f"0x{number}")
    silence(mass_failure, "sybil", 300, 5.0)
    for number in range(29):
        silence(mass_failure, f"net{number}", 1, 5.0)
    assert "global" in mass_failure.judge(5.0, INTERVAL)[0]
    for number in range(300):
        mass_failure.put(f"sybil-{number}", domain=None, silent=False, now=6.0)
    assert "global" not in mass_failure.judge(6.0, INTERVAL)[1]  # 29 are still silent
    assert mass_failure.is_held("net3-0")


def test_a_wallet_that_is_named_no_more_joins_no_voices() -> None:
    for named, opened in (("0xa", ()), ("", ("global",))):
        mass_failure = fleet_of({f"net{n}": 1 for n in range(50)})
        for number in range(20):
            mass_failure.put(f"net{number}-0", domain=None, silent=False, now=0.0, wallet="0xa")
        for number in range(20):  # None would be: as before
            mass_failure.put(f"net{number}-0", domain=None, silent=False, now=1.0, wallet=named)
        for number in range(20):
            silence(mass_failure, f"net{number}", 1, 5.0)
        assert mass_failure.judge(5.0, INTERVAL) == (opened, ())


def test_many_networks_silent_at_once_open_the_global_breaker_and_it_ends_by_itself() -> None:
    mass_failure = fleet_of({f"net{n}": 1 for n in range(50)})
    for number in range(10):
        silence(mass_failure, f"net{number}", 1, 5.0)
    assert mass_failure.judge(5.0, INTERVAL) == (("global",), ())
    assert mass_failure.is_held("net3-0")
    assert mass_failure.is_held("net40-0")
    assert mass_failure.judge(5.0 + 39 * INTERVAL, INTERVAL) == ((), ())
    assert mass_failure.judge(5.0 + 40 * INTERVAL, INTERVAL) == ((), ("global",))
    assert not mass_failure.is_held("net3-0")
    assert mass_failure.judge(5.0 + 41 * INTERVAL, INTERVAL) == ((), ())  # the same silence opens it only once


def test_the_breaker_closes_when_the_silent_return() -> None:
    mass_failure = fleet_of({f"net{n}": 1 for n in range(50)})
    for number in range(10):
        silence(mass_failure, f"net{number}", 1, 5.0)
    mass_failure.judge(5.0, INTERVAL)
    for number in range(8):
        mass_failure.put(f"net{number}-0", domain=None, silent=False, now=8.0)
    assert mass_failure.judge(8.0, INTERVAL) == ((), ("global",))
    assert mass_failure.is_held("net8-0")  # on its way back: it has two intervals yet
    mass_failure.judge(8.0 + 1.9 * INTERVAL, INTERVAL)
    assert mass_failure.is_held("net8-0")
    mass_failure.judge(8.0 + 2 * INTERVAL, INTERVAL)
    assert not mass_failure.is_held("net8-0")


def test_single_failures_spread_over_time_open_nothing() -> None:
    mass_failure = fleet_of({f"net{n}": 1 for n in range(50)})
    for number in range(40):
        now = number * 2 * INTERVAL
        silence(mass_failure, f"net{number}", 1, now)
        assert mass_failure.judge(now, INTERVAL) == ((), ())
