"""The runner isolates probes, nothing unbelievable gets past it, and the operator's word is marked."""

from __future__ import annotations

import threading
from typing import Any, Optional

import pytest

from agent.probe.live_source import LiveSource
from agent.probe.options import ProbeOptions
from agent.probe.probes import PROBE_NAMES, all_probes
from agent.probe.reading import Failure, Reading
from agent.probe.runner import ProbeRunner
from agent.probe.source import Source
from registry_core.errors import ValidationError


class Said:
    """A probe that says what it was told to say."""

    cadence_seconds = 60.0
    deadline_seconds = 0.2

    def __init__(self, name: str, *readings: Reading, error: Optional[Exception] = None) -> None:
        self.name = name
        self.readings = list(readings)
        self.error = error
        self.hang: Optional[threading.Event] = None

    def read(self, _source: Source, _options: ProbeOptions) -> tuple[list[Reading], list[Failure]]:
        if self.hang is not None:
            self.hang.wait()
        if self.error is not None:
            raise self.error
        return list(self.readings), []


def ran(*probes: Said, **options: Any) -> dict[str, Any]:
    return ProbeRunner(LiveSource(), ProbeOptions("/", **options), probes).run().to_plain()


def gpu(**fields: Any) -> dict[str, Any]:
    return {
        "vendor": "NVIDIA",
        "model": "H100",
        "memory_gb": 80.0,
        "uuid": "GPU-1",
        "driver_version": "550",
        "usable": True,
        "reason": "",
        **fields,
    }


def test_a_probe_that_fails_is_an_error_and_the_others_go_on() -> None:
    plain = ran(Said("cpu", error=ValueError("odd")), Said("memory", Reading("memory_gb", 8.0, "GB")))
    assert plain["errors"] == [{"probe": "cpu", "message": "ValueError: odd"}]
    assert plain["capabilities"]["memory_gb"] == 8.0


def test_a_probe_that_hangs_is_left_behind_and_not_started_twice() -> None:
    slow = Said("cpu", Reading("cpu_cores", 4, "CPUs"))
    slow.hang = threading.Event()
    runner = ProbeRunner(LiveSource(), ProbeOptions("/"), [slow, Said("memory", Reading("memory_gb", 8.0))])
    assert runner.run().to_plain()["errors"] == [{"probe": "cpu", "message": "no answer in 0.2 s"}]
    assert runner.run().to_plain()["errors"] == [{"probe": "cpu", "message": "an earlier call is still stuck"}]
    slow.hang.set()


def test_every_probe_is_listed_once_with_a_cadence() -> None:
    assert tuple(probe.name for probe in all_probes()) == PROBE_NAMES
    assert set(ProbeRunner(LiveSource()).cadences()) == set(PROBE_NAMES)
    assert all(seconds > 0 for seconds in ProbeRunner(LiveSource()).cadences().values())
    with pytest.raises(ValidationError, match="only"):
        ProbeRunner(LiveSource()).run(["cpus"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cpu_cores", 0),
        ("cpu_cores", 18446744073709551615),
        ("cpu_cores", True),
        ("memory_gb", -1.0),
        ("memory_gb", float("nan")),
        ("storage_gb", float("inf")),
        ("cpu_steal_percent", 101.0),
        ("cpu_max_mhz", 5_000_000),
        ("hostname", "a\x1b[31m"),
        ("cpu_model", "x" * 500),
    ],
)
def test_what_is_out_of_range_becomes_an_error_with_its_raw_value(name: str, value: Any) -> None:
    plain = ran(Said("cpu", Reading(name, value)))
    (error,) = plain["errors"]
    assert error["reading"] == name
    assert error["raw"] == (value if value == value and value != float("inf") else repr(value))
    assert plain["readings"][0]["value"] is None
    assert plain["capabilities"].get(name) in (0, 0.0, "", None)


def test_a_part_that_is_more_than_its_whole_is_not_believed() -> None:
    plain = ran(Said("cpu", Reading("cpu_cores", 8), Reading("host_cpus", 4)))
    assert plain["errors"][0] == {
        "probe": "cpu",
        "message": "implausible: more than host_cpus, which is 4",
        "reading": "cpu_cores",
        "raw": 8,
    }
    assert plain["capabilities"]["cpu_cores"] is None
    assert plain["capabilities"]["host_cpus"] == 4


def test_a_gpu_with_a_nonsensical_field_is_told_as_unusable_and_never_lost() -> None:
    plain = ran(Said("gpu", Reading("gpus", [gpu(memory_gb=-3.0)]), Reading("gpu_enabled", True)))
    (told,) = plain["capabilities"]["gpus"]
    assert (told["usable"], told["memory_gb"]) == (False, 0.0)
    assert "memory_gb" in told["reason"]
    assert plain["capabilities"]["gpu_enabled"] is False
    assert plain["errors"][0]["reading"] == "gpus[0].memory_gb"


def test_an_impossible_number_of_gpus_is_an_error_and_no_gpu() -> None:
    plain = ran(Said("gpu", Reading("gpus", [gpu()] * 300), Reading("gpu_enabled", True)))
    assert plain["errors"][0]["raw"] == 300
    assert plain["capabilities"]["gpus"] == []
    assert plain["capabilities"]["gpu_enabled"] is False


def test_a_reserve_is_taken_off_and_marked() -> None:
    plain = ran(
        Said("cpu", Reading("cpu_cores", 4, "CPUs"), Reading("host_cpus", 8)),
        Said("memory", Reading("memory_gb", 16.0, "GB", limited_by="/sys/x")),
        reserve_cpus=1,
        reserve_memory_gb=2.5,
    )
    cores, _, memory = plain["readings"]
    assert (cores["value"], cores["container"], cores["set_by"]) == (3, 4, "reserve")
    assert (memory["value"], memory["limited_by"]) == (13.5, "/sys/x; 2.5 GB reserved by the operator")


def test_a_reserve_leaves_one_cpu_and_no_negative_memory() -> None:
    plain = ran(
        Said("cpu", Reading("cpu_cores", 2, "CPUs")),
        Said("memory", Reading("memory_gb", 1.0, "GB")),
        reserve_cpus=9,
        reserve_memory_gb=5,
    )
    assert (plain["capabilities"]["cpu_cores"], plain["capabilities"]["memory_gb"]) == (1, 0.0)


def test_an_override_stands_in_also_for_what_could_not_be_measured() -> None:
    plain = ran(Said("storage", error=OSError("gone")), overrides={"storage_gb": 500.0})
    assert plain["capabilities"]["storage_gb"] == 500.0
    assert plain["readings"] == [
        {
            "name": "storage_gb",
            "value": 500.0,
            "unit": "GB",
            "source": "operator",
            "limited_by": "overridden by the operator",
            "set_by": "override",
        }
    ]
    assert plain["errors"], "that it could not be measured is still told"


@pytest.mark.parametrize("enabled", [True, False])
def test_switching_gpus_on_or_off_goes_for_each_of_them(enabled: bool) -> None:
    readings = (
        Reading("gpus", [gpu(usable=not enabled, reason="x" if enabled else "")]),
        Reading("gpu_enabled", not enabled),
    )
    runner = ProbeRunner(LiveSource(), ProbeOptions("/", overrides={"gpu_enabled": enabled}), [Said("gpu", *readings)])
    capabilities = runner.run().capabilities  # the record refuses a list that disagrees with gpu_enabled
    assert capabilities.gpu_enabled is enabled
    assert capabilities.gpus[0].usable is enabled


@pytest.mark.parametrize(
    "wrong",
    [
        {"reserve_cpus": -1},
        {"reserve_cpus": 1.5},
        {"reserve_memory_gb": float("nan")},
        {"overrides": {"cpu_cores": 0}},
        {"overrides": {"kernel": "x"}},
        {"overrides": {"primary_address": "host.example"}},
        {"overrides": {"gpu_enabled": 1}},
        {"work_dir": ""},
        {"registry_address": "host example"},
    ],
)
def test_options_that_make_no_sense_are_refused_with_their_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        ProbeOptions(**{"work_dir": "/", **wrong})
    assert any(part in caught.value.field for part in (*wrong, *wrong.get("overrides", ())))
