"""Whatever is passed, the answer is right or a ValidationError that names the field; and then nothing changed."""

from __future__ import annotations

import contextlib
import inspect
import math
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry_core import (
    Conditions,
    Cordon,
    Evidence,
    Gpu,
    GpuDemand,
    Node,
    NodeCapabilities,
    NodeHealth,
    NodeQuery,
    NodeRegistry,
    Registry,
    RegistryError,
    UnknownNodeError,
    ValidationError,
)
from registry_core.contract import Queries, Reporting
from registry_core.models.encoding import node_from_plain, node_to_plain
from tests.support.builders import a_node

NAN, INFINITY = math.nan, math.inf
LONG = "x" * 10_000_000
CONTROLS = ["a\x00b", "a\nb", "\x1b[31m", "a\u202eb", "a\u2028b", "\ud800", " a", "a\t"]
NONSENSE: list[Any] = [
    NAN, INFINITY, -INFINITY, -1, -0.001, 10**400, 1e300, True, "1", b"1", None, [], {}, object(), LONG, *CONTROLS,
]  # fmt: skip

anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=300),
    st.binary(max_size=20),
    st.lists(st.one_of(st.integers(), st.text(max_size=5), st.none()), max_size=3),
    st.dictionaries(st.text(max_size=5), st.one_of(st.text(max_size=5), st.integers()), max_size=3),
    st.sampled_from(NONSENSE),
)
modest = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeRegistry]:
    with NodeRegistry(tmp_path_factory.mktemp("bad") / "nodes.json") as opened:
        opened.register_node(a_node(wallet_address="w"))
        opened.update_node_health("node-1", 1.0, 2.0, 3.0)
        yield opened


def made_or_refused(record: type[Any], name: str, value: object, **others: Any) -> Any:
    """The record, or None when it was refused as it should be: naming the field."""
    try:
        return record(**{**others, name: value})
    except ValidationError as refusal:
        error = refusal
    assert error.field.split(".")[0].split("[")[0] in (name, "id"), error
    assert error.rule
    assert len(str(error)) < 600
    assert str(error).isprintable()
    return None


@modest
@given(name=st.sampled_from([field.name for field in fields(Node)]), value=anything)
def test_any_value_in_any_field_of_a_node_is_taken_whole_or_refused(name: str, value: object) -> None:
    node = made_or_refused(Node, name, value, **({} if name == "ip_address" else {"ip_address": "10.0.0.1"}))
    if node is not None:
        assert node_from_plain(node_to_plain(node)) == node


@pytest.mark.parametrize(
    "nowhere", ["0.0.0.0", "::", "::ffff:0.0.0.0", "224.0.0.1", "239.1.2.3", "ff02::1", "::ffff:224.0.0.1"]
)
def test_an_address_where_no_machine_can_be_is_refused(nowhere: str) -> None:
    with pytest.raises(ValidationError, match=r"^ip_address.*must be the address of one machine"):
        Node(nowhere)
    with pytest.raises(ValidationError, match=r"^addresses\[0\].*must be the address of one machine"):
        Node("10.0.0.1", addresses=(nowhere,))


@modest
@given(data=st.data(), value=anything)
@pytest.mark.parametrize("record", [NodeHealth, Conditions, Cordon, Evidence])
def test_any_value_in_any_field_of_a_status_record_is_taken_or_refused(
    record: type[Any], data: st.DataObject, value: object
) -> None:
    made_or_refused(record, data.draw(st.sampled_from([field.name for field in fields(record)])), value)


@modest
@given(name=st.sampled_from([field.name for field in fields(NodeCapabilities)]), value=anything)
def test_any_value_in_any_capability_is_taken_whole_or_refused(name: str, value: object) -> None:
    made_or_refused(NodeCapabilities, name, value)


@modest
@given(name=st.sampled_from([field.name for field in fields(Gpu)]), value=anything)
def test_any_value_in_any_field_of_a_gpu_is_taken_whole_or_refused(name: str, value: object) -> None:
    made_or_refused(Gpu, name, value)


@modest
@given(name=st.sampled_from([field.name for field in fields(GpuDemand)]), value=anything)
def test_any_value_in_any_field_of_a_gpu_demand_is_taken_whole_or_refused(name: str, value: object) -> None:
    made_or_refused(GpuDemand, name, value)


@modest
@given(name=st.sampled_from([field.name for field in fields(NodeQuery)]), value=anything)
def test_any_value_in_any_field_of_a_query_is_taken_whole_or_refused(name: str, value: object) -> None:
    made_or_refused(NodeQuery, name, value)


METHODS = sorted(
    name
    for part in (Registry, Reporting, Queries)
    for name, value in vars(part).items()
    if inspect.isfunction(value) and not name.startswith("_") and name != "close"
)


class WrongNumberError(Exception):
    """More arguments than the method takes: Python's own error, and its own words."""


def called(method: Any, arguments: list[Any]) -> None:
    try:
        method(*arguments)
    except TypeError as error:
        if "positional argument" not in str(error):
            raise
        raise WrongNumberError from error


@modest
@given(
    method=st.sampled_from(METHODS),
    arguments=st.lists(anything, min_size=1, max_size=3),
)
def test_any_arguments_are_answered_or_refused_and_refusals_change_nothing(
    registry: NodeRegistry, method: str, arguments: list[Any]
) -> None:
    before, index = registry.list_nodes(), registry.events.last_index
    with contextlib.suppress(RegistryError, WrongNumberError):
        called(getattr(registry, method), arguments)
    assert registry.list_nodes() == before
    assert registry.events.last_index == index


@pytest.mark.parametrize("gauge", ["load_average", "memory_usage", "disk_usage"])
@pytest.mark.parametrize("value", [value for value in NONSENSE if value is not None], ids=lambda v: repr(v)[:12])
def test_nonsense_in_a_sample_names_the_gauge_and_changes_nothing(
    registry: NodeRegistry, gauge: str, value: Any
) -> None:
    before = registry.get_node("node-1")
    with pytest.raises(ValidationError, match=gauge):
        registry.update_node_health("node-1", **{gauge: value})
    assert registry.get_node("node-1") == before


@pytest.mark.parametrize("value", [100.0001, 101])
def test_more_than_a_hundred_percent_is_refused(registry: NodeRegistry, value: float) -> None:
    with pytest.raises(ValidationError, match=r"memory_usage.*100"):
        registry.update_node_health("node-1", memory_usage=value)


@pytest.mark.parametrize("value", [0, 1, None, "true", "yes", NAN])
def test_an_outcome_must_be_true_or_false(registry: NodeRegistry, value: Any) -> None:
    with pytest.raises(ValidationError, match="task_success"):
        registry.update_node_reputation("node-1", value)


@pytest.mark.parametrize("node_id", [None, 7, b"node-1", [], {}, "", LONG, "a\nb"])
def test_an_id_that_is_none_is_unknown(registry: NodeRegistry, node_id: Any) -> None:
    with pytest.raises(UnknownNodeError) as caught:
        registry.update_node_health(node_id, 1.0)
    assert len(str(caught.value)) < 200
    with pytest.raises(UnknownNodeError):
        registry.update_node_reputation(node_id, True)
    assert registry.get_node(node_id) is None
    assert registry.deregister_node(node_id) is False


@pytest.mark.parametrize("text", [LONG, *CONTROLS, 7, None])
@pytest.mark.parametrize("name", ["reason", "actor"])
def test_reasons_and_actors_are_checked(registry: NodeRegistry, name: str, text: Any) -> None:
    for command in (registry.admin.approve, registry.admin.ban, registry.admin.cordon, registry.admin.uncordon):
        with pytest.raises(ValidationError, match=name):
            command("node-1", **{name: text})


@pytest.mark.parametrize("until", ["tomorrow", 7, __import__("datetime").datetime(2030, 1, 1)])
def test_the_end_of_a_cordon_must_be_a_time_with_its_zone(registry: NodeRegistry, until: Any) -> None:
    with pytest.raises(ValidationError, match="until"):
        registry.admin.cordon("node-1", until=until)


@pytest.mark.parametrize(
    ("detail", "value"),
    [
        ("cpu_quota", 2.5),
        ("host_cpus", 8),
        ("physical_cores", 4),
        ("cpu_model", "x"),
        ("architecture", "x86_64"),
        ("kernel", "6.1"),
        ("gpus", (Gpu(),)),
    ],
)
def test_a_detail_cannot_be_demanded(registry: NodeRegistry, detail: str, value: Any) -> None:
    with pytest.raises(ValidationError, match=rf"min_capabilities\.{detail}"):
        registry.list_nodes(min_capabilities=NodeCapabilities(**{detail: value}))


def test_a_record_that_is_large_as_a_whole_is_refused(registry: NodeRegistry) -> None:
    tags = {f"key-{number}": "x" * 256 for number in range(64)}
    with pytest.raises(ValidationError, match="16384 bytes"):
        registry.register_node(a_node(2, tags=tags))
    with pytest.raises(ValidationError, match="16384 bytes"):
        registry.register_node(a_node(2, extra={"blob": "x" * 20_000}))
    assert registry.get_node("node-2") is None


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "extra", [{"a": deep(5000)}, {"a": NAN}, {"a": object()}, {"a": {1: 2}}, {"a": "\ud800"}, {1: 2}, [], "x"]
)
def test_extra_fields_must_be_json(extra: Any) -> None:
    with pytest.raises(ValidationError, match="extra"):
        a_node(extra=extra)


def test_an_error_shows_no_unprintable_character_of_a_name() -> None:
    with pytest.raises(ValidationError) as caught:
        a_node(tags={"zone\ud7fc": " "})
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("path", [7, b"nodes.json", "", "nodes", "nodes.txt", "no\0des.json", "\ud800.json", [], True])
def test_a_path_that_names_no_kind_of_store_is_refused(path: Any) -> None:
    with pytest.raises(ValidationError, match="persistence_path"):
        NodeRegistry(path)


@pytest.mark.parametrize(
    "options",
    [
        {"read_only": 1},
        {"read_only": True},
        {"thresholds": 0.9},
        {"thresholds": {"memory_usage": 90}},
        {"heartbeat_timeout_seconds": 0},
        {"heartbeat_timeout_seconds": NAN},
        {"heartbeat_timeout_seconds": "60"},
        {"heartbeat_timeout_seconds": True},
    ],
)
def test_options_that_make_no_sense_are_refused(options: Any) -> None:
    with pytest.raises(ValidationError, match=next(iter(options))):
        NodeRegistry(**options)


@pytest.mark.parametrize("options", [{"interval_seconds": 0}, {"interval_seconds": 901}, {"interval_seconds": NAN}])
def test_an_interval_out_of_bounds_is_refused(registry: NodeRegistry, options: Any) -> None:
    with pytest.raises(ValidationError, match="interval_seconds"):
        registry.register_node(a_node(5), **options)


def test_events_refuse_nonsense(registry: NodeRegistry) -> None:
    for index in (-1, 1.5, True, None, "0"):
        with pytest.raises(ValidationError, match="index"):
            registry.events.after(index)  # type: ignore[arg-type]  # the point of the test
    for wait in (-1, NAN, True, "1", 601):
        with pytest.raises(ValidationError, match="wait_seconds"):
            registry.events.after(0, wait)  # type: ignore[arg-type]  # the point of the test
