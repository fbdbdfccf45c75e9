"""What outlives a removal is kept in every kind of store, within its bounds, and is brought over from older layouts."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

import pytest

from registry_core.embedded.node_registry import NodeRegistry
from registry_core.errors import DamagedStoreError
from registry_core.models.frozen import FrozenMap
from registry_core.models.record import NodeRecord
from registry_core.models.reputation import Evidence
from registry_core.models.status import Admission
from registry_core.rules.reputation import EvidenceState, Tombstone
from registry_core.storage.maintenance.migrate import migrate, rotate_key
from registry_core.storage.maintenance.verify import verify
from registry_core.storage.sealing import KeyRing, SealingKey
from registry_core.storage.store import Bury, Delete, Exhume, Store
from registry_core.storage.tombstones import (
    BRIEF_SECONDS,
    MOST_KEPT,
    NODE,
    WALLET,
    Retention,
    StoredTombstone,
    TombstoneKey,
    tombstones_of_rings,
)
from registry_core.testing import START
from tests.support.builders import a_node, a_put
from tests.support.older_files import older_json, older_sqlite
from tests.support.places import ALL_PLACES
from tests.support.writers import KEY, OTHER_KEY, opened

FAILED = EvidenceState(first_seen_seconds=7.0, settled=Evidence(1.0, 20.0), verified_tasks=3.0)
BANNED = Tombstone(FAILED, Admission.BANNED)


def of_node(node_id: str, at: float = 1e9, **fields: Any) -> StoredTombstone:
    return StoredTombstone(TombstoneKey(NODE, node_id), at, **fields)


EVERY_KIND = [
    of_node("evidence", left=BANNED, reason="it lied"),
    of_node("ban", left=Tombstone(EvidenceState(standing_by_operator=True), Admission.BANNED), reason="it lied"),
    of_node("key", host_state=FrozenMap({"generation": 3, "links": 1, "key": "k"}), lasts=True),
    of_node("generation", host_state=FrozenMap({"generation": 3})),
    StoredTombstone(TombstoneKey(WALLET, "ab" * 32), 1e9, BANNED, nodes=("node-1", "node-2")),
]


@pytest.fixture(params=list(ALL_PLACES.values()), ids=list(ALL_PLACES))
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return request.param(tmp_path)


@pytest.fixture
def store(place: Any) -> Iterator[Store]:
    store = place.open()
    yield store
    store.close()


def bury(store: Store, *tombstones: StoredTombstone) -> None:
    store.commit([Bury(tombstone) for tombstone in tombstones], {})


def keys(store: Store) -> set[str]:
    return {tombstone.key.key for tombstone in store.tombstones()}


@pytest.mark.parametrize("tombstone", EVERY_KIND, ids=lambda each: each.key.key[:10])
def test_each_kind_is_read_as_it_was_buried_and_after_reopening(
    place: Any, store: Store, tombstone: StoredTombstone
) -> None:
    assert store.tombstone(tombstone.key) is None
    bury(store, replace(tombstone, at=5.0))
    bury(store, tombstone)
    assert store.tombstone(tombstone.key) == tombstone
    store.close()
    again = place.open()
    assert again.tombstone(tombstone.key) == tombstone
    assert list(again.tombstones()) == [tombstone]
    again.commit([Exhume(tombstone.key)], {})
    assert again.tombstone(tombstone.key) is None
    assert list(again.tombstones()) == []
    again.close()


def test_a_later_change_of_one_commit_wins(store: Store) -> None:
    one, other = EVERY_KIND[:2]
    store.commit([Bury(one), Exhume(one.key), Exhume(other.key), Bury(other)], {})
    assert list(store.tombstones()) == [other]


def test_a_removal_without_a_word_leaves_none_that_says_something(store: Store) -> None:
    store.commit([a_put(1)], {})
    store.commit([Delete("node-1")], {})
    bury(store, of_node("node-2"))
    assert store.tombstone(TombstoneKey(NODE, "node-1")) is None
    assert list(store.tombstones()) == []


@pytest.mark.parametrize("retention", list(MOST_KEPT))
def test_of_each_retention_the_newest_are_kept(
    store: Store, monkeypatch: pytest.MonkeyPatch, retention: Retention
) -> None:
    monkeypatch.setitem(MOST_KEPT, retention, 3)
    pattern = next(each for each in EVERY_KIND if each.retention is retention)
    many = [replace(pattern, key=TombstoneKey(pattern.key.kind, f"n{number}")) for number in range(8)]
    if retention is Retention.EVIDENCE:
        many = [replace(each, left=Tombstone(FAILED)) for each in many]
    bury(store, *many[:4])
    for each in many[4:]:
        bury(store, each)
    bury(store, many[5])  # which is the newest from now on
    bury(store, many[0])
    assert keys(store) == {"n7", "n5", "n0"}


def test_bans_are_kept_for_good_and_only_their_evidence_makes_room(
    store: Store, place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MOST_KEPT, Retention.EVIDENCE, 2)
    monkeypatch.setitem(MOST_KEPT, Retention.LASTING, 2)
    host = FrozenMap({"links": 1, "key": "k"})
    pattern = of_node("n", left=BANNED, reason="it lied", host_state=host, lasts=True)
    bury(store, *(replace(pattern, key=TombstoneKey(NODE, f"n{number}")) for number in range(9)))
    store.close()
    again = place.open()
    found = {each.key.key: each for each in again.tombstones()}
    assert len(found) == 9
    assert {each.left.standing for each in found.values()} == {Admission.BANNED}
    assert {(each.reason, each.host_state) for each in found.values()} == {("it lied", host)}
    assert sorted(key for key, each in found.items() if each.left.evidence == FAILED) == ["n7", "n8"]
    again.close()


def test_what_is_brief_goes_after_its_time(store: Store) -> None:
    host = FrozenMap({"generation": 1})
    bury(store, *(of_node(f"old-{number}", 1000.0, host_state=host) for number in range(20)))
    bury(store, of_node("young", 1000.0 + BRIEF_SECONDS / 2, host_state=host))
    assert len(keys(store)) == 21
    for _ in range(10):
        bury(store, of_node("new", 1001.0 + BRIEF_SECONDS, host_state=host))
    assert keys(store) == {"young", "new"}


@pytest.mark.parametrize("names", [("a.db", "b.json"), ("a.json", "b.db"), ("a.db", "b.db"), ("a.json", "b.json")])
@pytest.mark.parametrize(("key", "other"), [(None, KEY), (KEY, None), (KEY, OTHER_KEY)])
def test_they_move_with_the_registry(
    tmp_path: Path, names: tuple[str, str], key: Optional[SealingKey], other: Optional[SealingKey]
) -> None:
    source, target = (tmp_path / name for name in names)
    with opened(source, key) as store:
        store.commit([a_put(1)], {"event_index": "7"})
        bury(store, *EVERY_KIND)
    rings = [None if each is None else KeyRing([each]) for each in (key, other)]
    migrate(source, target, source_keys=rings[0], target_keys=rings[1])
    with opened(target, other) as store:
        assert set(store.tombstones()) == set(EVERY_KIND)
    assert verify(target, rings[1]).is_whole


def test_a_rotation_seals_them_anew(tmp_path: Path) -> None:
    path = tmp_path / "nodes.db"
    with opened(path, KEY) as store:
        bury(store, *EVERY_KIND)
        before = store.state_sum()
    rotate_key(path, KeyRing([OTHER_KEY, KEY]))
    with opened(path, OTHER_KEY) as store:
        assert set(store.tombstones()) == set(EVERY_KIND)
        assert store.state_sum() == before
    assert verify(path, KeyRing([OTHER_KEY])).is_whole


def ring_text(standing: str, evidence: EvidenceState = FAILED) -> str:
    return json.dumps({"standing": standing, "evidence": evidence.to_plain()})


RINGS = {
    "event_index": "7",
    "network.uptime": "0.5",
    "removed.next": "10002",  # it went round: the place 2 is the oldest
    "removed.place.2": "b",
    "removed.place.3": "c",
    "removed.place.0": "d",
    "removed.place.1": "b",  # removed a second time
    "removed.node.b": ring_text("banned"),
    "removed.node.c": ring_text("approved"),
    "removed.node.d": "{",
    "wallet.next": "1",
    "wallet.place.0": "cd" * 32,
    f"wallet.kept.{'cd' * 32}": json.dumps({"nodes": ["node-1"], "left": json.loads(ring_text("suspended"))}),
}


def test_the_rings_of_older_layouts_give_theirs_in_order_and_what_cannot_be_read_stays(
    caplog: pytest.LogCaptureFixture,
) -> None:
    found, left = tombstones_of_rings("here", RINGS, 5.0)
    assert [each.key for each in found] == [(NODE, "c"), (NODE, "b"), (WALLET, "cd" * 32)]
    assert found[1] == of_node("b", 5.0, left=BANNED)
    assert found[2].nodes == ("node-1",)
    assert found[2].left.standing is Admission.SUSPENDED
    assert left == {"event_index": "7", "network.uptime": "0.5", "removed.node.d": "{"}
    assert "removed.node.d" in caplog.text


@pytest.mark.parametrize("kind", ["json", "1", "1-sealed", "2", "2-sealed"])
def test_an_older_registry_keeps_all_that_it_knew_of_removed_nodes(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    records: list[tuple[NodeRecord, dict[str, Any]]] = [(NodeRecord(a_node(1, registered_at=START), 1), {})]
    key = KEY if kind.endswith("sealed") else None
    path = tmp_path / ("nodes.json" if kind == "json" else "nodes.db")
    if kind == "json":
        older_json(path, records, RINGS)
    else:
        older_sqlite(path, records, key, int(kind[0]), RINGS)
    with opened(path, key, read_only=True) as reader:
        assert reader.tombstone(TombstoneKey(NODE, "b")) is not None
    with NodeRegistry(path, encryption_key=key) as registry:
        registry.register_node(a_node(2, id="b"))
        assert registry.get_reputation("b").standing is Admission.BANNED
        assert {each.key.key for each in registry._store.tombstones()} == {"c", "cd" * 32}
        assert registry._store.meta("removed.node.d") == "{"
        assert registry._store.meta("network.uptime") == "0.5"
        assert not [name for name in registry._store.all_meta() if name.endswith((".next", ".0", ".1", ".2", ".3"))]
    assert verify(path, None if key is None else KeyRing([key])).is_whole
    with NodeRegistry(path, encryption_key=key) as registry:
        assert registry.get_reputation("b").standing is Admission.BANNED


def test_an_edited_tombstone_of_a_file_that_cannot_be_one_is_named(tmp_path: Path) -> None:
    path = tmp_path / "nodes.json"
    for removed, place in [
        ([], "removed"),
        ({"other": {}}, "removed"),
        ({"node": {"n": {"standing": "x"}}}, r"removed\.node\.n\.removed\.standing"),
        ({"node": {"n": {"at": -1}}}, r"removed\.node\.n"),
        ({"node": {"n": {"more": 1}}}, r"removed\.node\.n"),
        ({"node": {"\u202e": {}}}, r"removed\.node"),
        ({"node": {"n": {"evidence": {"tasks": 7}}}}, r"removed\.node\.n"),
    ]:
        path.write_text(json.dumps({"schema": "duxnet.nodes/1.1", "removed": removed, "nodes": []}))
        with pytest.raises(DamagedStoreError, match=place), opened(path):
            pass
