"""The suite itself: what may be left out of it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

CONFTEST = Path(__file__).with_name("conftest.py")

REASONS = {  # why a test is skipped: what that comes to where skips fail
    "needs zsh (Debian package zsh)": "FAILED",
    "the duxnet command is not installed beside this Python": "FAILED",
    "not today": "FAILED",
    "needs root to make a namespace": "FAILED" if os.geteuid() == 0 else "SKIPPED",
    "NO REAL BOOT WAS TRIED: needs loop devices": "SKIPPED",
}
SKIPPED = f"""
import pytest

@pytest.mark.parametrize("reason", {list(REASONS)!r})
def test_it(reason):
    pytest.skip(reason)
"""


def outcomes(folder: Path, **environ: str) -> list[str]:
    """What each test of `SKIPPED` comes to."""
    shutil.copy(CONFTEST, folder)
    (folder / "test_it.py").write_text(SKIPPED)
    kept = {name: value for name, value in os.environ.items() if name != "DUXNET_TEST_SKIPS_FAIL"}
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", str(folder)]
    done = subprocess.run(command, env={**kept, **environ}, cwd=folder, capture_output=True, text=True, timeout=50)
    return re.findall(r"^test_it\.py::.*\] (FAILED|SKIPPED)", done.stdout, re.MULTILINE)


def test_where_skips_fail_only_what_this_machine_cannot_have_is_left_out(tmp_path: Path) -> None:
    assert outcomes(tmp_path, DUXNET_TEST_SKIPS_FAIL="1") == list(REASONS.values())


def test_elsewhere_a_skip_is_a_skip(tmp_path: Path) -> None:
    assert outcomes(tmp_path) == ["SKIPPED"] * len(REASONS)
