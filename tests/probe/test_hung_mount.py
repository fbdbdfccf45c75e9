"""A mount that never answers, for real: a FUSE file system whose server is silent."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.xdist_group("timing")  # what it measures bears no other measurement beside it


def probe(*arguments: str) -> tuple[int, dict[str, object], float]:
    code = "import sys; from duxnet.cli import main; sys.exit(main(['probe', '--format', 'json', *sys.argv[1:]]))"
    before = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, timeout=30)
    return done.returncode, json.loads(done.stdout), time.monotonic() - before


def test_a_dead_mount_is_told_and_everything_else_too_and_the_process_ends(silent_mount: Path) -> None:
    code, report, seconds = probe("--only", "storage", "--work-dir", "/")
    assert code == 3
    errors = [error for error in report["errors"] if str(silent_mount) in error["message"]]  # type: ignore[attr-defined]  # plain JSON
    assert errors == [
        {
            "probe": "storage",
            "message": f"{silent_mount} (fuse.silent from silent:/export): no answer in 3 s",
            "reading": "file_systems",
        }
    ]
    assert report["capabilities"]["storage_gb"] > 0  # type: ignore[index]  # plain JSON
    assert seconds < 8


@pytest.mark.slow
def test_a_dead_work_directory_offers_no_storage_and_says_why(silent_mount: Path) -> None:
    code, report, seconds = probe("--only", "storage", "--work-dir", str(silent_mount / "jobs"))
    assert code == 3
    assert report["capabilities"]["storage_gb"] is None  # type: ignore[index]  # plain JSON
    messages = [error["message"] for error in report["errors"]]  # type: ignore[attr-defined]  # plain JSON
    assert f"{silent_mount}/jobs: no answer in 3 s" in messages
    assert seconds < 10


@pytest.mark.slow
def test_a_recording_of_a_dead_mount_replays_as_one(silent_mount: Path, tmp_path: Path) -> None:
    code, _, _ = probe("--only", "storage", "--work-dir", "/", "--record", str(tmp_path / "report"))
    assert code == 3
    recorded = (tmp_path / "report" / "machine.recording").read_text()
    assert f"hang disk_usage {silent_mount}\n" in recorded
    code, report, _ = probe("--only", "storage", "--root", str(tmp_path / "report"))
    assert code == 3
    messages = [error["message"] for error in report["errors"]]  # type: ignore[attr-defined]  # plain JSON
    # the server's name is masked
    assert f"{silent_mount} (fuse.silent from server1:/export): no answer in 3 s" in messages
