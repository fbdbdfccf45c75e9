"""Verify, back up, restore, migrate and rotate keep their promises, beside a running writer where they say so."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from pathlib import Path
from typing import Any, Optional

import pytest

from registry_core import NodeRegistry
from registry_core.errors import DamagedStoreError, SealedStoreError, StoreError, StoreInUseError, ValidationError
from registry_core.storage.maintenance.backup import backup, restore
from registry_core.storage.maintenance.migrate import migrate, rotate_key
from registry_core.storage.maintenance.verify import verify
from registry_core.storage.sealing import KeyRing, SealingKey
from registry_core.testing import START
from tests.support.builders import a_node, a_put
from tests.support.places import IRREGULAR, irregular
from tests.support.writers import KEY, OTHER_KEY, content, digests, filled, killed, opened

BOTH = pytest.mark.parametrize("key", [None, KEY], ids=["plain", "sealed"])
KINDS = pytest.mark.parametrize("name", ["nodes.db", "nodes.json"])


def ring(key: Optional[SealingKey]) -> Optional[KeyRing]:
    return None if key is None else KeyRing((key,))


@BOTH
@KINDS
def test_a_whole_registry_is_verified_with_and_without_its_key(
    tmp_path: Path, key: Optional[SealingKey], name: str
) -> None:
    filled(tmp_path / name, 5, key)
    before = digests(tmp_path)
    found = verify(tmp_path / name, ring(key))
    assert found.is_whole
    assert (found.nodes, found.opened, found.notes) == (5, True, ())
    assert verify(tmp_path / name).is_whole
    assert digests(tmp_path) == before


def test_every_damaged_record_is_named_and_the_rest_still_counted(tmp_path: Path) -> None:
    path = tmp_path / "nodes.db"
    filled(path, 9)
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE nodes SET record = zeroblob(9) WHERE sequence IN (2, 7)")
        connection.execute("UPDATE nodes SET score = 500 WHERE sequence = 4")
    connection.close()
    found = verify(path)
    assert not found.is_whole
    assert found.nodes == 9
    assert [damage.split("'")[1] for damage in found.damage] == ["node-2", "node-4", "node-7"]


def test_a_damaged_tail_of_the_log_is_told_with_number_and_time_of_the_commit_before(tmp_path: Path) -> None:
    path = killed(tmp_path, 8)
    wal = path.with_name("killed.db-wal")
    log = bytearray(wal.read_bytes())
    log[-3] ^= 1
    wal.write_bytes(log)
    found = verify(path)
    assert found.log_is_damaged
    assert found.is_whole
    assert found.last_commit == 7
    assert found.last_commit_at is not None
    assert f"commit 7 of {found.last_commit_at}" in found.notes[0]
    log[40_000] ^= 1
    wal.write_bytes(log)
    found = verify(path)
    assert not found.is_whole
    assert "acknowledged commits are lost" in found.damage[-1]
    with opened(path) as store:
        kept = len(list(store.rows()))
    assert kept == found.nodes == found.last_commit
    assert f"rolled back to commit {kept} of" in verify(path).notes[0]


@BOTH
def test_verify_and_backup_work_beside_a_writer_that_is_writing(tmp_path: Path, key: Optional[SealingKey]) -> None:
    path = tmp_path / "nodes.db"
    stop = threading.Event()
    with NodeRegistry(path, encryption_key=key) as registry:
        with registry.batch():
            for number in range(300):
                registry.register_node(a_node(number))

        def write() -> None:
            number = 300
            while not stop.is_set():
                registry.register_node(a_node(number))
                number += 1

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for round_number in range(5):
                found = verify(path, ring(key))
                assert found.is_whole, found
                assert not found.log_is_damaged
                copy = backup(path, tmp_path / f"copy-{round_number}.db")
                assert copy.is_whole
                assert copy.nodes >= found.nodes >= 300
        finally:
            stop.set()
            writer.join()
    for round_number in range(5):
        kept = sorted(row.sequence for row, _record in content(tmp_path / f"copy-{round_number}.db", key).values())
        assert kept == list(range(kept[0], kept[0] + len(kept)))  # one commit: none that came later without an earlier


@KINDS
def test_a_backup_does_not_overwrite_unless_told(tmp_path: Path, name: str) -> None:
    filled(tmp_path / name, 2)
    target = tmp_path / f"copy{Path(name).suffix}"
    target.write_text("precious")
    with pytest.raises(StoreError, match="already exists"):
        backup(tmp_path / name, target)
    assert target.read_text() == "precious"
    assert backup(tmp_path / name, target, overwrite=True).nodes == 2
    assert sorted(path.name for path in tmp_path.iterdir() if "copy" in path.name) == [target.name]


@BOTH
@KINDS
def test_a_restored_registry_is_the_one_that_was_backed_up_and_the_other_is_kept(
    tmp_path: Path, key: Optional[SealingKey], name: str
) -> None:
    path, copy = tmp_path / name, tmp_path / f"copy{Path(name).suffix}"
    filled(path, 3, key)
    backup(path, copy)
    with opened(path, key) as store:
        store.commit([a_put(4)], {})
    newer = content(path, key)
    with pytest.raises(StoreError, match="already exists"):
        restore(copy, path)
    assert content(path, key) == newer
    aside = restore(copy, path, overwrite=True)
    assert aside is not None
    assert len(content(path, key)) == 3
    shutil.copy(aside, tmp_path / f"aside{Path(name).suffix}")
    assert content(tmp_path / f"aside{Path(name).suffix}", key) == newer


def test_the_log_of_a_killed_writer_is_not_replayed_into_what_was_restored(tmp_path: Path) -> None:
    path = killed(tmp_path, 6)
    filled(tmp_path / "backup.db", 2)
    aside = restore(tmp_path / "backup.db", path, overwrite=True)
    assert len(content(path)) == 2
    assert aside is not None
    shutil.copy(aside, tmp_path / "aside.db")
    assert len(content(tmp_path / "aside.db")) == 6


def test_neither_a_damaged_backup_nor_one_of_a_registry_in_use_is_restored(tmp_path: Path) -> None:
    path, copy = tmp_path / "nodes.db", tmp_path / "copy.db"
    filled(path, 3)
    backup(path, copy)
    with opened(path), pytest.raises(StoreInUseError):
        restore(copy, path, overwrite=True)
    raw = copy.read_bytes()
    copy.write_bytes(raw[:-4096])
    before = content(path)
    with pytest.raises(DamagedStoreError, match="not restored"):
        restore(copy, path, overwrite=True)
    assert content(path) == before


@pytest.mark.parametrize("target_key", [None, OTHER_KEY], ids=["to-plain", "to-sealed"])
@BOTH
@pytest.mark.parametrize(("old", "new"), [("a.json", "b.db"), ("a.db", "b.json"), ("a.db", "b.db")])
def test_a_migrated_registry_has_every_record_sample_and_text(
    tmp_path: Path, old: str, new: str, key: Optional[SealingKey], target_key: Optional[SealingKey]
) -> None:
    from registry_core.models.status import NodeHealth, Sampled

    source, target = tmp_path / old, tmp_path / new
    filled(source, 20, key, wallet_address="some-wallet", tags={"a": "b"}, extra={"more": [1, None]})
    with opened(source, key) as store:
        store.save_samples(
            [Sampled("node-3", NodeHealth(1.0, 2.0, 3.0, START)), Sampled("node-4", NodeHealth(), is_down=True)],
            wait=True,
        )
    before, expected = digests(tmp_path), content(source, key)
    seen: list[tuple[int, int]] = []
    count = migrate(
        source,
        target,
        source_keys=ring(key),
        target_keys=ring(target_key),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert count == 20
    assert seen[-1] == (20, 20)
    assert content(target, target_key) == expected
    with opened(target, target_key) as store:
        samples = {row.columns.node_id: row.sample for row in store.rows() if row.sample is not None}
        assert samples["node-3"].disk_usage == 3.0
        assert [row.columns.node_id for row in store.rows() if row.is_down] == ["node-4"]
        assert store.meta("event_index") == "7"
    assert {name: digest for name, digest in digests(tmp_path).items() if name != new} == before
    assert verify(target, ring(target_key)).is_whole


def test_a_registry_in_use_is_not_migrated_and_nothing_is_overwritten(tmp_path: Path) -> None:
    source, target = tmp_path / "a.json", tmp_path / "b.db"
    filled(source, 2)
    with opened(source), pytest.raises(StoreInUseError):
        migrate(source, target)
    assert not target.exists()
    target.write_text("precious")
    with pytest.raises(StoreError, match="already exists"):
        migrate(source, target)
    assert target.read_text() == "precious"


@KINDS
def test_after_a_rotation_the_new_key_alone_opens_and_the_old_one_does_not(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    filled(path, 30, KEY, wallet_address="some-wallet")
    expected = content(path, KEY)
    assert rotate_key(path, KeyRing((OTHER_KEY, KEY))) == 30
    assert content(path, OTHER_KEY) == expected
    with pytest.raises(SealedStoreError), opened(path, KEY):
        pass
    if name.endswith(".db"):
        assert rotate_key(path, KeyRing((OTHER_KEY,))) == 0  # again changes nothing


@KINDS
def test_what_is_not_sealed_has_no_key_to_rotate(tmp_path: Path, name: str) -> None:
    filled(tmp_path / name, 2)
    with pytest.raises(SealedStoreError):
        rotate_key(tmp_path / name, KeyRing((OTHER_KEY, KEY)))
    assert len(content(tmp_path / name)) == 2


@pytest.mark.parametrize("kind", IRREGULAR)
@pytest.mark.parametrize("suffix", [".db", ".json"])
def test_no_work_waits_for_a_pipe_or_reads_a_device(kind: str, suffix: str, tmp_path: Path) -> None:
    path, sound, target = (tmp_path / f"{name}{suffix}" for name in ("odd", "sound", "new"))
    filled(sound, 2)
    with irregular(path, kind) as odd:
        for work in (
            lambda: verify(path),
            lambda: backup(path, target),
            lambda: restore(path, target),
            lambda: restore(sound, path, overwrite=True),
            lambda: migrate(path, target),
            lambda: rotate_key(path, KeyRing((KEY,))),
        ):
            with pytest.raises(StoreError, match="not a regular file"):
                work()
            assert [entry.name for entry in tmp_path.iterdir() if not entry.name.startswith("sound")] == [path.name]
        assert not odd.with_name(f"{odd.name}.lock").exists()


def test_a_backup_keeps_its_kind_and_says_who_changes_it(tmp_path: Path) -> None:
    filled(tmp_path / "nodes.db", 2)
    with pytest.raises(ValidationError, match="migrate"):
        backup(tmp_path / "nodes.db", tmp_path / "copy.json")
    assert not (tmp_path / "copy.json").exists()


@pytest.mark.parametrize("work", [verify, lambda path: backup(path, path.with_name("x.db"))])
def test_what_is_not_there_is_an_error_and_nothing_is_made(tmp_path: Path, work: Any) -> None:
    with pytest.raises(StoreError):
        work(tmp_path / "absent.db")
    assert list(tmp_path.iterdir()) == []
