"""The stand-in for NVIDIA's library, compiled once, and the way to talk to it through the real nvidia-ml-py."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any, Protocol

import pytest

from agent.probe.gpu.nvml_call import NvmlCaller
from tests.support.requirements import need_program

_SOURCE = Path(__file__).with_name("fake_nvml.c")


def compile_library(folder: Path, *flags: str) -> Path:
    """The folder that holds a fake `libnvidia-ml.so.1`, for LD_LIBRARY_PATH."""
    compiler = need_program("gcc", "gcc")
    folder.mkdir(exist_ok=True)
    command = [compiler, "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", *flags]
    subprocess.run([*command, "-o", str(folder / "libnvidia-ml.so.1"), str(_SOURCE)], check=True)
    return folder


@pytest.fixture(scope="session")
def fake_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_library(tmp_path_factory.mktemp("nvml"))


class AskNvml(Protocol):
    def __call__(
        self, behaviour: str, bus_ids: tuple[str, ...] = ..., *, deadline_seconds: float = ..., log: str = ...
    ) -> dict[str, Any]: ...


def library_environment(folder: Path, behaviour: str, log: str = "") -> dict[str, str]:
    return {**os.environ, "LD_LIBRARY_PATH": str(folder), "FAKE_NVML": behaviour, "FAKE_NVML_LOG": log}


@pytest.fixture
def ask_nvml(fake_library: Path) -> AskNvml:
    """Ask a library that behaves in a certain way: the document of the child process."""

    def ask(
        behaviour: str, bus_ids: tuple[str, ...] = (), *, deadline_seconds: float = 20.0, log: str = ""
    ) -> dict[str, Any]:
        environment = library_environment(fake_library, behaviour, log)
        return NvmlCaller(deadline_seconds, environment).ask(bus_ids)

    return ask
