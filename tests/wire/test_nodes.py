"""Nodes read quickly are the nodes that the checked way reads, and what it refuses is refused."""

from __future__ import annotations

import copy
import json
from datetime import datetime, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_core.errors import ValidationError
from registry_core.models.addresses import WITHHELD_ADDRESS
from registry_core.models.encoding import node_from_plain, node_to_plain
from registry_core.models.node import Gpu, Node, NodeCapabilities
from registry_core.models.status import Condition, Conditions, Cordon, NodeHealth, Scheduling
from registry_core.wire import nodes
from registry_core.wire.nodes import LARGEST_NODE_BYTES, decode_node

AT = datetime(2026, 1, 31, 12, 0, 0, 250_000, tzinfo=timezone.utc)
OFFER = NodeCapabilities(
    16,
    64.0,
    1000.0,
    gpus=(
        Gpu("NVIDIA", "NVIDIA H100 80GB HBM3", 80.0, "GPU-1234", "550.54"),
        Gpu("AMD", "MI300X", 192.0, usable=False, reason="no driver"),
    ),
    cpu_quota=15.5,
    host_cpus=32,
    physical_cores=16,
    cpu_model="AMD EPYC 9354 32-Core Processor",
    architecture="x86_64",
    kernel="6.1.0-18-amd64",
)
FULL = Node(
    "10.1.2.3",
    "0x" + "a" * 40,
    OFFER,
    "n1" + "abcdefgh" * 6 + "abcd",
    addresses=("10.1.2.3", "2001:db8::7"),
    port=8443,
    hostname="worker-17.example",
    os_version="Debian GNU/Linux 12",
    agent_version="1.2.3",
    public_key="A" * 43 + "=",
    tags={"zone": "eu-1", "ü": "✓"},
    health=NodeHealth(1.5, 40.0, None, AT, Conditions(Condition.OK, Condition.CRITICAL)),
    reputation=3.42,
    registered_at=AT,
    scheduling=Scheduling.CORDONED,
    cordon=Cordon("new disk", "ann", AT),
)
PLAIN = json.loads(json.dumps(node_to_plain(FULL)))


def outcome(read: Any) -> Any:
    """The node, or that it is refused: both ways must come to the same."""
    try:
        return read()
    except ValidationError:
        return ValidationError


def checked(plain: dict[str, Any]) -> Node:
    if not plain.get("id"):
        raise ValidationError("id", None, "must be given")
    return node_from_plain({"ip_address": WITHHELD_ADDRESS, **plain})


def places(plain: Any, before: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values in nested maps and lists."""
    inner = plain.items() if isinstance(plain, dict) else enumerate(plain) if isinstance(plain, list) else ()
    return [path for key, value in inner for path in ((*before, key), *places(value, (*before, key)))]


def with_value(path: tuple[Any, ...], value: object) -> dict[str, Any]:
    plain: Any = copy.deepcopy(PLAIN)
    target = plain
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    return plain  # type: ignore[no-any-return]  # a map


values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 300),
    st.sampled_from(
        [-1, 2**31, 2**63, 65_536, 65_537, 10**30, 0.5, -0.0, -0.001, 5.0, 5.01, 100.0, 100.1, 1e15, 1e300]
    ),
    st.text(max_size=8),
    st.sampled_from(
        ["", " a", "a ", "!", "a !", "! a", "a\x1b[2J", "a\u202eb", "\u00a0a", "ä", "x" * 64, "x" * 65, "x" * 300]
    ),
    st.sampled_from(
        [
            "::1",
            "::",
            "ff02::1",
            "::ffff:10.0.0.1",
            "2001:DB8::7",
            "2001:db8:0::7",
            "fe80::1%eth0",
            "10.0.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "010.0.0.1",
            "2001:db8:0:1:1:1:1:1",
            "64:ff9b::10.0.0.1",
        ]
    ),
    st.sampled_from(
        [
            "2026-01-31T12:00:00Z",
            "2026-01-31T12:00:00.123456Z",
            "2026-01-31T12:00:00+02:00",
            "0001-01-01T00:00:00+14:00",
        ]
    ),
    st.sampled_from(["ok", "critical", "live", "banned", "approved", "cordoned"]),
    st.lists(st.integers(0, 2), max_size=2),
    st.dictionaries(st.text(max_size=3), st.one_of(st.text(max_size=3), st.integers(0, 2)), max_size=2),
)


@settings(max_examples=1500, deadline=None)
@given(path=st.sampled_from([*places(PLAIN), ("extra_field",), ("health", "more"), ("tags", "a b")]), value=values)
def test_the_quick_way_reads_what_the_checked_way_reads(path: tuple[Any, ...], value: object) -> None:
    plain = with_value(path, value)
    text = msgspec.json.encode(plain)
    expected = outcome(lambda: checked(msgspec.json.decode(text)))
    found = outcome(lambda: decode_node(text))
    assert found == expected, (path, value)
    if isinstance(found, Node):
        assert node_to_plain(found) == node_to_plain(expected)
        assert {name: type(value) for name, value in vars(found).items()} == {
            name: type(value) for name, value in vars(expected).items()
        }


@settings(max_examples=300, deadline=None)
@given(path=st.sampled_from(places(PLAIN)))
def test_a_field_that_is_absent_takes_the_same_default(path: tuple[Any, ...]) -> None:
    plain: Any = copy.deepcopy(PLAIN)
    target = plain
    for key in path[:-1]:
        target = target[key]
    del target[path[-1]]
    text = msgspec.json.encode(plain)
    assert outcome(lambda: decode_node(text)) == outcome(lambda: checked(plain)), path


def test_a_usual_node_goes_the_quick_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would be right and five times as slow."""
    monkeypatch.setattr(nodes, "_checked", None)
    assert decode_node(msgspec.json.encode(PLAIN)) == FULL
    without_addresses = {name: value for name, value in PLAIN.items() if name not in ("ip_address", "addresses")}
    assert decode_node(msgspec.json.encode(without_addresses)).ip_address == WITHHELD_ADDRESS


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        (("capabilities", "gpus"), [{}] * 257, "gpus"),
        (("capabilities", "memory_gb"), 1e300, "memory_gb"),
        (("capabilities", "cpu_cores"), 2**64 - 1, "cpu_cores"),
        (("hostname",), "x" * 254, "hostname"),
        (("hostname",), "a\x1b[2J", "hostname"),
        (("tags",), {str(number): "" for number in range(65)}, "tags"),
        (("reputation",), 5.01, "reputation"),
        (("id",), "../../etc", "id"),
        (("id",), "", "id"),
        (("public_key",), "A" * 44, "public_key"),
        (("admission",), "king", "admission"),
        (("extra_field",), "x" * LARGEST_NODE_BYTES, "node"),
    ],
)
def test_nonsense_is_refused_by_name(path: tuple[Any, ...], value: object, field: str) -> None:
    with pytest.raises(ValidationError, match=field):
        decode_node(msgspec.json.encode(with_value(path, value)))


def test_a_field_of_a_newer_version_is_kept() -> None:
    node = decode_node(msgspec.json.encode(with_value(("from_the_future",), [1, {"x": None}])))
    assert node.extra == {"from_the_future": (1, {"x": None})}
    assert node.hostname == FULL.hostname


@pytest.mark.parametrize("text", [b"", b"[]", b"7", b"null", b'{"id":', b"\xff", b'{"id":"a","port":1e999}'])
def test_what_is_no_node_is_refused(text: bytes) -> None:
    with pytest.raises((ValidationError, msgspec.MsgspecError, ValueError)):
        decode_node(text)
