"""Two agents with one key take turns: the rule that finds them out, however seldom they report."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from duxnet.coordinator.access.own_identity import identity_of
from duxnet.coordinator.admission.decision import MOST_TAKEOVERS, Registrar, RegistrationRequest
from duxnet.coordinator.settings import CoordinatorSettings
from registry_core.models.node import Node
from registry_core.wire.shapes import Registration


class Watched:
    """One identity at a coordinator whose time the test gives."""

    def __init__(self) -> None:
        self.now = 0.0
        identity = identity_of(Ed25519PrivateKey.generate())
        self._registrar = Registrar(identity, CoordinatorSettings(), lambda: self.now)
        self._node = Node("10.0.0.1", id="n")
        self._generation = 0
        self._state: dict[str, object] = {"boot_id": "first", "machine_hint": "m"}

    def registers(self, boot_id: str, interval: float, asked: float, *, is_kept: bool = True) -> bool:
        """Does the registration show that two take turns?"""
        self._generation += 1
        said = Registration({}, self._generation, interval, machine_hint="m", boot_id=boot_id)
        request = RegistrationRequest("n", "/v1/nodes/n", "", {}, b"%d" % self._generation, "10.0.0.1")
        decision = self._registrar.decide(request, said, self._node, self._node, self._state, asked)
        if is_kept:
            self._state = decision.host_state
        return bool(decision.contested)


@pytest.mark.parametrize(
    ("interval", "asked", "apart", "is_found"),
    [
        (15.0, 5.0, 7.5, True),
        (15.0, 5.0, 190.0, True),
        (15.0, 5.0, 210.0, False),  # four of them take longer than ten minutes: restarts, by two that both may be true
        (600.0, 5.0, 300.0, True),
        (15.0, 900.0, 450.0, True),  # the coordinator asks for less
        (900.0, 900.0, 900.0, True),
        (900.0, 900.0, 1300.0, False),
    ],
)
def test_two_that_take_turns_are_found(interval: float, asked: float, apart: float, is_found: bool) -> None:
    watched = Watched()
    found = []
    for turn in range(MOST_TAKEOVERS + 1):
        found.append(watched.registers(("second", "first")[turn % 2], interval, asked))
        watched.now += apart
    assert found == [*[False] * MOST_TAKEOVERS, is_found]


def test_restarts_are_no_turns() -> None:
    watched = Watched()
    for start in range(10):
        assert not watched.registers(f"start {start}", 15.0, 5.0)
        watched.now += 1.0


def test_one_that_comes_again_since_the_disk_does_not_take_it_takes_no_turns() -> None:
    watched = Watched()
    for _ in range(3 * MOST_TAKEOVERS):
        assert not watched.registers("second", 15.0, 5.0, is_kept=False)
        watched.now += 1.0
    assert not watched.registers("second", 15.0, 5.0)
    found = [watched.registers(("first", "second")[turn % 2], 15.0, 5.0) for turn in range(MOST_TAKEOVERS)]
    assert found == [False, False, True]  # that one took over once counts
