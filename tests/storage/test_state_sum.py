"""One sum over all rows: it is the same whatever way led there, and a row put back by another hand shows in it."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_core.embedded.node_registry import NodeRegistry
from registry_core.errors import DamagedStoreError, StoreError, ValidationError
from registry_core.models.frozen import FrozenMap
from registry_core.models.record import NodeRecord
from registry_core.models.status import Admission
from registry_core.rules.reputation import EvidenceState, Tombstone
from registry_core.storage.maintenance.backup import backup, restore
from registry_core.storage.maintenance.migrate import rotate_key
from registry_core.storage.maintenance.verify import verify
from registry_core.storage.open_store import open_store
from registry_core.storage.sealing import KeyRing, SealingKey
from registry_core.storage.sqlite.rows import LAYOUT
from registry_core.storage.state_sum import SumKey
from registry_core.storage.store import Bury, Change, Delete, Exhume, Store
from registry_core.storage.tombstones import NODE, StoredTombstone, TombstoneKey
from registry_core.testing import START
from tests.support.builders import a_node, a_put
from tests.support.older_files import older_sqlite
from tests.support.writers import KEY, OTHER_KEY, content, filled, opened
from tests.system.crash.harness import delays, murdered

SUMS = bytes(range(100, 132))
BOTH = pytest.mark.parametrize("key", [None, KEY], ids=["plain", "sealed"])


def ring(key: Optional[SealingKey]) -> Optional[KeyRing]:
    return None if key is None else KeyRing([key])


def tombstone(number: int, **fields: Any) -> StoredTombstone:
    left = Tombstone(EvidenceState(verified_tasks=1.0), Admission.BANNED)
    return StoredTombstone(TombstoneKey(NODE, f"node-{number}"), 1e9, left, **fields)


def closed_sum(path: Path, commits: Sequence[Sequence[Change]], key: Optional[SealingKey] = None) -> Optional[str]:
    """The sum of a registry with a given key of sums, after these commits."""
    store = open_store(path, key, read_only=False, sum_key=SUMS)
    with closing(store):
        for changes in commits:
            store.commit(changes, {})
        found = store.state_sum()
        assert list(store.rows()) is not None
    assert verify(path, ring(key), sum_key=SumKey(SUMS)).is_whole
    return found


def expected_sum(puts: dict[str, Any], buried: dict[str, StoredTombstone]) -> str:
    from registry_core.storage.packed_records import pack, pack_tombstone

    key = SumKey(SUMS)
    sums = [key.of_node(name, pack(put.record)) for name, put in puts.items()]
    sums += [key.of_tombstone(NODE, name, pack_tombstone(each)) for name, each in buried.items()]
    return f"{sum(int.from_bytes(each, 'big') for each in sums) % 2**128:032x}"


NUMBERS = st.integers(1, 4)
CHANGES = st.one_of(
    st.tuples(st.just("put"), NUMBERS, st.sampled_from(["a", "b"])),
    st.tuples(st.sampled_from(["bury", "exhume", "remove"]), NUMBERS, st.sampled_from(["x", "y"])),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(CHANGES, max_size=4), max_size=6), st.sampled_from([None, KEY]))
def test_it_is_that_of_the_rows_that_are_there(
    tmp_path_factory: pytest.TempPathFactory, commits: list[list[tuple[str, int, str]]], key: Optional[SealingKey]
) -> None:
    path = tmp_path_factory.mktemp("sums") / "nodes.db"
    puts: dict[str, Any] = {}
    buried: dict[str, StoredTombstone] = {}
    made: list[list[Change]] = []
    for commit in commits:
        changes: list[Change] = []
        for what, number, text in commit:
            name = f"node-{number}"
            if what == "put":
                puts[name] = a_put(number, hostname=text)
                changes.append(puts[name])
            elif what == "exhume":
                buried.pop(name, None)
                changes.append(Exhume(TombstoneKey(NODE, name)))
            else:  # a removal comes with its tombstone
                if what == "remove":
                    puts.pop(name, None)
                    changes.append(Delete(name))
                buried[name] = tombstone(number, reason=text)
                changes.append(Bury(buried[name]))
        for change in list(changes):  # one that is exhumed in the commit of its removal leaves a mark with a time
            if isinstance(change, Delete) and change.node_id not in buried and change.node_id not in puts:
                changes.append(Bury(tombstone(int(change.node_id[-1]), reason="x")))
                buried[change.node_id] = tombstone(int(change.node_id[-1]), reason="x")
        made.append(changes)
    assert closed_sum(path, made, key) == expected_sum(puts, buried)


def test_neither_the_way_nor_sealing_matters(tmp_path: Path) -> None:
    straight = closed_sum(tmp_path / "a.db", [[a_put(1), a_put(2), Bury(tombstone(3))]])
    round_about: list[list[Change]] = [
        [a_put(2, hostname="x"), a_put(9)],
        [a_put(1), Delete("node-9"), Bury(tombstone(9))],
    ]
    round_about += [[a_put(2), Exhume(TombstoneKey(NODE, "node-9"))], [Bury(tombstone(3))]]
    assert closed_sum(tmp_path / "b.db", round_about) == straight
    assert closed_sum(tmp_path / "c.db", round_about, KEY) == straight
    rotate_key(tmp_path / "c.db", KeyRing([OTHER_KEY, KEY]))
    assert closed_sum(tmp_path / "c.db", [], OTHER_KEY) == straight
    backup(tmp_path / "c.db", tmp_path / "d.db")
    restore(tmp_path / "d.db", tmp_path / "e.db")
    assert closed_sum(tmp_path / "e.db", [], OTHER_KEY) == straight


def everything(path: Path, table: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as file:
        return file.execute(f"SELECT * FROM {table}").fetchall()


def put_back(path: Path, table: str, rows: list[tuple[Any, ...]]) -> None:
    with closing(sqlite3.connect(path)) as file, file:
        for row in rows:
            file.execute(f"INSERT OR REPLACE INTO {table} VALUES ({', '.join('?' * len(row))})", row)


def is_noticed(path: Path, key: Optional[SealingKey]) -> None:
    for read_only in (False, True):
        with pytest.raises(DamagedStoreError), opened(path, key, read_only=read_only) as store:
            list(store.rows())
    assert not verify(path, ring(key)).is_whole
    with pytest.raises(DamagedStoreError):
        NodeRegistry(path, encryption_key=key)


@BOTH
def test_one_older_row_put_back_is_noticed(tmp_path: Path, key: Optional[SealingKey]) -> None:
    path = tmp_path / "nodes.db"
    with NodeRegistry(path, encryption_key=key) as registry:
        for number in range(1, 4):
            registry.register_node(a_node(number))
        registry.admin.approve("node-2", actor="op")
    before = [row for row in everything(path, "nodes") if row[0] == "node-2"]
    with NodeRegistry(path, encryption_key=key) as registry:
        registry.admin.ban("node-2", reason="cheats", actor="op")
        for _ in range(5):
            registry.update_node_reputation("node-3", True)
    assert verify(path, ring(key)).is_whole
    (of_today,) = [row[15] for row in everything(path, "nodes") if row[0] == "node-2"]
    put_back(path, "nodes", before)
    is_noticed(path, key)
    if key is not None:  # nor does the sum of today with the record of then
        with closing(sqlite3.connect(path)) as file, file:
            file.execute("UPDATE nodes SET sum = ? WHERE id = 'node-2'", (of_today,))
        is_noticed(path, key)


@BOTH
@pytest.mark.parametrize(
    "attack",
    [
        "DELETE FROM nodes WHERE id = 'node-1'",
        "DELETE FROM removed WHERE key = 'node-9'",
        "UPDATE removed SET key = 'node-8' WHERE key = 'node-9'",
        "UPDATE removed SET retention = 3 WHERE key = 'node-9'",
        "UPDATE nodes SET change = change + 1 WHERE id = 'node-1'",
        "UPDATE nodes SET sum = (SELECT sum FROM nodes WHERE id = 'node-2') WHERE id = 'node-1'",
        "UPDATE state SET value = replace(value, ' ', '0 ') WHERE key = 'state_sum'",
        "UPDATE state SET value = '00000000000000000000000000000000' || substr(value, 33) WHERE key = 'state_sum'",
        "UPDATE state SET value = '7 1' WHERE key = 'last_commit'",
        "DELETE FROM state WHERE key = 'state_sum'",
        "UPDATE state SET value = x'00' WHERE key = 'registry:sum_key'",
    ],
)
def test_another_hand_is_noticed(tmp_path: Path, key: Optional[SealingKey], attack: str) -> None:
    path = tmp_path / "nodes.db"
    filled(path, 3, key)
    with opened(path, key) as store:
        store.commit([Bury(tombstone(9))], {})
    assert verify(path, ring(key)).is_whole
    with closing(sqlite3.connect(path)) as file, file:
        assert file.execute(attack).rowcount == 1
    assert not verify(path, ring(key)).is_whole
    with pytest.raises(DamagedStoreError), opened(path, key) as store:
        list(store.rows())


def test_a_consistent_row_of_another_record_is_found_by_who_computes_anew(tmp_path: Path) -> None:
    """In clear, checksums can be made to fit by anybody; the sum cannot without its key."""
    path = tmp_path / "nodes.db"
    closed_sum(path, [[a_put(1), a_put(2)]])
    from registry_core.storage.sqlite.rows import Rows

    rows = Rows(None, sums=SumKey(bytes(32)))
    (kept,) = [row for row in everything(path, "nodes") if row[0] == "node-1"]
    forged = list(rows.for_put(a_put(1, hostname="forged"), kept[14]))
    genuine = Rows(None, sums=SumKey(SUMS)).for_put(a_put(1), kept[14])
    assert genuine == kept
    forged[15] = kept[15]
    from registry_core.storage.sqlite.rows import _bound, _columns_checksum

    forged[18] = _columns_checksum(_bound(tuple(forged[:16])), forged[16], forged[17])
    put_back(path, "nodes", [tuple(forged)])
    assert verify(path).is_whole  # without the key
    found = verify(path, sum_key=SumKey(SUMS))
    assert len(found.damage) == 1
    assert "'node-1'" in found.damage[0]


def test_a_sum_key_that_is_none_is_refused(tmp_path: Path) -> None:
    for wrong in (b"short", "x" * 32, 7):
        with pytest.raises(ValidationError, match="sum_key"):
            NodeRegistry(tmp_path / "nodes.db", sum_key=wrong)  # type: ignore[arg-type]  # on purpose


@BOTH
def test_another_key_of_sums_takes_over_with_the_next_commit(tmp_path: Path, key: Optional[SealingKey]) -> None:
    path = tmp_path / "nodes.db"
    filled(path, 5, key)
    with opened(path, key) as store:
        store.commit([Bury(tombstone(9))], {})
        own = store.state_sum()
    before = content(path, key)
    taken = closed_sum(path, [], key)
    assert taken == own  # nothing was written
    taken = closed_sum(path, [[a_put(6)]], key)
    puts = {f"node-{number}": a_put(number) for number in range(1, 7)}
    assert taken == expected_sum(puts, {"node-9": tombstone(9)})
    assert {name: each for name, each in content(path, key).items() if name != "node-6"} == before
    with opened(path, key) as store:  # without the key: it is read, and a commit makes one of the store's own
        assert len(list(store.rows())) == 6
        store.commit([a_put(7)], {})
        assert store.tombstone(TombstoneKey(NODE, "node-9")) == tombstone(9)
    assert verify(path, ring(key)).notes == ()
    assert verify(path, ring(key)).is_whole


def test_what_changed_since_is_told_and_what_is_not_known_is_not(tmp_path: Path) -> None:
    path = tmp_path / "nodes.db"

    def since(store: Store, change: int) -> Optional[tuple[list[str], list[str]]]:
        found = store.changed_since(change)
        return None if found is None else (found.put, found.removed)

    with opened(path) as store:
        store.commit([a_put(1), a_put(2), a_put(3)], {})
        assert (store.last_change(), since(store, 0), since(store, 1)) == (
            1,
            (["node-1", "node-2", "node-3"], []),
            ([], []),
        )
        store.commit([a_put(2, hostname="x")], {})
        store.commit([Delete("node-3")], {})
        store.commit([Delete("node-1"), Bury(tombstone(1)), Delete("node-77")], {})
        store.commit([a_put(3)], {})
        store.commit([Bury(replace(tombstone(2), reason="of before"))], {})
        assert since(store, 1) == (["node-2", "node-3"], ["node-1"])
        assert since(store, 2) == (["node-3"], ["node-1"])
        assert since(store, 4) == (["node-3"], [])
        assert since(store, 6) == ([], [])
        assert since(store, 7) is None  # no commit of this file
    with opened(path, read_only=True) as reader:
        assert since(reader, 2) == (["node-3"], ["node-1"])


def test_what_changed_before_the_oldest_tombstone_is_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from registry_core.storage import tombstones

    monkeypatch.setitem(tombstones.MOST_KEPT, tombstones.Retention.BRIEF, 2)
    with opened(tmp_path / "nodes.db") as store:
        store.commit([a_put(number) for number in range(1, 6)], {})
        for number in range(1, 5):
            store.commit([Delete(f"node-{number}")], {})
        assert store.changed_since(2) is None
        found = store.changed_since(3)
        assert found is not None
        assert (found.put, found.removed) == ([], ["node-3", "node-4"])


OLDER = [(NodeRecord(a_node(number, registered_at=START), number), {"rack": number}) for number in range(1, 301)]


@BOTH
@pytest.mark.parametrize("layout", [1, 2])
def test_an_upgrade_that_is_killed_leaves_the_old_layout_or_the_new_one(
    tmp_path: Path, key: Optional[SealingKey], layout: int
) -> None:
    original, path = tmp_path / "original.db", tmp_path / "nodes.db"
    removed = {"removed.node.gone": '{"standing": "banned", "evidence": {"verified_tasks": 1.0}}'}
    older_sqlite(original, OLDER, key, layout, removed)
    seen = set()
    for delay_seconds in delays(8, 0.15, seed=layout):
        shutil.copy(original, path)

        def deed(_pipe: int) -> None:
            with opened(path, key):
                pass
            while True:
                pass

        murdered(deed, delay_seconds)
        with closing(sqlite3.connect(path)) as file:
            found = file.execute("PRAGMA user_version").fetchone()[0]
        seen.add(found)
        assert found in (layout, LAYOUT)
        assert verify(path, ring(key)).is_whole
        with opened(path, key) as store:
            assert len(list(store.rows())) == len(OLDER)
            kept = store.tombstone(TombstoneKey(NODE, "gone"))
            assert kept is not None
            assert kept.left.standing is Admission.BANNED
        if found == LAYOUT:
            assert list(tmp_path.glob(f"nodes.db.layout-{layout}-*"))
        for left in tmp_path.glob("nodes.db*"):
            left.unlink()
    assert seen <= {layout, LAYOUT}


@BOTH
def test_a_commit_that_fails_leaves_the_sum_as_it_was(tmp_path: Path, key: Optional[SealingKey]) -> None:
    path = tmp_path / "nodes.db"
    filled(path, 3, key)
    with opened(path, key) as store:
        before = store.state_sum()
        broken = a_put(1)._replace(record=NodeRecord(a_node(1), 1, host_state=FrozenMap({"x": float("nan")})))
        for _ in range(2):
            with pytest.raises(StoreError):
                store.commit([Delete("node-2"), Bury(tombstone(2)), a_put(4), broken], {})
        assert store.state_sum() == before
        store.commit([Delete("node-2"), Bury(tombstone(2)), a_put(4)], {})
        assert len(list(store.rows())) == 3
    assert verify(path, ring(key)).is_whole


def test_a_registry_with_a_label_key_of_its_own_keeps_it_through_a_rotation(tmp_path: Path) -> None:
    path = tmp_path / "nodes.db"
    filled(path, 1, KEY)
    with opened(path, KEY) as store:
        before = store.label_key()
    assert before is not None
    rotate_key(path, KeyRing([OTHER_KEY, KEY]))
    with opened(path, OTHER_KEY) as store:
        assert store.label_key() == before
        assert "label_key" not in store.all_meta()
    filled(tmp_path / "other.db", 1)
    with opened(tmp_path / "other.db") as store:
        assert store.label_key() not in (None, before)
