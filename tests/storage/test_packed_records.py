"""What is packed comes back whole, field by field, also fields that are added to the records later."""

from __future__ import annotations

from dataclasses import MISSING, fields
from datetime import timedelta
from typing import Any

import pytest

from registry_core.models.frozen import FrozenMap
from registry_core.models.node import Gpu, Node, NodeCapabilities
from registry_core.models.record import NodeRecord
from registry_core.models.reputation import Evidence
from registry_core.models.status import Admission, Cordon, Liveness, Scheduling
from registry_core.storage.packed_records import pack, unpack
from registry_core.testing import START

GPU: dict[str, Any] = {
    "vendor": "NVIDIA", "model": "H100", "memory_gb": 80.0, "uuid": "GPU-1", "driver_version": "550", "usable": False,
    "reason": "lost", "shared_memory_gb": 130.663,
}  # fmt: skip
OFFER: dict[str, Any] = {
    "cpu_cores": 8, "memory_gb": 0.1 + 0.2, "storage_gb": 1e9, "gpu_enabled": True, "gpus": (Gpu("AMD", "MI300"),),
    "cpu_quota": 7.5, "host_cpus": 16, "physical_cores": 8, "cpu_model": "CPU", "architecture": "x86_64", "kernel": "6",
}  # fmt: skip
NODE: dict[str, Any] = {
    "ip_address": "2001:db8::1", "wallet_address": "wället", "capabilities": NodeCapabilities(**OFFER), "id": "node",
    "addresses": ("2001:db8::1", "10.0.0.1"), "port": 7000, "hostname": "höst", "os_version": "os",
    "agent_version": "0.1", "tags": {"a": "≥", "b": ""}, "reputation": 4.99,
    "registered_at": START + timedelta(milliseconds=7), "admission": Admission.BANNED, "admission_reason": "it lied",
    "liveness": Liveness.LEFT, "scheduling": Scheduling.CORDONED,
    "cordon": Cordon("repair", "ann", START + timedelta(hours=1)), "extra": {"rack": [1, {"deep": None}]},
    "public_key": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
}  # fmt: skip
NOT_DURABLE = {"health"}


def test_every_field_has_its_case_here() -> None:
    assert set(GPU) == {item.name for item in fields(Gpu)}
    assert set(OFFER) == {item.name for item in fields(NodeCapabilities)}
    assert set(NODE) == {item.name for item in fields(Node)} - NOT_DURABLE


@pytest.mark.parametrize("name", NODE)
def test_each_field_of_a_node_survives_alone(name: str) -> None:
    record = NodeRecord(Node(**{"ip_address": "10.0.0.1", "id": "node", name: NODE[name]}), sequence=7)
    assert unpack(pack(record)) == record


@pytest.mark.parametrize("name", OFFER)
def test_each_field_of_an_offer_survives_alone(name: str) -> None:
    record = NodeRecord(Node("10.0.0.1", capabilities=NodeCapabilities(**{name: OFFER[name]})), sequence=0)
    assert unpack(pack(record)) == record


def test_a_record_with_everything_survives_and_can_be_changed_by_nobody() -> None:
    node = Node(**{**NODE, "capabilities": NodeCapabilities(gpus=(Gpu(**GPU),))})
    record = NodeRecord(
        node,
        sequence=2**40,
        evidence=FrozenMap({"correctness": Evidence(0.1, 1e15)}),
        interval_seconds=0.2,
        host_state=FrozenMap({"generation": 2**63, "deep": FrozenMap({"list": (1, None)})}),
        unknown=FrozenMap({"capabilities": FrozenMap({"npu_count": 2})}),
    )
    again = unpack(pack(record))
    assert again == record
    assert isinstance(again.node.tags, FrozenMap)
    assert isinstance(again.node.addresses, tuple)


def test_a_record_of_defaults_is_short() -> None:
    assert len(pack(NodeRecord(Node("10.0.0.1", id="node"), sequence=1))) < 60


@pytest.mark.parametrize("packed", [b"", b"{", b"[]", b"null", b'{"id": "x"}', b'{"sequence": 1, "tags": 5}'])
def test_bytes_that_are_no_record_are_an_error(packed: bytes) -> None:
    with pytest.raises((ValueError, KeyError, TypeError, AttributeError)):
        unpack(packed)


def test_defaults_are_left_out_only_where_they_stay_the_same() -> None:
    """A field whose default depends on others must be written, or it comes back as another value."""
    assert [item.name for item in fields(Node) if item.default is MISSING and item.default_factory is MISSING] == [
        "ip_address"
    ]
    record = NodeRecord(Node("10.0.0.1", capabilities=NodeCapabilities(gpu_enabled=True)), sequence=1)
    assert unpack(pack(record)).node.capabilities.gpu_enabled is True
