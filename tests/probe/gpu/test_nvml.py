"""NVIDIA's library in a process of its own: a fake one, compiled here, speaks through the real nvidia-ml-py."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from agent.probe.gpu import nvml_call
from agent.probe.gpu.nvml import NvmlAnswer, NvmlGpu, bus_address, nvml_answer
from agent.probe.gpu.nvml_call import NvmlCaller
from agent.probe.gpu.reasons import word_of
from tests.probe.gpu.conftest import AskNvml, compile_library, library_environment

pytestmark = pytest.mark.xdist_group("timing")  # what it measures bears no other measurement beside it


FIRST, SECOND = "0000:10:00.0", "0000:20:00.0"
FIRST_UUID = "GPU-00000000-0000-4000-8000-000000000001"
SECOND_UUID = "GPU-00000000-0000-4000-8000-000000000002"


def words(answer: NvmlAnswer) -> list[str]:
    return [word_of(gpu.reason) for gpu in answer.gpus]


def test_two_healthy_gpus_are_told_with_memory_uuid_and_driver(ask_nvml: AskNvml) -> None:
    answer = nvml_answer(ask_nvml("healthy", (FIRST, SECOND)))
    assert answer == NvmlAnswer(
        gpus=[
            NvmlGpu(FIRST, FIRST_UUID, "NVIDIA A100-SXM4-80GB", 85899345920, ""),
            NvmlGpu(SECOND, SECOND_UUID, "NVIDIA A100-SXM4-80GB", 85899345920, ""),
        ],
        reason="not-offered: the driver does not give this GPU to this process; "
        "a container was started without it, or the driver could not start it (check dmesg)",
        driver_version="550.54.15",
        cuda_version="12.4",
        failures=[],
        knows_library=True,
    )


def test_without_bus_ids_all_are_asked_by_index(ask_nvml: AskNvml) -> None:
    by_index, by_bus = nvml_answer(ask_nvml("healthy")), nvml_answer(ask_nvml("healthy", (FIRST, SECOND)))
    assert by_index == by_bus


def test_only_the_gpus_that_are_named_are_touched(ask_nvml: AskNvml, tmp_path: Path) -> None:
    log = tmp_path / "touched"
    ask_nvml("healthy", (SECOND,), log=str(log))
    assert log.read_text() == "init 0\nopen 1\n"


def test_mig_instances_take_the_place_of_their_gpu(ask_nvml: AskNvml) -> None:
    answer = nvml_answer(ask_nvml("mig", (FIRST, SECOND)))
    assert [(gpu.uuid, gpu.model, gpu.memory_bytes, gpu.parent) for gpu in answer.gpus] == [
        ("MIG-00000000-0000-4000-8000-000000000065", "NVIDIA A100-SXM4-80GB MIG 1g.10gb", 10200547328, FIRST_UUID),
        ("MIG-00000000-0000-4000-8000-000000000067", "NVIDIA A100-SXM4-80GB MIG 1g.10gb", 10200547328, FIRST_UUID),
        (SECOND_UUID, "NVIDIA A100-SXM4-80GB", 85899345920, ""),
    ]
    assert words(answer) == ["", "", ""]


def test_a_gpu_in_mig_mode_without_instances_is_not_offered(ask_nvml: AskNvml) -> None:
    answer = nvml_answer(ask_nvml("mig,instances=0", (FIRST,)))
    assert words(answer) == ["mig-empty"]


@pytest.mark.parametrize(
    ("code", "word"),
    [
        (4, "no-permission"),
        (9, "driver-not-loaded"),
        (12, "library-missing"),
        (18, "version-mismatch"),
        (999, "devices-lost"),
        (77, "nvml-error"),
    ],
)
def test_a_library_that_refuses_says_why(ask_nvml: AskNvml, code: int, word: str) -> None:
    answer = nvml_answer(ask_nvml(f"init={code}", (FIRST,)))
    assert (word_of(answer.reason), answer.gpus) == (word, [])


def test_a_host_without_the_library_says_so(tmp_path: Path) -> None:
    # -I -S and an empty folder: libnvidia-ml.so.1 is on no path of a machine without NVIDIA's driver
    answer = nvml_answer(NvmlCaller(environment={"LD_LIBRARY_PATH": str(tmp_path)}).ask((FIRST,)))
    assert word_of(answer.reason) == "library-missing"


def test_a_lost_gpu_keeps_its_place_and_the_other_is_offered(ask_nvml: AskNvml) -> None:
    answer = nvml_answer(ask_nvml("lost", (FIRST, SECOND)))
    assert [(gpu.address, word_of(gpu.reason)) for gpu in answer.gpus] == [(FIRST, ""), (SECOND, "lost")]


def test_a_gpu_that_is_lost_between_two_questions_is_lost(ask_nvml: AskNvml) -> None:
    assert words(nvml_answer(ask_nvml("code:nvmlDeviceGetMemoryInfo=15", (FIRST,)))) == ["lost"]


def test_a_gpu_that_a_container_may_not_see_is_not_offered(ask_nvml: AskNvml) -> None:
    answer = nvml_answer(ask_nvml("count=1", (FIRST, SECOND)))
    assert words(answer) == ["", "not-offered"]


def test_a_gpu_whose_compute_mode_forbids_work_is_not_offered(ask_nvml: AskNvml) -> None:
    assert words(nvml_answer(ask_nvml("compute-mode=2", (FIRST,)))) == ["compute-prohibited"]


def test_a_missing_symbol_costs_one_value_and_is_told(tmp_path: Path) -> None:
    folder = compile_library(tmp_path / "old", "-DWITHOUT_UUID")
    answer = nvml_answer(NvmlCaller(environment=library_environment(folder, "healthy")).ask((FIRST,)))
    assert answer.gpus == [NvmlGpu(FIRST, "", "NVIDIA A100-SXM4-80GB", 85899345920, "")]
    assert [(failure.message, failure.raw) for failure in answer.failures] == [
        ("nvmlDeviceGetUUID failed for the GPU 0000:10:00.0", 13)
    ]


@pytest.mark.parametrize(("behaviour", "name"), [("crash", "SIGSEGV"), ("abort", "SIGABRT")])
def test_a_crash_is_a_reason_with_the_signal_and_the_call(ask_nvml: AskNvml, behaviour: str, name: str) -> None:
    document = ask_nvml(behaviour, (FIRST,))
    assert document == {"outcome": "crashed", "devices": [], "at": "nvmlInit", "signal": name}
    assert nvml_answer(document).reason == (
        f"library-crashed: NVIDIA's library crashed with {name} in nvmlInit; check dmesg"
    )


def test_a_hang_is_ended_at_the_deadline(ask_nvml: AskNvml) -> None:
    began = time.monotonic()
    answer = nvml_answer(ask_nvml("hang", (FIRST,), deadline_seconds=0.5))
    assert time.monotonic() - began < 5
    assert answer.reason == (
        "library-hung: NVIDIA's library did not answer in time in nvmlInit and was killed; check dmesg"
    )


def test_what_the_library_leaves_running_holds_up_nobody_and_is_ended(ask_nvml: AskNvml) -> None:
    for behaviour, outcome in (("offspring", "answered"), ("offspring,crash", "crashed")):
        began = time.monotonic()
        assert ask_nvml(behaviour, (FIRST,))["outcome"] == outcome
        assert time.monotonic() - began < 10
    script = str(nvml_call._SCRIPT)
    left = [process for process in psutil.process_iter(["cmdline"]) if script in (process.info["cmdline"] or [])]
    assert [process for process in left if process.status() != psutil.STATUS_ZOMBIE] == []


def test_while_one_question_is_held_in_the_driver_no_other_is_asked(fake_library: Path) -> None:
    caller = NvmlCaller(environment=library_environment(fake_library, "healthy"))
    with subprocess.Popen(["sleep", "60"]) as held:  # stands for a process that SIGKILL does not end
        caller._stuck = held
        assert word_of(nvml_answer(caller.ask((FIRST,))).reason) == "driver-stuck"
        held.kill()
    assert caller.ask((FIRST,))["outcome"] == "answered"


def test_a_process_whose_listener_has_died_ends_itself(fake_library: Path) -> None:
    folder = nvml_call.pynvml_folder()
    assert folder is not None
    reading_end, writing_end = os.pipe()
    command = [sys.executable, "-I", "-S", str(nvml_call._SCRIPT), str(writing_end), "1", folder]
    environment = library_environment(fake_library, "hang")
    done = subprocess.run(command, env=environment, pass_fds=[writing_end], timeout=20)
    os.close(reading_end)
    os.close(writing_end)
    assert done.returncode == -signal.SIGALRM


def test_what_the_library_prints_is_told_and_spoils_nothing(
    ask_nvml: AskNvml, capfd: pytest.CaptureFixture[str]
) -> None:
    answer = nvml_answer(ask_nvml("noise", (FIRST,)))
    assert words(answer) == [""]
    assert [failure.raw for failure in answer.failures] == ["NVIDIA: welcome to the library"]
    assert capfd.readouterr() == ("", "")


def test_a_count_that_cannot_be_is_told_and_nobody_counts_so_far(ask_nvml: AskNvml) -> None:
    answer = nvml_answer(ask_nvml("count=4294967295"))
    assert (answer.gpus, [failure.raw for failure in answer.failures]) == ([], [4294967295])


def test_a_name_that_is_no_text_is_told(ask_nvml: AskNvml) -> None:
    answer = nvml_answer(ask_nvml("badtext", (FIRST,)))
    assert (answer.gpus[0].model, answer.failures[0].raw) == ("", "not text")


def test_without_nvidia_ml_py_the_reason_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    # the finder is what says "not installed": uninstalling it for one test would be slower and no truer
    monkeypatch.setattr(nvml_call, "find_spec", lambda _name: None)
    answer = nvml_answer(NvmlCaller().ask((FIRST,)))
    assert answer.reason.endswith("pip install nvidia-ml-py")


def test_our_own_settings_are_kept_from_the_vendors_library(fake_library: Path) -> None:
    kept = nvml_call._childs_environment({"DUXNET_TOKEN": "secret", "PYTHONPATH": "x", "LD_LIBRARY_PATH": "y"})
    assert kept == {"LD_LIBRARY_PATH": "y"}


def test_no_library_and_no_process_is_left_behind(ask_nvml: AskNvml) -> None:
    ourselves = psutil.Process()
    before = ourselves.num_fds(), ourselves.children()
    for behaviour in ("healthy", "crash", "init=9"):
        ask_nvml(behaviour, (FIRST,))
    assert (ourselves.num_fds(), ourselves.children()) == before
    assert "pynvml" not in sys.modules


@pytest.mark.parametrize(
    ("bus_id", "address"),
    [
        ("00000000:3B:00.0", "0000:3b:00.0"),
        ("0001:0a:1f.7", "0001:0a:1f.7"),
        ("00010000:01:00.0", "10000:01:00.0"),  # what Windows' Linux and Intel's VMD make of domains
        ("", ""),
        (None, ""),
        ("nonsense", ""),
    ],
)
def test_bus_ids_are_written_as_the_kernel_writes_them(bus_id: object, address: str) -> None:
    assert bus_address(bus_id) == address
