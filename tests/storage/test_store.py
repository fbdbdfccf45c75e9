"""The law for every store. It never asks which one it has: see `places`."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from registry_core.models.columns import columns_of
from registry_core.models.frozen import FrozenMap
from registry_core.models.node import Gpu, NodeCapabilities
from registry_core.models.record import NodeRecord
from registry_core.models.reputation import Evidence
from registry_core.models.status import (
    Admission,
    Condition,
    Conditions,
    Cordon,
    Liveness,
    NodeHealth,
    Sampled,
    Scheduling,
)
from registry_core.models.trusted import record_with
from registry_core.storage.store import Delete, Put
from registry_core.testing import START
from tests.support.builders import a_put
from tests.support.places import ALL_PLACES

FULL = {
    "wallet_address": "wallet",
    "addresses": ("10.0.0.1", "fe80::1"),
    "port": 7000,
    "hostname": "höst",
    "os_version": "Debian 12",
    "agent_version": "0.1.0",
    "tags": {"region": "eu", "näme": "≥ 1"},
    "capabilities": NodeCapabilities(
        cpu_cores=8,
        memory_gb=0.1 + 0.2,
        storage_gb=1e6,
        gpus=(Gpu("NVIDIA", "H100", 80.0, "GPU-1"), Gpu("AMD", "MI300", usable=False, reason="no driver")),
        cpu_quota=2.5,
        host_cpus=16,
        cpu_model="Some CPU",
    ),
    "admission": Admission.BANNED,
    "admission_reason": "it lied",
    "liveness": Liveness.LEFT,
    "scheduling": Scheduling.CORDONED,
    "cordon": Cordon("repair", "ann", START + timedelta(hours=1)),
    "extra": {"rack": 7, "deep": {"list": [1, None, True, "x"]}},
}


@pytest.fixture(params=list(ALL_PLACES.values()), ids=list(ALL_PLACES))
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return request.param(tmp_path)


@pytest.fixture
def store(place: Any) -> Any:
    store = place.open()
    yield store
    store.close()


def reopened(place: Any, store: Any) -> Any:
    store.close()
    return place.open()


def ids(store: Any) -> list[str]:
    return [row.columns.node_id for row in store.rows()]


def test_a_new_place_is_empty(store: Any) -> None:
    assert list(store.rows()) == []
    assert store.read("node-1") is None
    assert store.meta("anything") is None


def test_what_was_committed_is_read_at_once_and_after_reopening(place: Any, store: Any) -> None:
    put = a_put(1, **FULL)
    store.commit([put], {})
    assert store.read("node-1") == put.record
    again = reopened(place, store)
    assert [row.columns for row in again.rows()] == [put.columns]
    assert again.read("node-1") == put.record
    again.close()


def test_all_that_a_record_has_beyond_its_node_survives(place: Any, store: Any) -> None:
    record = record_with(
        a_put(1).record,
        evidence=FrozenMap({"correctness": Evidence(2.0, 1.0), "availability": Evidence(0.5, 0.0)}),
        interval_seconds=15.0,
        host_state=FrozenMap({"generation": 3, "hints": ("a", "b")}),
        unknown=FrozenMap({"capabilities": FrozenMap({"npu_count": 2})}),
    )
    store.commit([Put(record, columns_of(record))], {})
    again = reopened(place, store)
    kept = again.read("node-1")
    assert kept is not None
    assert kept.evidence == record.evidence
    assert kept.interval_seconds == 15.0
    assert kept.host_state == record.host_state
    assert kept.unknown == record.unknown
    again.close()


def test_rows_come_in_order_of_registration_whatever_the_order_of_commits(place: Any, store: Any) -> None:
    store.commit([a_put(3), a_put(1)], {})
    store.commit([a_put(2)], {})
    store.commit([a_put(1, hostname="changed")], {})
    again = reopened(place, store)
    assert ids(again) == ["node-1", "node-2", "node-3"]
    again.close()


def test_a_later_change_in_one_commit_wins(store: Any) -> None:
    store.commit([a_put(1, hostname="first"), a_put(1, hostname="second"), a_put(2), Delete("node-2")], {})
    assert store.read("node-1").node.hostname == "second"
    assert store.read("node-2") is None
    assert ids(store) == ["node-1"]


def test_deleting_what_is_not_there_is_no_error(store: Any) -> None:
    store.commit([Delete("node-9")], {})
    assert ids(store) == []


def test_a_deleted_node_is_gone_after_reopening(place: Any, store: Any) -> None:
    store.commit([a_put(1), a_put(2)], {})
    store.commit([Delete("node-1")], {})
    again = reopened(place, store)
    assert ids(again) == ["node-2"]
    again.close()


def test_many_are_read_in_the_order_asked_for_with_none_for_the_missing(store: Any) -> None:
    store.commit([a_put(number) for number in range(1, 6)], {})
    found = store.read_many(["node-4", "nobody", "node-2", "node-4"])
    assert [record and record.node.id for record in found] == ["node-4", None, "node-2", "node-4"]
    assert store.read_many([]) == []


@pytest.mark.parametrize("sequence", [None, 0, 1, 2, 3, 99, -1, 2**62])
def test_a_sequence_that_is_right_wrong_or_out_of_date_changes_no_answer(store: Any, sequence: Any) -> None:
    puts = [a_put(number) for number in range(1, 4)]
    store.commit(puts, {})
    store.read("node-2")  # so that whatever is opened by the first read is open
    assert store.read("node-2", sequence) == puts[1].record
    assert store.read("nobody", sequence) is None


def test_meta_texts_are_kept_and_removed(place: Any, store: Any) -> None:
    store.commit([], {"event_index": "7", "other": "ä"})
    store.commit([a_put(1)], {"other": None})
    again = reopened(place, store)
    assert again.meta("event_index") == "7"
    assert again.meta("other") is None
    again.close()


SAMPLE = NodeHealth(1.5, 50.0, 30.0, START, Conditions(Condition.OK, Condition.CRITICAL, Condition.OK))


def samples(store: Any) -> dict[str, Any]:
    return {row.columns.node_id: row.sample for row in store.rows()}


def test_saved_samples_come_back_without_their_conditions(place: Any, store: Any) -> None:
    store.commit([a_put(1), a_put(2)], {})
    store.save_samples([Sampled("node-1", SAMPLE), Sampled("nobody", SAMPLE, is_down=True)], wait=True)
    again = reopened(place, store)
    found = samples(again)
    assert found["node-2"] is None
    kept = found["node-1"]
    assert (kept.load_average, kept.memory_usage, kept.disk_usage, kept.last_heartbeat) == (1.5, 50.0, 30.0, START)
    again.close()


def test_a_sample_with_gauges_missing_survives(place: Any, store: Any) -> None:
    store.commit([a_put(1)], {})
    store.save_samples([Sampled("node-1", NodeHealth(memory_usage=1.0, last_heartbeat=START))], wait=True)
    again = reopened(place, store)
    kept = samples(again)["node-1"]
    assert (kept.load_average, kept.memory_usage, kept.disk_usage) == (None, 1.0, None)
    again.close()


def test_samples_saved_without_waiting_are_there_after_closing(place: Any, store: Any) -> None:
    store.commit([a_put(1)], {})
    store.save_samples(iter([Sampled("node-1", SAMPLE)]), wait=False)
    again = reopened(place, store)
    assert samples(again)["node-1"].memory_usage == 50.0
    again.close()


def test_a_put_keeps_the_saved_sample_and_a_delete_drops_it(place: Any, store: Any) -> None:
    store.commit([a_put(1), a_put(2)], {})
    store.save_samples([Sampled("node-1", SAMPLE), Sampled("node-2", SAMPLE)], wait=True)
    store.commit([a_put(1, hostname="changed"), Delete("node-2"), a_put(2)], {})
    again = reopened(place, store)
    found = samples(again)
    assert found["node-1"].disk_usage == 30.0
    assert found["node-2"] is None
    again.close()


def down(store: Any) -> list[str]:
    return [row.columns.node_id for row in store.rows() if row.is_down]


def test_who_was_down_is_told_after_reopening_until_a_sample_says_otherwise(place: Any, store: Any) -> None:
    store.commit([a_put(1), a_put(2), a_put(3)], {})
    assert down(store) == []
    fallen = [Sampled("node-1", SAMPLE, is_down=True), Sampled("node-3", SAMPLE, is_down=True)]
    store.save_samples(fallen, wait=True)
    again = reopened(place, store)
    assert down(again) == ["node-1", "node-3"]
    assert samples(again)["node-1"].memory_usage == 50.0
    again.save_samples([Sampled("node-1", SAMPLE)], wait=False)
    third = reopened(place, again)
    assert down(third) == ["node-3"]
    third.close()


def test_a_node_that_was_never_heard_can_be_down_too(place: Any, store: Any) -> None:
    store.commit([a_put(1), a_put(2)], {})
    store.save_samples([Sampled("node-2", NodeHealth(), is_down=True)], wait=True)
    again = reopened(place, store)
    assert down(again) == ["node-2"]
    assert samples(again)["node-2"] in (None, NodeHealth())
    again.close()


def test_a_put_leaves_a_node_down_and_a_delete_forgets_it(place: Any, store: Any) -> None:
    store.commit([a_put(1), a_put(2)], {})
    fallen = [Sampled(node_id, SAMPLE, is_down=True) for node_id in ("node-1", "node-2", "nobody")]
    store.save_samples(fallen, wait=True)
    store.commit([a_put(1, hostname="changed"), Delete("node-2"), a_put(2)], {})
    again = reopened(place, store)
    assert down(again) == ["node-1"]
    assert again.read("node-1").node.liveness is Liveness.LIVE  # of a record it would be durable
    again.close()


def test_reading_in_other_threads_sees_whole_records_during_commits(store: Any) -> None:
    store.commit([a_put(1, hostname="h0", os_version="h0")], {})
    mixed: list[NodeRecord] = []
    done = threading.Event()

    def read_all_the_time() -> None:
        while not done.is_set():
            record = store.read("node-1")
            if record.node.hostname != record.node.os_version:
                mixed.append(record)

    reader = threading.Thread(target=read_all_the_time)
    reader.start()
    for round_number in range(30):
        store.commit([a_put(1, hostname=f"h{round_number}", os_version=f"h{round_number}")], {})
    done.set()
    reader.join()
    assert mixed == []


def test_closing_twice_is_no_error(store: Any) -> None:
    store.close()
    store.close()
