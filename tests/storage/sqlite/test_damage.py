"""A damaged or foreign file is named, refused and left as it is; nothing is ever silently missing."""

from __future__ import annotations

import logging
import random
import shutil
import sqlite3
from pathlib import Path
from typing import Optional

import pytest

from registry_core.embedded.node_registry import NodeRegistry
from registry_core.errors import (
    DamagedStoreError,
    SealedStoreError,
    StoreError,
    UnsupportedSchemaError,
)
from registry_core.models.status import Admission
from registry_core.rules.reputation import EvidenceState, Tombstone
from registry_core.storage.sealing import KeyRing, SealingKey
from registry_core.storage.store import Bury
from registry_core.storage.tombstones import StoredTombstone, TombstoneKey
from tests.support.builders import a_put
from tests.support.writers import KEY, OTHER_KEY, content, digests, filled, killed, opened

BOTH = pytest.mark.parametrize("key", [None, KEY], ids=["plain", "sealed"])


def change(path: Path, sql: str, *values: object) -> None:
    """Somebody edits the file with another tool."""
    connection = sqlite3.connect(path)
    with connection:
        assert connection.execute(sql, values).rowcount == 1
    connection.close()


def test_a_database_of_another_program_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE songs (title)")
    connection.close()
    before = digests(tmp_path)
    for read_only in (False, True):
        with pytest.raises(UnsupportedSchemaError, match="of another program"), opened(path, read_only=read_only):
            pass
    assert digests(tmp_path) == before


@pytest.mark.parametrize(
    "sql", ["PRAGMA user_version = 9", "UPDATE state SET value = 'duxnet.nodes/2.0' WHERE key = 'schema'"]
)
def test_a_file_of_a_newer_major_version_is_refused_and_kept(tmp_path: Path, sql: str) -> None:
    path = tmp_path / "nodes.db"
    filled(path, 3)
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(sql)
    connection.close()
    before = digests(tmp_path)
    with pytest.raises(UnsupportedSchemaError), opened(path):
        pass
    assert digests(tmp_path) == before


def test_a_file_of_a_newer_minor_version_loads_and_says_so_still_after_a_change(tmp_path: Path) -> None:
    path = tmp_path / "nodes.db"
    filled(path, 3)
    change(path, "UPDATE state SET value = 'duxnet.nodes/1.7' WHERE key = 'schema'")
    with opened(path) as store:
        assert len(list(store.rows())) == 3
        store.commit([a_put(4)], {})
    assert len(content(path)) == 4
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT value FROM state WHERE key = 'schema'").fetchone() == ("duxnet.nodes/1.7",)
    connection.close()


@BOTH
def test_a_file_cut_off_at_any_length_is_refused_and_kept(tmp_path: Path, key: Optional[SealingKey]) -> None:
    path = tmp_path / "nodes.db"
    filled(path, 40, key)
    whole = path.read_bytes()
    for length in [0, 1, 99, 100, 101, 4095, *range(4096, len(whole), 4096 * 2), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(StoreError, match=r"nodes\.db"), opened(path, key):
            pass
        assert path.read_bytes() == whole[:length]
    path.write_bytes(whole)
    assert len(content(path, key)) == 40


@BOTH
def test_a_flipped_bit_anywhere_is_noticed_or_changes_nothing(tmp_path: Path, key: Optional[SealingKey]) -> None:
    path = tmp_path / "nodes.db"
    filled(path, 60, key, wallet_address="some-wallet")
    left = Tombstone(EvidenceState(first_seen_seconds=7.0, verified_tasks=3.0), Admission.BANNED)
    buried = [StoredTombstone(TombstoneKey("node", f"gone-{number}"), 7.0, left, "it lied") for number in range(60)]
    with opened(path, key) as store:
        store.commit([Bury(tombstone) for tombstone in buried], {})
    expected = content(path, key)
    whole = path.read_bytes()
    noticed = 0
    draw = random.Random(5)
    for _ in range(250):
        damaged = bytearray(whole)
        damaged[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        try:
            assert content(path, key) == expected
            with opened(path, key, read_only=True) as store:
                assert [store.tombstone(tombstone.key) for tombstone in buried] == buried
        except StoreError:
            noticed += 1
        assert path.read_bytes() == damaged
    assert noticed > 100


@pytest.mark.parametrize("column", ["score", "admission", "labels"])
def test_a_changed_column_is_named_by_its_node_at_the_start(tmp_path: Path, column: str) -> None:
    path = tmp_path / "nodes.db"
    filled(path, 3)
    change(path, f"UPDATE nodes SET {column} = '444' WHERE sequence = 2")
    with opened(path) as store, pytest.raises(DamagedStoreError, match="node 'node-2'"):
        list(store.rows())


def test_a_changed_record_is_named_when_it_is_read_and_the_others_still_are(tmp_path: Path) -> None:
    path = tmp_path / "nodes.db"
    puts = filled(path, 3)
    change(path, "UPDATE nodes SET record = replace(record, '10.0.0.3', '10.0.0.9') WHERE sequence = 2")
    with opened(path) as store:
        assert len(list(store.rows())) == 3
        with pytest.raises(DamagedStoreError, match="node 'node-2'"):
            store.read("node-2")
        assert store.read("node-3") == puts[2].record


@BOTH
def test_a_list_that_would_hold_a_damaged_node_fails_and_says_without_whom_it_succeeds(
    tmp_path: Path, key: Optional[SealingKey]
) -> None:
    path = tmp_path / "nodes.db"
    filled(path, 3, key)
    change(path, "UPDATE nodes SET record = zeroblob(300) WHERE sequence = 2")
    with NodeRegistry(path, encryption_key=None if key is None else KeyRing([key])) as registry:
        with pytest.raises(DamagedStoreError, match="node 'node-2'") as caught:
            registry.list_nodes()
        assert caught.value.node_id == "node-2"
        assert [node.id for node in registry.list_nodes(exclude=[caught.value.node_id])] == ["node-1", "node-3"]
        assert registry.count_nodes() == 3  # none is taken for gone
        with pytest.raises(DamagedStoreError, match="node 'node-2'"):
            registry.get_node("node-2")


@BOTH
def test_records_that_changed_places_are_noticed(tmp_path: Path, key: Optional[SealingKey]) -> None:
    path = tmp_path / "nodes.db"
    filled(path, 2, key)
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("CREATE TEMP TABLE both AS SELECT * FROM nodes")
        for mine, other in ((1, 2), (2, 1)):
            connection.execute(
                "UPDATE nodes SET (record, record_checksum) = (SELECT record, record_checksum FROM both "
                "WHERE sequence = ?) WHERE sequence = ?",
                (other, mine),
            )
    connection.close()
    with opened(path, key) as store, pytest.raises(DamagedStoreError):
        store.read("node-1")


def test_a_removed_index_entry_is_noticed_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "nodes.db"
    filled(path, 3)
    change(path, "UPDATE nodes SET id_hash = id_hash + 1 WHERE sequence = 2")
    with opened(path) as store:
        assert store.read("node-2") is None  # this is why the start looks
        with pytest.raises(DamagedStoreError, match="node-2"):
            list(store.rows())


def test_a_log_without_its_database_is_refused(tmp_path: Path) -> None:
    path = killed(tmp_path, 3)
    path.unlink()
    before = digests(tmp_path)
    with pytest.raises(DamagedStoreError, match="its log"), opened(path):
        pass
    assert digests(tmp_path) == before


@BOTH
def test_a_damaged_tail_of_the_log_rolls_back_to_the_last_whole_commit(
    tmp_path: Path, key: Optional[SealingKey], caplog: pytest.LogCaptureFixture
) -> None:
    path = killed(tmp_path, 12, key)
    wal = path.with_name("killed.db-wal")
    log = wal.read_bytes()
    for back in (5, 30_000, 80_000):
        damaged = bytearray(log)
        damaged[-back] ^= 1
        copy = tmp_path / str(back) / "nodes.db"
        copy.parent.mkdir()
        shutil.copy(path, copy)
        copy.with_name("nodes.db-wal").write_bytes(damaged)
        caplog.clear()
        with caplog.at_level(logging.INFO), opened(copy, key) as store:
            kept = [row.columns.sequence for row in store.rows()]
            assert kept == list(range(1, len(kept) + 1))
            assert len(kept) < 12
            assert f"rolled back to commit {len(kept)} of 20" in caplog.text
            store.commit([a_put(50)], {})
        assert len(content(copy, key)) == len(kept) + 1
        saved = list(copy.parent.glob("nodes.db-wal.damaged-*"))
        assert [file.read_bytes() for file in saved] == ([bytes(damaged)] if back > 5 else [])


@pytest.mark.parametrize(("sealed_with", "given"), [(KEY, None), (KEY, OTHER_KEY), (None, KEY)])
@pytest.mark.parametrize("suffix", [".db", ".json"])
def test_a_missing_wrong_or_needless_key_is_refused_and_nothing_is_touched(
    tmp_path: Path, sealed_with: Optional[SealingKey], given: Optional[SealingKey], suffix: str
) -> None:
    path = killed(tmp_path, 3, sealed_with) if suffix == ".db" else tmp_path / "nodes.json"
    if suffix == ".json":
        filled(path, 3, sealed_with)
    before = digests(tmp_path)
    for read_only in (False, True):
        with pytest.raises(SealedStoreError) as caught, opened(path, given, read_only=read_only):
            pass
        assert KEY.to_text() not in str(caught.value)
    assert digests(tmp_path) == before
    assert len(content(path, sealed_with)) == 3
