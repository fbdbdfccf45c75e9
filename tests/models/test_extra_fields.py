"""What a node sends and this version does not know has a map of its own: no name in it can meet one of ours."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any, Callable

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from registry_core import DamagedStoreError, Node, NodeRegistry, ValidationError
from registry_core.models.columns import Columns, columns_of
from registry_core.models.encoding import node_from_plain, node_to_plain
from registry_core.models.frozen import FrozenMap
from registry_core.models.node import Gpu, NodeCapabilities
from registry_core.models.own_names import HISTORY_NAMES, OWN_NAMES
from registry_core.models.record import NodeRecord
from registry_core.models.reputation import Reputation
from registry_core.models.status import Cordon, NodeHealth
from registry_core.models.trusted import record_with
from registry_core.rules.reputation import EvidenceState
from registry_core.rules.reputation.stored_evidence import state_of
from registry_core.storage.packed_records import pack, unpack
from registry_core.storage.record_codec import is_read_back, record_from_plain, record_to_plain
from registry_core.storage.store import Put
from tests.support.builders import a_node
from tests.support.places import ALL_PLACES

RECORDS = (Node, NodeCapabilities, Gpu, NodeHealth, Cordon, NodeRecord, Reputation, EvidenceState)
OUR_NAMES = sorted({item.name for record in RECORDS for item in fields(record)} | set(Columns._fields) | OWN_NAMES)
names = st.one_of(st.sampled_from(OUR_NAMES), st.text(max_size=6), st.just("rack"))
values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=6),
        st.sampled_from([2**63, -(2**63) - 1, 2**64, 10**30, 1e300, -0.0]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=3)),
    max_leaves=6,
)


def test_the_names_of_the_registry_are_all_there() -> None:
    assert set(HISTORY_NAMES) == {item.name for item in fields(EvidenceState)}
    for record in (Node, NodeRecord, NodeCapabilities, NodeHealth, Reputation, EvidenceState):
        assert {item.name for item in fields(record)} <= OWN_NAMES
    assert set(Columns._fields) <= OWN_NAMES
    assert {"is_healthy", "is_ready", "last_gap", "verified", "standing", "score", "extra"} <= OWN_NAMES


def test_so_are_those_of_every_answer_and_request() -> None:
    pytest.importorskip("uvicorn")
    from duxnet.coordinator.http.openapi import NodeView
    from registry_core.wire.shapes import HeartbeatReply, Registration, RegistrationReply

    for shape in (NodeView, Registration, RegistrationReply, HeartbeatReply):
        assert set(shape.__struct_fields__) <= OWN_NAMES, shape


@pytest.mark.parametrize("name", sorted(OWN_NAMES))
def test_each_is_refused_in_extra_and_ignored_beside_the_fields(name: str) -> None:
    with pytest.raises(ValidationError, match="reserved for the registry"):
        Node("192.0.2.1", extra={name: 1})
    with pytest.raises(ValidationError):
        node_from_plain({"ip_address": "192.0.2.1", "extra": {name: 1}})
    if name not in {item.name for item in fields(Node)}:
        assert node_from_plain({"ip_address": "192.0.2.1", name: {"a": 1}, "rack": 7}).extra == {"rack": 7}


@pytest.mark.parametrize("name", ["", "x" * 129, "x\x1b[2J", "a\u202eb", "line\nend", " x"])
def test_a_name_that_cannot_be_printed_is_refused(name: str) -> None:
    for plain in ({"extra": {name: 1}}, {name: 1}):
        with pytest.raises(ValidationError, match="extra"):
            node_from_plain({"ip_address": "192.0.2.1", **plain})


@pytest.mark.parametrize("extra", [None, [], "x", 5, True])
def test_an_extra_that_is_no_map_is_refused(extra: Any) -> None:
    for beside in ({}, {"rack": 7}):
        with pytest.raises(ValidationError, match="extra"):
            node_from_plain({"ip_address": "192.0.2.1", "extra": extra, **beside})


def test_fields_of_an_older_agent_are_moved_and_its_record_travels_with_extra_of_its_own() -> None:
    node = node_from_plain({"ip_address": "192.0.2.1", "id": "a", "rack": 7, "row": 1, "extra": {"row": 2}})
    assert node.extra == {"rack": 7, "row": 2}  # what stands under extra was meant
    plain = node_to_plain(node)
    assert plain["extra"] == {"rack": 7, "row": 2}
    assert not {"rack", "row"} & plain.keys()
    assert node_from_plain(plain) == node
    assert "extra" not in node_to_plain(Node("192.0.2.1"))  # which an earlier coordinator would refuse


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(extra=st.dictionaries(names, values, max_size=3))
@example(extra={"history": {"tasks": 7}})
@example(extra={"wallet_proof": "x"})
@example(extra={"deep": {"history": {"tasks": 7}, "extra": {"extra": 1}}})
@example(extra={"n": -(2**63) - 1})
@example(extra={"n": 2**64 - 1})
@pytest.mark.parametrize("place", ALL_PLACES)
def test_whatever_is_taken_reads_back_equal_and_is_nothing_of_the_registrys(
    tmp_path: Path, place: str, extra: dict[str, Any]
) -> None:
    for left in tmp_path.glob("*"):
        left.unlink()
    try:
        node = a_node(1, extra=extra)
    except ValidationError:
        return
    made: Any = ALL_PLACES[place](tmp_path)
    store = made.open()
    record = NodeRecord(node, 1)
    store.commit([Put(record, columns_of(record))], {})
    if made.path is not None:
        store.close()
        store = made.open()
    found = store.read("node-1")
    store.close()
    assert found is not None
    assert is_read_back(record, found)
    assert found.node.extra == node.extra
    assert (found.evidence, found.history, found.wallet_proof, found.unknown) == ({}, {}, {}, {})


@settings(max_examples=300, deadline=None)
@given(name=st.sampled_from(OUR_NAMES), value=values, other=values)
def test_whatever_stands_in_a_stored_record_it_is_read_whole_or_refused(name: str, value: Any, other: Any) -> None:
    plain = {"ip_address": "10.0.0.1", "id": "a", "sequence": 1, "hostname": other, name: value}
    try:
        record = unpack(json.dumps(plain).encode())
    except ValueError:
        pass
    else:
        assert unpack(pack(record)) == record
        state_of(record)
    for newer in (False, True):
        try:
            record = record_from_plain(json.loads(json.dumps(plain)), newer=newer)[0]
        except ValidationError:
            continue
        assert is_read_back(record, unpack(pack(record)))
        state_of(record)
        written = json.loads(json.dumps(record_to_plain(record, newer=newer)))
        assert is_read_back(record, record_from_plain(written, newer=newer)[0])


@settings(max_examples=300, deadline=None)
@given(st.one_of(values, st.dictionaries(st.sampled_from(HISTORY_NAMES), values)))
def test_a_history_is_trusted_or_damaged_and_nothing_else(history: Any) -> None:
    try:
        state = EvidenceState.trusted(history)
    except DamagedStoreError:
        return
    assert EvidenceState.trusted(state.to_plain()) == state


def test_a_damaged_history_names_its_node() -> None:
    record = record_with(NodeRecord(a_node(1), 1), history=FrozenMap({"tasks": 7}))
    with pytest.raises(DamagedStoreError, match="tasks") as caught:
        state_of(record)
    assert caught.value.node_id == "node-1"


@pytest.mark.parametrize("place", [name for name in ALL_PLACES if name != "memory"])
@pytest.mark.parametrize(
    "broken",
    [
        lambda record: record_with(record, history=FrozenMap({"tasks": 7})),
        lambda record: record_with(record, wallet_proof="x"),
        lambda record: record_with(record, host_state=FrozenMap({"n": 10**30})),
        lambda record: record_with(record, unknown=FrozenMap({"history": 1})),
    ],
)
def test_what_would_read_back_otherwise_is_not_committed(
    tmp_path: Path, place: str, broken: Callable[[NodeRecord], NodeRecord]
) -> None:
    made: Any = ALL_PLACES[place](tmp_path)
    store = made.open()
    good = NodeRecord(a_node(1), 1)
    bad = broken(NodeRecord(a_node(2), 2))
    with pytest.raises(DamagedStoreError, match="cannot be stored") as caught:
        store.commit([Put(good, columns_of(good)), Put(bad, columns_of(bad))], {})
    assert caught.value.node_id == "node-2"
    store.commit([Put(good, columns_of(good))], {})
    assert [row.columns.node_id for row in store.rows()] == ["node-1"]
    store.close()


def test_times_finer_than_a_file_keeps_them_are_no_difference(tmp_path: Path) -> None:
    from datetime import datetime, timezone

    until = datetime(2099, 1, 1, 0, 0, 0, 123456, tzinfo=timezone.utc)
    for name in ("nodes.db", "nodes.json"):
        with NodeRegistry(tmp_path / name) as registry:
            registry.register_node(a_node(1))
            registry.admin.cordon("node-1", until=until)
            registry.update_node_health("node-1", 1.0, 2.0, 3.0)
            registry.admin.ban("node-1")
