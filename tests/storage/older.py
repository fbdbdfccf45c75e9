"""Registries as layouts 1 and 2 (JSON: schema 1.0) left them: what a node sent lay in one map with what is ours."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Optional

from registry_core.models.columns import columns_of
from registry_core.models.record import NodeRecord
from registry_core.storage.record_codec import record_to_plain
from registry_core.storage.sealing import KeyRing, Sealer, SealingKey
from registry_core.storage.sqlite.rows import EVERYTHING, _bound, _columns_checksum, _record_checksum
from registry_core.storage.store import Put
from tests.storage.writers import opened


def older_plain(record: NodeRecord, sent: dict[str, Any]) -> dict[str, Any]:
    """What layout 2 wrote of a record whose node had sent these fields: those first, the registry's own over them."""
    plain = record_to_plain(record)
    plain.update(plain.pop("extra", {}))
    return {**sent, **{name: plain[name] for name in plain if name not in sent or plain[name]}}


def older_sqlite(
    path: Path, records: list[tuple[NodeRecord, dict[str, Any]]], key: Optional[SealingKey] = None, layout: int = 2
) -> None:
    """A closed registry of layout 2 at `path`, its records with what their nodes had sent."""
    with opened(path, key) as store:
        store.commit([Put(record, columns_of(record)) for record, _sent in records], {})
    sent = {record.node.id: older_plain(record, fields) for record, fields in records}
    with closing(sqlite3.connect(path)) as file, file:
        (store_id,) = file.execute("SELECT value FROM state WHERE key = 'store_id'").fetchone()
        sealer = None if key is None else Sealer(KeyRing([key]), store_id)
        for row in file.execute(EVERYTHING).fetchall():
            clear, place, labels = row[:14], row[14], row[15]
            packed = json.dumps(sent[row[0]], allow_nan=False).encode()
            if sealer is not None:
                packed = sealer.seal(packed, b"record" + _bound(clear))
            sums = (_columns_checksum(_bound(clear), place, labels), _record_checksum(row[0], packed))
            file.execute(
                "UPDATE nodes SET columns_checksum = ?, record_checksum = ?, record = ? WHERE id = ?",
                (*sums, packed, row[0]),
            )
        file.execute("UPDATE state SET value = 'duxnet.nodes/1.0' WHERE key = 'schema'")
        file.execute(f"PRAGMA user_version = {layout}")


def older_json(path: Path, records: list[tuple[NodeRecord, dict[str, Any]]]) -> None:
    """The same as a JSON file of schema 1.0."""
    nodes = [older_plain(record, sent) for record, sent in records]
    path.write_text(json.dumps({"schema": "duxnet.nodes/1.0", "meta": {}, "nodes": nodes}))
