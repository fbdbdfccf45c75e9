"""Power loss can't be tried here. That the flush comes before the answer can be seen in the system calls."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.requirements import need_program

PROGRAM = """
import os, sys
from registry_core import Node, NodeRegistry
registry = NodeRegistry(sys.argv[1], encryption_key=bytes(range(32)) if sys.argv[2] == "sealed" else None)
os.write(1, b"answer open\\n")
for number in range(4):
    registry.register_node(Node("10.0.0.1", id=f"n{number}"))
    os.write(1, b"answer registered\\n")
registry.update_node_health("n0", 1.0, 2.0, 3.0)
os.write(1, b"answer sample\\n")
registry.update_node_reputation("n0", True)
os.write(1, b"answer outcome\\n")
with registry.batch():
    for number in range(50):
        registry.register_node(Node("10.0.0.1", id=f"b{number}"))
os.write(1, b"answer batch\\n")
registry.deregister_node("n1")
os.write(1, b"answer removed\\n")
"""


@pytest.mark.parametrize("name", ["nodes.json", "nodes.db"])
@pytest.mark.parametrize("sealed", ["plain", "sealed"])
def test_each_durable_answer_comes_behind_a_flush_and_a_batch_costs_one(tmp_path: Path, name: str, sealed: str) -> None:
    strace = need_program("strace", "strace")
    log = tmp_path / "calls"
    command = [strace, "-f", "-o", str(log), "-e", "trace=fsync,fdatasync,write,rename", sys.executable, "-c", PROGRAM]
    done = subprocess.run([*command, str(tmp_path / name), sealed], capture_output=True, text=True)
    if "ptrace" in done.stderr:
        pytest.skip("system calls cannot be traced here")
    assert done.returncode == 0, done.stderr
    flushes: dict[str, list[int]] = {}
    count = 0
    for line in log.read_text().splitlines():
        if re.search(r"\b(fsync|fdatasync)\(", line):
            count += 1
        elif answer := re.search(r'write\(1, "answer (\w+)', line):
            flushes.setdefault(answer.group(1), []).append(count)
            count = 0
    a_commit = 1 if name.endswith(".db") else 2  # JSON: the file and its folder
    assert flushes["sample"] == [0]
    assert flushes["registered"][1:] == [a_commit] * 3  # the first also flushes what is new in the folder
    assert flushes["registered"][0] >= a_commit
    assert [flushes[word] for word in ("outcome", "batch", "removed")] == [[a_commit]] * 3
