"""A file of an older layout is changed in one step, after a copy of it was put aside."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from registry_core.errors import StoreError
from registry_core.models.status import NodeHealth, Sampled
from registry_core.storage.maintenance.verify import verify
from registry_core.storage.sqlite.rows import LAYOUT
from registry_core.storage.sqlite.upgrade import UPGRADES, bring_up
from registry_core.testing import START
from tests.support.older_files import to_older
from tests.support.writers import KEY, content, digests, filled, opened
from tests.system.crash.harness import delays, murdered

NEXT = {LAYOUT: "ALTER TABLE nodes ADD COLUMN more TEXT; UPDATE nodes SET more = 'x'; CREATE TABLE also (n)"}


def columns(path: Path) -> set[str]:
    connection = sqlite3.connect(path)
    try:
        return {row[1] for row in connection.execute("PRAGMA table_info(nodes)")}
    finally:
        connection.close()


def layout_of(path: Path) -> int:
    connection = sqlite3.connect(path)
    try:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])
    finally:
        connection.close()


def test_there_is_a_step_from_every_layout_to_the_next() -> None:
    assert set(UPGRADES) == set(range(1, LAYOUT))


def in_layout_1(path: Path) -> None:
    """What a closed registry looked like before samples said who was down."""
    filled(path, 3)
    with opened(path) as store:
        store.save_samples([Sampled("node-2", NodeHealth(1.0, 50.0, 30.0, START))], wait=True)
    to_older(path, layout=1)


def kept(path: Path, *, read_only: bool) -> list[tuple[str, bool, bool]]:
    """Of each node: is there a sample, is it down."""
    with opened(path, read_only=read_only) as store:
        return [(row.columns.node_id, row.sample is not None, row.is_down) for row in store.rows()]


def test_a_file_of_layout_1_is_read_as_it_is_and_brought_up_by_the_first_writer(tmp_path: Path) -> None:
    path = tmp_path / "nodes.db"
    in_layout_1(path)
    assert verify(path).is_whole
    before, nodes = digests(tmp_path), content(path)
    nobody_down = [("node-1", False, False), ("node-2", True, False), ("node-3", False, False)]
    assert kept(path, read_only=True) == nobody_down
    assert digests(tmp_path) == before
    with opened(path, read_only=True) as reader:
        assert kept(path, read_only=False) == nobody_down
        assert reader.refresh()  # the file changed under it
        with opened(path) as store:
            store.save_samples([Sampled("node-3", NodeHealth(), is_down=True)], wait=True)
        assert [row.is_down for row in reader.rows()] == [False, False, True]
    assert layout_of(path) == LAYOUT
    assert content(path) == nodes
    assert verify(path).is_whole
    (aside,) = tmp_path.glob("nodes.db.layout-1-*")
    shutil.copy(aside, tmp_path / "old.db")
    assert layout_of(tmp_path / "old.db") == 1
    assert kept(tmp_path / "old.db", read_only=True) == nobody_down


def test_the_old_file_is_kept_whole_beside_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "nodes.db"
    filled(path, 20, KEY)
    expected = content(path, KEY)
    bring_up(path, upgrades=NEXT, wanted=LAYOUT + 1)
    assert layout_of(path) == LAYOUT + 1
    assert "more" in columns(path)
    (aside,) = tmp_path.glob("nodes.db.layout-*")
    shutil.copy(aside, tmp_path / "old.db")
    assert verify(tmp_path / "old.db").is_whole
    assert content(tmp_path / "old.db", KEY) == expected


def test_a_file_of_this_layout_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "nodes.db"
    filled(path, 2)
    before = digests(tmp_path)
    bring_up(path)
    assert digests(tmp_path) == before


def test_a_step_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "nodes.db"
    filled(path, 2)
    with pytest.raises(StoreError):
        bring_up(path, upgrades={LAYOUT: "CREATE TABLE also (n); NONSENSE"}, wanted=LAYOUT + 1)
    assert layout_of(path) == LAYOUT
    assert len(content(path)) == 2


@pytest.mark.parametrize("rounds", [6, pytest.param(60, marks=[pytest.mark.slow, pytest.mark.timeout(200)])])
def test_a_killed_upgrade_leaves_the_old_layout_or_the_new_one(tmp_path: Path, rounds: int) -> None:
    original = tmp_path / "original.db"
    filled(original, 800)
    path = tmp_path / "nodes.db"
    for delay_seconds in delays(rounds, 0.1, seed=6):
        shutil.copy(original, path)

        def deed(_pipe: int) -> None:
            bring_up(path, upgrades=NEXT, wanted=LAYOUT + 1)
            while True:
                pass

        murdered(deed, delay_seconds)
        layout = layout_of(path)
        assert layout in (LAYOUT, LAYOUT + 1)
        assert ("more" in columns(path)) == (layout == LAYOUT + 1)
        if layout > LAYOUT:
            assert list(tmp_path.glob("nodes.db.layout-*"))
        for left in tmp_path.glob("nodes.db*"):
            left.unlink()
