"""The JSON file: written by the registry, by hand, by newer versions, by accident."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry_core import DamagedStoreError, Node, NodeRegistry, StoreError, UnsupportedSchemaError
from registry_core.testing import START, HandClock
from tests.support.builders import a_node


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "nodes.json"


def opened(path: Path, content: Any) -> NodeRegistry:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return NodeRegistry(path, clock=HandClock())


def listed(path: Path, content: Any) -> list[Node]:
    with opened(path, content) as registry:
        return registry.list_nodes()


def refusal(path: Path, content: Any) -> str:
    """The text of the error; the file is untouched and not locked."""
    text = content if isinstance(content, str) else json.dumps(content)
    for _ in range(2):
        with pytest.raises(StoreError) as caught:
            opened(path, content)
        assert path.read_text() == text
        assert path.name in str(caught.value)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 700
    assert sorted(os.listdir(path.parent)) == ["nodes.json", "nodes.json.lock"]
    return str(caught.value)


MINIMAL = {"ip_address": "10.0.0.1"}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([], []),
        ({}, []),
        ({"nodes": []}, []),
        ([{**MINIMAL, "id": "a"}, {**MINIMAL, "id": "b"}], ["a", "b"]),
        ({"nodes": [{**MINIMAL, "id": "a"}]}, ["a"]),
        ({"nodes": {"a": MINIMAL, "b": {**MINIMAL, "id": "b"}}}, ["a", "b"]),
        ({"a": MINIMAL, "b": MINIMAL}, ["a", "b"]),
        ({"schema": {"ip_address": "10.0.0.1"}}, ["schema"]),
        ({"schema": "duxnet.nodes/1.0", "nodes": [{**MINIMAL, "id": "a"}]}, ["a"]),
        ([{**MINIMAL, "id": "a", "reputation": 1.0}, {**MINIMAL, "id": "b", "reputation": 4.5}], ["b", "a"]),
        ([{**MINIMAL, "id": "a"}, {**MINIMAL, "id": "b", "sequence": 5}], ["b", "a"]),
    ],
)
def test_a_file_written_by_hand_in_the_obvious_ways_is_read(path: Path, content: Any, expected: list[str]) -> None:
    assert [node.id for node in listed(path, content)] == expected


def test_missing_fields_take_their_defaults(path: Path) -> None:
    [node] = listed(path, [MINIMAL])
    assert (node.admission, node.liveness, node.reputation, node.port) == ("probation", "live", 0.25, None)


def test_a_node_without_an_id_gets_the_same_one_each_time_until_it_is_written(path: Path) -> None:
    first = listed(path, [{**MINIMAL, "hostname": "a"}, {**MINIMAL, "hostname": "b"}])
    second = listed(path, [{**MINIMAL, "hostname": "a"}, {**MINIMAL, "hostname": "b"}])
    assert [node.id for node in first] == [node.id for node in second]
    assert first[0].id != first[1].id


def test_numbers_that_leave_no_next_one_are_given_anew_in_their_order(path: Path) -> None:
    late, early = {"id": "late", "sequence": 2**62}, {"id": "early", "sequence": 2**62 - 1}
    with opened(
        path, {"nodes": [{**late, "ip_address": "192.0.2.1"}, {**early, "ip_address": "192.0.2.2"}]}
    ) as registry:
        registry.register_node(Node("192.0.2.3", id="next"))
    with NodeRegistry(path) as again:
        assert [node.id for node in again.list_nodes()] == ["early", "late", "next"]


def test_a_byte_order_mark_is_no_obstacle(path: Path) -> None:
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps([MINIMAL]).encode())
    with NodeRegistry(path) as registry:
        assert registry.count_nodes() == 1


def test_reading_does_not_write(path: Path) -> None:
    path.write_text('[{"ip_address": "10.0.0.1"}]')
    with NodeRegistry(path) as registry:
        registry.list_nodes()
        registry.tick()
    assert path.read_text() == '[{"ip_address": "10.0.0.1"}]'


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ('{"nodes": [{"ip_address": "10.0.0.1"}', "line 1, column 38"),
        ("", "empty"),
        ("  \n", "empty"),
        ("7", "must be a list"),
        ("null", "must be a list"),
        ('{"nodes": 7}', "nodes"),
        ('{"schema": "duxnet.nodes/1.0"}', "nodes"),
        ("[7]", "nodes[0]"),
        ("[{}]", "nodes[0].ip_address"),
        ('[{"ip_address": "host.example"}]', "nodes[0].ip_address"),
        ('[{"ip_address": "10.0.0.1", "capabilities": {"cpu_cores": -1}}]', "nodes[0].capabilities.cpu_cores"),
        ('[{"ip_address": "10.0.0.1", "capabilities": {"cpu_corse": 1}}]', "nodes[0].capabilities.cpu_corse"),
        ('[{"ip_address": "10.0.0.1", "capabilities": {"memory_gb": NaN}}]', "NaN"),
        ('[{"ip_address": "10.0.0.1", "capabilities": {"memory_gb": 1e999}}]', "1e999"),
        ('[{"ip_address": "10.0.0.1", "port": ' + "9" * 5000 + "}]", "number"),
        ('[{"ip_address": "10.0.0.1", "evidence": {"correctness": {"successes": -1}}}]', "evidence.correctness"),
        ('[{"ip_address": "10.0.0.1", "registered_at": "yesterday"}]', "registered_at"),
        ('[{"ip_address": "10.0.0.1", "admission": "maybe"}]', "admission"),
        ('[{"ip_address": "10.0.0.1", "sequence": "1"}]', "sequence"),
        ('[{"ip_address": "10.0.0.1", "rack": 1, "rack": 2}]', "rack"),
        ('{"nodes": [], "nodes": []}', "nodes"),
        ('{"a": {"ip_address": "10.0.0.1"}, "a": {"ip_address": "10.0.0.2"}}', "must not be repeated"),
        ('{"a": {"ip_address": "10.0.0.1", "id": "b"}}', "nodes.a.id"),
        ('[{"ip_address": "10.0.0.1", "id": "a"}, {"ip_address": "10.0.0.2", "id": "a"}]', "nodes[1].id"),
        ('[{"ip_address": "10.0.0.1"}, {"ip_address": "10.0.0.1"}]', "nodes[1].id"),
        ('{"nodes": [], "meta": {"event_index": 7}}', "meta"),
        ('{"nodes": [], "meta": {"event_index": "many"}}', "event_index"),
        ('[{"ip_address": "10.0.0.1", "x": ' + "[" * 100 + "]" * 100 + "}]", "nested"),
        ("[" * 100_000 + "]" * 100_000, "nested"),
        ('[{"ip_address": "10.0.0.1", "hostname": "\\ud800"}]', "hostname"),
        ('{"nodes": [], "rack": "\\ud800"}', "surrogate"),
        ('{"nodes": [], "meta": {"\\ud800": "a"}}', "surrogate"),
        ('{"nodes": [], "rack": ' + "[" * 500 + "]" * 500 + "}", "nested"),
        ('[{"ip_address": "10.0.0.1", "evidence": {"\\ud800": {}}}]', "evidence"),
        ('[{"ip_address": "10.0.0.1", "interval_seconds": 1e-300}]', "interval_seconds"),
        ('{"foo": 1}', "foo"),
    ],
)
def test_a_damaged_file_is_named_with_the_place_and_left_alone(path: Path, content: str, place: str) -> None:
    assert place in refusal(path, content)


def test_a_file_that_is_not_utf8_is_named_with_the_place(path: Path) -> None:
    path.write_bytes(b'[{"ip_address": "10.0.0.1", "hostname": "caf\xe9"}]')
    with pytest.raises(DamagedStoreError, match="byte 44 is not UTF-8"):
        NodeRegistry(path)


@pytest.mark.parametrize("schema", ["duxnet.nodes/2.0", "duxnet.nodes/0.9", "duxnet.probe/1.0", "x", 7, None, [1]])
def test_another_schema_is_refused(path: Path, schema: Any) -> None:
    assert "schema" in refusal(path, {"schema": schema, "nodes": []})
    with pytest.raises(UnsupportedSchemaError):
        NodeRegistry(path)


def test_a_newer_minor_version_is_read_and_what_it_wrote_survives(path: Path) -> None:
    newer = {
        "schema": "duxnet.nodes/1.7",
        "signature": {"by": "me"},
        "meta": {},
        "nodes": [
            {
                "ip_address": "10.0.0.1",
                "id": "a",
                "colour": "blue",
                "capabilities": {
                    "cpu_cores": 4,
                    "npus": [1, 2],
                    "gpus": [{"vendor": "AMD"}, {"vendor": "NVIDIA", "nvlink": {"peers": 3}}],
                },
                "cordon": {"reason": "x", "ticket": 7},
                "health": {"load_average": 1.0, "psi": 0.5},
            }
        ],
    }
    with opened(path, newer) as registry:
        registry.register_node(a_node(2))
        registry.update_node_reputation("a", True)
    kept = json.loads(path.read_text())
    assert kept["schema"] == "duxnet.nodes/1.7"
    assert kept["signature"] == {"by": "me"}
    node = kept["nodes"][0]
    assert node["colour"] == "blue"
    assert node["capabilities"]["npus"] == [1, 2]
    assert node["capabilities"]["gpus"][1]["nvlink"] == {"peers": 3}
    assert node["cordon"]["ticket"] == 7
    assert node["health"]["psi"] == 0.5
    with NodeRegistry(path) as registry:
        assert registry.count_nodes() == 2


def test_a_hand_edit_counts_after_load(path: Path) -> None:
    with opened(path, [{**MINIMAL, "id": "a"}]) as registry:
        registry.update_node_health("a", 1.0, 99.0, 3.0)
        path.write_text(json.dumps([{**MINIMAL, "id": "a", "hostname": "edited"}, {**MINIMAL, "id": "b"}]))
        registry.load()
        assert [node.hostname for node in registry.list_nodes()] == ["edited", ""]
        node = registry.get_node("a")
        assert node is not None
        assert node.health.memory_usage == 99.0
        assert not node.is_healthy


def test_an_edit_beside_the_running_registry_is_kept_when_a_commit_writes_over_it(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with NodeRegistry(path) as registry:
        registry.register_node(a_node(1))
        edited = path.read_text().replace("node-1", "edited")
        path.write_text(edited)
        registry.register_node(a_node(2))
        registry.register_node(a_node(3))
    (kept,) = path.parent.glob("nodes.edited-*.json")
    assert kept.read_text() == edited
    assert str(kept) in caplog.text
    with NodeRegistry(path) as registry:
        assert [node.id for node in registry.list_nodes()] == ["node-1", "node-2", "node-3"]


def test_a_pipe_that_came_into_the_place_of_the_file_is_replaced_and_not_waited_for(path: Path) -> None:
    with NodeRegistry(path) as registry:
        path.unlink(missing_ok=True)
        os.mkfifo(path)
        registry.register_node(Node(ip_address="192.0.2.1", id="after"))
    with NodeRegistry(path, read_only=True) as registry:
        assert registry.get_node("after") is not None


def test_a_damaged_edit_changes_nothing_in_the_running_registry(path: Path) -> None:
    with opened(path, [{**MINIMAL, "id": "a"}]) as registry:
        path.write_text("[{")
        with pytest.raises(DamagedStoreError):
            registry.load()
        assert [node.id for node in registry.list_nodes()] == ["a"]


def test_the_file_is_for_people(path: Path) -> None:
    with NodeRegistry(path, clock=HandClock()) as registry:
        registry.register_node(a_node(hostname="höst"))
        registry.update_node_health("node-1", 1.5, 50.0, 30.0)
        registry.save()
        text = path.read_text(encoding="utf-8")
    assert text.startswith('{\n  "schema": "duxnet.nodes/1.1",\n')
    assert text.endswith("}\n")
    assert '"hostname": "höst"' in text
    plain = json.loads(text)["nodes"][0]
    assert plain["registered_at"] == "2026-01-31T12:00:00.000Z"
    assert plain["health"] == {
        "load_average": 1.5,
        "memory_usage": 50.0,
        "disk_usage": 30.0,
        "last_heartbeat": "2026-01-31T12:00:00.000Z",
    }
    assert START.isoformat() not in text


def test_many_nodes_are_warned_about_once(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "registry_core"), NodeRegistry(path) as registry:
        with registry.batch():
            for number in range(1, 2001):
                registry.register_node(a_node(number))
        registry.deregister_node("node-1")
        registry.register_node(a_node(1))
    [record] = caplog.records
    assert "migrate" in record.getMessage()
    assert ".db" in record.getMessage()


def test_a_temporary_file_that_a_crash_left_is_no_obstacle(path: Path) -> None:
    (path.parent / ".nodes.json.tmp").write_text("half")
    with NodeRegistry(path) as registry:
        registry.register_node(a_node())
    assert sorted(os.listdir(path.parent)) == ["nodes.json", "nodes.json.lock"]


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=8,
)
WHOLE = {
    "schema": "duxnet.nodes/1.0",
    "meta": {"event_index": "3", "next_sequence": "4"},
    "nodes": [
        {
            "id": "a",
            "ip_address": "10.0.0.1",
            "capabilities": {"cpu_cores": 4, "gpus": [{"vendor": "AMD"}]},
            "health": {"load_average": 1.0, "last_heartbeat": "2026-01-31T12:00:00.000Z"},
            "cordon": {"reason": "x", "until": None},
            "evidence": {"correctness": {"successes": 1.0, "failures": 0.0}},
            "tags": {"a": "b"},
            "interval_seconds": 15.0,
            "host_state": {},
            "sequence": 1,
        }
    ],
}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path to each value inside `value`."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += places(item, (*path, key))
    return found


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.sampled_from(places(WHOLE)), value=json_values)
def test_any_value_in_any_place_is_read_or_refused_and_never_lost(path: Path, place: Any, value: Any) -> None:
    document = json.loads(json.dumps(WHOLE))
    inner = document
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    text = json.dumps(document)
    path.write_text(text)
    try:
        registry = NodeRegistry(path)
    except StoreError as error:
        refusal = str(error)
    else:
        refusal = ""
    assert path.read_text() == text
    if refusal:
        assert "nodes.json" in refusal
        return
    with registry:
        before = registry.list_nodes()
        registry.register_node(a_node(999))
    with NodeRegistry(path) as again:
        assert [node.id for node in again.list_nodes() if node.id != "node-999"] == [node.id for node in before]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 10_000))
def test_half_a_file_is_never_a_silent_empty_start(path: Path, cut: int) -> None:
    whole = json.dumps(WHOLE, indent=2)
    half = whole[: cut % len(whole)]
    path.write_text(half)
    with pytest.raises(StoreError):
        NodeRegistry(path)
    assert path.read_text() == half


def test_who_is_down_stands_in_the_file_as_a_person_would_write_it_until_it_is_heard(path: Path) -> None:
    clock = HandClock()
    words = {"a": "down", "b": "suspect", "c": "left", "d": "live"}
    path.write_text(json.dumps([{**MINIMAL, "id": node_id, "liveness": word} for node_id, word in words.items()]))
    with NodeRegistry(path, clock=clock, heartbeat_timeout_seconds=60) as registry:
        found = {node.id: str(node.liveness) for node in registry.list_nodes()}
        assert found == {"a": "down", "b": "live", "c": "left", "d": "live"}
        clock.move(61)
        for node_id in ("a", "d"):
            registry.update_node_health(node_id, 1.0)
    kept = {node["id"]: node.get("liveness") for node in json.loads(path.read_text())["nodes"]}
    assert kept == {"a": None, "b": "down", "c": "left", "d": None}
