"""Registries as layouts 1 and 2 (JSON: schema 1.0) left them: what a node sent lay in one map with what is ours."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Optional

from registry_core.models.columns import columns_of
from registry_core.models.record import NodeRecord
from registry_core.storage.record_codec import record_to_plain
from registry_core.storage.sealing import KeyRing, Sealer, SealingKey
from registry_core.storage.sqlite.rows import EVERYTHING, _bound, _columns_checksum, _record_checksum
from registry_core.storage.store import Put
from tests.support.writers import opened

COLUMNS = 14
"""Of a row in layouts 1 and 2, before what is beside them."""

TABLES = """
DROP TABLE removed;
DROP INDEX nodes_change;
DROP TRIGGER forget_sample;
DROP TABLE nodes;
CREATE TABLE nodes (
  id TEXT NOT NULL, sequence INTEGER PRIMARY KEY, score INTEGER NOT NULL, admission TEXT NOT NULL,
  cordoned INTEGER NOT NULL, cordoned_until REAL, has_left INTEGER NOT NULL, cpu_cores INTEGER NOT NULL,
  memory_gb REAL NOT NULL, storage_gb REAL NOT NULL, gpu_enabled INTEGER NOT NULL, host_cpus INTEGER NOT NULL,
  interval_seconds REAL NOT NULL, gpus TEXT NOT NULL, id_hash INTEGER NOT NULL UNIQUE, labels NOT NULL,
  columns_checksum INTEGER NOT NULL, record_checksum INTEGER NOT NULL, record BLOB NOT NULL
);
CREATE TRIGGER forget_sample AFTER DELETE ON nodes BEGIN
  DELETE FROM samples WHERE sequence = old.sequence;
END;
DELETE FROM state WHERE key IN ('state_sum', 'forgotten', 'registry:sum_key', 'registry:label_key');
UPDATE state SET value = 'duxnet.nodes/1.0' WHERE key = 'schema';
"""
SAMPLES_OF_LAYOUT_1 = """
ALTER TABLE samples RENAME TO now;
CREATE TABLE samples (
  sequence INTEGER PRIMARY KEY, load_average REAL, memory_usage REAL, disk_usage REAL, last_heartbeat REAL
);
INSERT INTO samples SELECT sequence, load_average, memory_usage, disk_usage, last_heartbeat FROM now;
DROP TABLE now;
"""


def older_plain(record: NodeRecord, sent: dict[str, Any]) -> dict[str, Any]:
    """What layout 2 wrote of a record whose node had sent these fields: those first, the registry's own over them."""
    plain = record_to_plain(record)
    plain.update(plain.pop("extra", {}))
    return {**sent, **{name: plain[name] for name in plain if name not in sent or plain[name]}}


def older_sqlite(
    path: Path,
    records: list[tuple[NodeRecord, dict[str, Any]]],
    key: Optional[SealingKey] = None,
    layout: int = 2,
    meta: Optional[Mapping[str, str]] = None,
) -> None:
    """A closed registry of layout 1 or 2 at `path`, its records with what their nodes had sent."""
    with opened(path, key) as store:
        store.commit([Put(record, columns_of(record)) for record, _sent in records], meta or {})
    to_older(path, key, layout, {record.node.id: older_plain(record, sent) for record, sent in records})


def to_older(
    path: Path, key: Optional[SealingKey] = None, layout: int = 2, plain: Optional[Mapping[str, Any]] = None
) -> None:
    """Turn a closed registry into one of layout 1 or 2. `plain`: its records by id, where they are not as they are."""
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        (store_id,) = file.execute("SELECT value FROM state WHERE key = 'store_id'").fetchone()
        sealer = None if key is None else Sealer(KeyRing([key]), store_id)
        rows = file.execute(EVERYTHING).fetchall()
        samples = file.execute("SELECT * FROM samples").fetchall()
        file.executescript("BEGIN;" + TABLES)
        for row in rows:
            now, clear = row[: COLUMNS + 2], row[:COLUMNS]
            place, labels, _columns_checksum_now, _record_checksum_now, packed = row[COLUMNS + 2 :]
            if sealer is not None:
                labels = sealer.seal(sealer.open(labels, b"labels" + _bound(now)), b"labels" + _bound(clear))
                packed = sealer.open(packed, b"record" + _bound(now))
            if plain is not None:
                packed = json.dumps(plain[row[0]], allow_nan=False).encode()
            if sealer is not None:
                packed = sealer.seal(packed, b"record" + _bound(clear))
            sums = (_columns_checksum(_bound(clear), place, labels), _record_checksum(row[0], packed))
            values = (*clear, place, labels, *sums, packed)
            file.execute(f"INSERT INTO nodes VALUES ({', '.join('?' * len(values))})", values)
        file.executemany("INSERT OR REPLACE INTO samples VALUES (?, ?, ?, ?, ?, ?)", samples)
        file.execute("COMMIT")
        if layout == 1:
            file.executescript("BEGIN; DROP TRIGGER forget_sample;" + SAMPLES_OF_LAYOUT_1)
            file.executescript(TABLES[TABLES.index("CREATE TRIGGER") : TABLES.index("DELETE FROM state")])
        file.execute(f"PRAGMA user_version = {layout}")


def older_json(
    path: Path, records: list[tuple[NodeRecord, dict[str, Any]]], meta: Optional[Mapping[str, str]] = None
) -> None:
    """The same as a JSON file of schema 1.0."""
    nodes = [older_plain(record, sent) for record, sent in records]
    path.write_text(json.dumps({"schema": "duxnet.nodes/1.0", "meta": dict(meta or {}), "nodes": nodes}))
