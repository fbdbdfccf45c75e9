"""Memory that a GPU shares with its machine: kept, packed, and found only by who asks for it."""

from __future__ import annotations

import pytest

from registry_core.errors import ValidationError
from registry_core.models.columns import columns_of, gpu_groups
from registry_core.models.encoding import capabilities_from_plain, capabilities_to_plain
from registry_core.models.node import Gpu, Node, NodeCapabilities
from registry_core.models.record import NodeRecord
from registry_core.query.conditions import CONDITIONS, GpuDemand, Subject, has_gpus
from registry_core.storage.packed_records import pack, unpack

SPARK = Gpu("NVIDIA", "GB10", 0.0, shared_memory_gb=130.663)
CARD = Gpu("NVIDIA", "H100", 85.0)
(CONDITION,) = (condition for condition in CONDITIONS if condition.field == "gpus")


def node(*gpus: Gpu) -> Node:
    return Node("192.0.2.1", capabilities=NodeCapabilities(gpus=gpus))


def test_it_goes_through_json_and_bytes_and_a_record_without_it_looks_as_before() -> None:
    offer = node(SPARK, CARD).capabilities
    plain = capabilities_to_plain(offer)
    assert plain["gpus"][0]["shared_memory_gb"] == 130.663
    assert "shared_memory_gb" not in plain["gpus"][1]
    assert capabilities_from_plain(plain) == offer
    record = NodeRecord(node(SPARK, CARD), 1)
    assert unpack(pack(record)) == record
    assert b"shared_memory_gb" not in pack(NodeRecord(node(CARD), 1))


@pytest.mark.parametrize("wrong", [-1, float("nan"), "64", True, 1e12])
def test_what_cannot_be_is_refused_by_its_name(wrong: object) -> None:
    with pytest.raises(ValidationError, match="shared_memory_gb"):
        Gpu(shared_memory_gb=wrong)  # type: ignore[arg-type]  # on purpose


@pytest.mark.parametrize(
    ("demand", "found"),
    [
        (GpuDemand(memory_gb=64), [CARD]),
        (GpuDemand(memory_gb=64, or_shared=True), [SPARK, CARD]),
        (GpuDemand(memory_gb=100, or_shared=True), [SPARK]),
        (GpuDemand(memory_gb=200, or_shared=True), []),
        (GpuDemand(model="gb10"), [SPARK]),
    ],
)
def test_shared_memory_counts_for_who_asks_for_it_by_the_row_and_by_the_index(
    demand: GpuDemand, found: list[Gpu]
) -> None:
    for gpu in (SPARK, CARD):
        own = node(gpu)
        assert CONDITION.holds(Subject(own), demand) is (gpu in found)
        packed = columns_of(NodeRecord(own, 1)).gpus
        assert has_gpus(gpu_groups(packed), demand) is (gpu in found)


def test_texts_that_were_packed_before_are_read() -> None:
    assert has_gpus(gpu_groups('[[2,"nvidia","h100",85.0]]'), GpuDemand(2, memory_gb=80, or_shared=True))


def test_the_parameters_say_the_same_as_the_demand() -> None:
    demand = GpuDemand(1, memory_gb=64.0, or_shared=True)
    assert CONDITION.to_parameters(demand) == {"gpu_count": 1, "gpu_memory_gb": 64.0, "gpu_shared": True}
    assert CONDITION.from_parameters(CONDITION.to_parameters(demand)) == demand
    (failing,) = CONDITION.failing(Subject(node(SPARK)), GpuDemand(memory_gb=64))
    assert "130.663 GB shared" in failing.found
