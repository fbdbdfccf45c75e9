"""No crash takes back what was acknowledged, tears a batch apart, or leaves a file that cannot be opened."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Optional

import pytest

from registry_core.storage.maintenance.migrate import migrate, rotate_key
from registry_core.storage.maintenance.verify import verify
from registry_core.storage.sealing import KeyRing
from tests.support.writers import KEY, OTHER_KEY, content, filled
from tests.system.crash import deeds
from tests.system.crash.harness import TokenStore, delays, murdered, state_on_disk

RING = KeyRing((KEY,))
OTHER_RING = KeyRing((OTHER_KEY,))
STORES = pytest.mark.parametrize(
    ("name", "keys"),
    [("nodes.json", None), ("nodes.db", None), ("nodes.db", RING)],
    ids=["json", "sqlite", "sqlite-sealed"],
)
FEW_OR_MANY = pytest.mark.parametrize(
    "rounds",
    [
        12,
        pytest.param(300, marks=[pytest.mark.slow, pytest.mark.timeout(300)]),
        pytest.param(2000, marks=[pytest.mark.proof, pytest.mark.timeout(2000)]),
    ],
)
FEWER_OR_MANY = pytest.mark.parametrize(
    "rounds", [6, pytest.param(100, marks=[pytest.mark.slow, pytest.mark.timeout(300)])]
)
ROUNDS_OF_A_FILE = 30  # then a new one, so that making it is interrupted too
LONGEST_LIFE_SECONDS = 0.12


@STORES
@FEW_OR_MANY
def test_nothing_acknowledged_is_lost_and_no_step_is_half_done(
    tmp_path: Path, name: str, keys: Optional[KeyRing], rounds: int
) -> None:
    ledger = TokenStore()
    for number, delay_seconds in enumerate(delays(rounds, LONGEST_LIFE_SECONDS, seed=1)):
        path = tmp_path / str(number // ROUNDS_OF_A_FILE) / name
        if number % ROUNDS_OF_A_FILE == 0:
            ledger.expected = {}
        threads = 1 + number % 4

        def deed(pipe: int) -> None:
            deeds.change_until_killed(path, keys, deeds.teller(pipe), number, threads=threads)  # noqa: B023 - run at once

        lines = murdered(deed, delay_seconds)
        ledger.check(lines, state_on_disk(path, keys))
        assert not path.exists() or verify(path, keys).is_whole  # a JSON file is made by the first commit
    assert ledger.acknowledged > rounds
    assert ledger.caught_in_the_act > rounds / 4


@STORES
def test_a_writer_that_acknowledges_too_early_is_caught(tmp_path: Path, name: str, keys: Optional[KeyRing]) -> None:
    path, ledger = tmp_path / name, TokenStore()

    def one_round(number: int, delay_seconds: float) -> None:
        def deed(pipe: int) -> None:
            deeds.change_until_killed(path, keys, deeds.teller(pipe), number, threads=1, lies=True)

        ledger.check(murdered(deed, delay_seconds), state_on_disk(path, keys))

    def every_round() -> None:
        for number, delay_seconds in enumerate(delays(60, LONGEST_LIFE_SECONDS, seed=2)):
            one_round(number, delay_seconds)

    with pytest.raises(AssertionError, match="acknowledged"):
        every_round()


@pytest.mark.parametrize(("old", "new"), [("a.json", "b.db"), ("a.db", "b.json")])
@pytest.mark.parametrize("target_keys", [None, OTHER_RING], ids=["plain", "sealed"])
@FEWER_OR_MANY
def test_a_killed_migration_leaves_the_source_and_either_nothing_or_all(
    tmp_path: Path, old: str, new: str, target_keys: Optional[KeyRing], rounds: int
) -> None:
    source, target = tmp_path / old, tmp_path / new
    filled(source, 60, KEY)
    expected = content(source, KEY)
    target_key = None if target_keys is None else OTHER_KEY
    whole, begun = 0, time.monotonic()
    migrate(source, target, source_keys=RING, target_keys=target_keys)
    long_enough = max(2 * LONGEST_LIFE_SECONDS, 6 * (time.monotonic() - begun))  # on a busy machine too
    for delay_seconds in delays(rounds, long_enough, seed=3):
        murdered(lambda _pipe: deeds.migrate_until_killed(source, target, RING, target_keys), delay_seconds)
        assert content(source, KEY) == expected
        if target.exists():
            whole += 1
            assert content(target, target_key) == expected
    target.unlink(missing_ok=True)
    assert migrate(source, target, source_keys=RING, target_keys=target_keys) == 60
    assert rounds < 50 or whole > 0


@pytest.mark.parametrize("name", ["nodes.db", "nodes.json"])
@FEWER_OR_MANY
def test_a_killed_key_rotation_leaves_everything_readable_with_both_keys(
    tmp_path: Path, name: str, rounds: int
) -> None:
    path = tmp_path / name
    filled(path, 3000 if name.endswith(".db") else 200, KEY)
    expected = content(path, KEY)
    both = KeyRing((OTHER_KEY, KEY))
    for delay_seconds in delays(rounds, 0.3 if rounds < 50 else LONGEST_LIFE_SECONDS * 2, seed=4):
        murdered(lambda _pipe: deeds.rotate_until_killed(path, RING, OTHER_RING), delay_seconds)
        found = verify(path, both)
        assert found.is_whole, found.damage
        assert found.nodes == len(expected)
    rotate_key(path, both)
    assert content(path, OTHER_KEY) == expected


@pytest.mark.parametrize("name", ["nodes.db", "nodes.json"])
@FEWER_OR_MANY
def test_a_killed_restore_leaves_the_old_registry_or_the_new_one(tmp_path: Path, name: str, rounds: int) -> None:
    path, suffix = tmp_path / name, Path(name).suffix
    copies = [tmp_path / f"copy-{count}{suffix}" for count in (20, 60)]
    for copy, count in zip(copies, (20, 60)):
        filled(copy, count)
    filled(path, 20)
    wholes = [content(copy) for copy in copies]
    for delay_seconds in delays(rounds, LONGEST_LIFE_SECONDS, seed=5):
        murdered(lambda _pipe: deeds.restore_until_killed(path, copies), delay_seconds)
        assert content(path) in wholes
        for aside in tmp_path.glob("*before-restore*"):
            aside.unlink()
