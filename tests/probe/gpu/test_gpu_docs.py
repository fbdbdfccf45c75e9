"""The page on the probe names every reason that a GPU can be unusable for, and every reading about GPUs."""

from __future__ import annotations

import re
from pathlib import Path

import agent.probe.gpu
from agent.probe.probes import gpu as gpu_probe

FOLDER = Path(agent.probe.gpu.__file__).parent
PAGE = (Path(__file__).parents[3] / "docs" / "probe.md").read_text()


def test_the_page_names_every_reason() -> None:
    source = "\n".join((FOLDER / name).read_text() for name in ("reasons.py", "nvml.py", "plausibility.py"))
    words = set(re.findall(r'f?"([a-z]+(?:-[a-z]+)*): [\w{]', source))
    assert len(words) > 20
    assert sorted(word for word in words if f"`{word}`" not in PAGE) == []


def test_the_page_names_every_reading() -> None:
    names = set(re.findall(r'"(gpus|gpu_\w+|display_adapters|accelerators)"', Path(gpu_probe.__file__).read_text()))
    assert sorted(name for name in names if f"`{name}`" not in PAGE) == []
