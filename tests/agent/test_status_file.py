"""The agent's folder and its status file: one holder, a moved folder, what readers may rely on."""

from __future__ import annotations

import fcntl
import json
import os
import stat
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.sampler import Sample
from agent.state_dir import AgentRunningError, StateDir, holder_of
from agent.status_file import AgentStatus, StatusFile, find_status, read_status, status_candidates
from registry_core.errors import StoreError
from registry_core.files.atomic import replace_file

ROOT = Path(__file__).parents[2]


def some_status(state_dir: Path, **changes: Any) -> AgentStatus:
    fields: dict[str, Any] = {
        "state": "running",
        "node_id": "n1",
        "hostname": "h",
        "offer": "2 CPUs",
        "registry": str(state_dir / "nodes.json"),
        "state_dir": str(state_dir),
        "interval_seconds": 15.0,
        "capabilities": {},
    }
    return AgentStatus(**{**fields, **changes})


def test_a_folder_is_made_private_and_held_by_one(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "state"
    held = StateDir(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert holder_of(folder) == os.getpid()
    with pytest.raises(AgentRunningError) as refused:
        StateDir(folder)
    assert refused.value.holder_pid == os.getpid()
    held.close()
    assert holder_of(folder) is None
    StateDir(folder).close()


def test_somebody_who_only_looks_does_not_keep_an_agent_out(tmp_path: Path) -> None:
    StateDir(tmp_path).close()
    with (tmp_path / "agent.lock").open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        let_go = threading.Timer(0.08, fcntl.flock, (looking, fcntl.LOCK_UN))
        let_go.start()
        StateDir(tmp_path).close()
        let_go.join()


def test_nobody_holds_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert holder_of(tmp_path / "none") is None


def test_a_lock_file_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "agent.lock").symlink_to(tmp_path / "victim")
    with pytest.raises(StoreError):
        StateDir(tmp_path)
    assert (tmp_path / "victim").read_text() == "precious"


def test_a_folder_that_moved_is_noticed_once_and_an_unknown_machine_never(tmp_path: Path) -> None:
    held = StateDir(tmp_path)
    assert held.moved_from("here") is None
    assert held.moved_from("here") is None
    assert held.moved_from(None) is None
    assert held.moved_from("there") == "here"
    assert held.moved_from("there") is None
    (tmp_path / "machine.json").write_text("{")
    assert held.moved_from("elsewhere") is None
    held.close()


def test_a_written_status_is_read_back_as_running_and_fresh(tmp_path: Path) -> None:
    file = StatusFile(tmp_path, {})
    file.write(some_status(tmp_path))
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    found = find_status(tmp_path, {})
    assert found is not None
    assert found.is_running
    assert found.is_fresh
    file.write(some_status(tmp_path, state="stopped"))
    found = find_status(tmp_path, {})
    assert found is not None
    assert not found.is_running


def test_a_reused_process_id_and_another_boot_are_not_taken_for_the_agent(tmp_path: Path) -> None:
    file = StatusFile(tmp_path, {})
    file.write(some_status(tmp_path))
    plain = json.loads(file.path.read_text())
    for change in ({"process_start_ticks": 1}, {"boot_id": "other"}, {"pid": 2**22 + 1}):
        file.path.write_text(json.dumps({**plain, **change}))
        found = read_status(file.path)
        assert found is not None
        assert not found.is_running


def test_a_killed_agent_that_nobody_has_buried_yet_does_not_run(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from tests.agent.test_status_file import *;"
        "folder = Path(sys.argv[1]); StatusFile(folder, {}).write(some_status(folder)); print(flush=True); input()"
    )
    agent = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )
    assert agent.stdout is not None
    assert agent.stdout.readline() == b"\n"
    found = find_status(tmp_path, {})
    assert found is not None
    assert found.is_running
    agent.kill()
    os.waitid(os.P_PID, agent.pid, os.WEXITED | os.WNOWAIT)  # it ended, and stays a zombie until somebody asks how
    found = find_status(tmp_path, {})
    assert found is not None
    assert not found.is_running
    agent.communicate()


def test_an_old_status_of_a_running_process_is_not_fresh(tmp_path: Path) -> None:
    file = StatusFile(tmp_path, {})
    file.write(some_status(tmp_path))
    plain = json.loads(file.path.read_text())
    file.path.write_text(json.dumps({**plain, "written_boottime_seconds": plain["written_boottime_seconds"] - 60}))
    found = read_status(file.path)
    assert found is not None
    assert found.is_running
    assert not found.is_fresh


def test_two_agents_of_one_user_have_two_files_and_a_unit_has_its_own_folder(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    shared = {"XDG_RUNTIME_DIR": str(run)}
    first, second = (status_candidates(tmp_path / name, shared)[0] for name in ("a", "b"))
    assert first != second
    assert first.parent == second.parent == run / "duxnet"
    unit = {**shared, "RUNTIME_DIRECTORY": "/run/duxnet-agent:/run/other"}
    assert status_candidates(tmp_path, unit) == [Path("/run/duxnet-agent/agent.json")]


def test_a_replaced_file_leaves_no_draft_even_when_it_fails(tmp_path: Path) -> None:
    replace_file(tmp_path / "f", b"one")
    (tmp_path / "d").mkdir()
    with pytest.raises(StoreError, match="directory"):
        replace_file(tmp_path / "d", b"two")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d", "f"]


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.text(max_size=3), inner, max_size=2)),
    max_leaves=4,
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(["pid", "state", "sample", "warnings", "interval_seconds", "schema"]), value=json_values)
def test_a_status_file_of_anybody_is_read_or_passed_over(name: str, value: Any, tmp_path: Path) -> None:
    file = StatusFile(tmp_path, {})
    file.write(some_status(tmp_path))
    plain = json.loads(file.path.read_text())
    file.path.write_text(json.dumps({**plain, name: value}))
    found = read_status(file.path)
    assert found is None or isinstance(found.is_fresh, bool)


SCALARS = ("state", "node_id", "hostname", "offer", "registry", "state_dir", "interval_seconds", "capabilities")
WRITTEN = ("pid", "process_start_ticks", "boot_id", "written_at", "written_boottime_seconds")
OPTIONAL = ("sample", "conditions", "problem", "probe_errors", "warnings", "reports_delivered", "reports_failed")


def test_what_was_written_is_read_back_field_by_field_under_the_names_that_readers_know(tmp_path: Path) -> None:
    file = StatusFile(tmp_path, {})
    status = some_status(
        tmp_path,
        sample=Sample(0.5, None, 30.0, None, ("memory: gone",)),
        conditions={"load": "ok"},
        warnings=("w",),
        probe_errors=("cpu: x",),
        problem="p",
        reports_delivered=3,
        reports_failed=4,
    )
    file.write(status)
    plain = json.loads(file.path.read_text())
    assert list(plain) == ["schema", *SCALARS, *OPTIONAL, *WRITTEN]
    assert list(plain["sample"]) == ["load_average", "memory_usage", "disk_usage", "cpu_usage", "failures"]
    found = read_status(file.path)
    assert found is not None
    written = {name: getattr(found.status, name) for name in WRITTEN}
    assert found.status == replace(status, **written)
    assert json.loads(json.dumps(found.status.to_plain())) == plain


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, None) for name in SCALARS),
        *((name, []) for name in SCALARS),
        ("capabilities", "all"),
        ("sample", {"load_average": "high"}),
        ("sample", []),
        ("conditions", {"load": 1}),
        ("warnings", ["a", 1]),
        ("warnings", "a"),
        ("pid", 1.5),
        ("pid", True),
        ("reports_failed", "no"),
        ("process_start_ticks", "1"),
        ("schema", "duxnet.agent-status/2.0"),
        ("schema", "other"),
    ],
)
def test_a_status_file_with_a_field_of_another_kind_is_passed_over(name: str, value: Any, tmp_path: Path) -> None:
    file = StatusFile(tmp_path, {})
    file.write(some_status(tmp_path))
    plain = json.loads(file.path.read_text())
    file.path.write_text(json.dumps({**plain, name: value}))
    assert read_status(file.path) is None
    file.path.write_text(json.dumps({**plain, "schema": "duxnet.agent-status/1.7", "of a newer version": [1]}))
    assert read_status(file.path) is not None


@pytest.mark.parametrize("name", SCALARS)
def test_a_status_file_without_a_field_that_readers_need_is_passed_over(name: str, tmp_path: Path) -> None:
    file = StatusFile(tmp_path, {})
    file.write(some_status(tmp_path))
    plain = json.loads(file.path.read_text())
    del plain[name]
    file.path.write_text(json.dumps(plain))
    assert read_status(file.path) is None
