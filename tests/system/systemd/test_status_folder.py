"""What the agent says of itself can be read by those it is for, and is looked for where the service puts it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import agent.status_file
from agent.state_dir import StateDir
from agent.status_file import local_folder, status_candidates
from registry_core.files.atomic import replace_file


def test_a_file_for_everybody_is_so_under_the_umask_of_the_unit(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        replace_file(tmp_path / "agent.json", b"{}", 0o644)
        replace_file(tmp_path / "machine.json", b"{}")
    finally:
        os.umask(before)
    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("agent.json", "machine.json")]
    assert modes == [0o644, 0o600]


@pytest.fixture
def unit_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """State and runtime folder of the unit. Constants of the machine, hence the patch."""
    state, runtime = tmp_path / "lib/duxnet-agent", tmp_path / "run/duxnet-agent"
    state.parent.mkdir()
    runtime.parent.mkdir()
    monkeypatch.setattr(agent.status_file, "UNIT_STATE_FOLDER", state)
    monkeypatch.setattr(agent.status_file, "UNIT_RUNTIME_FOLDER", runtime)
    return state, runtime


def test_without_the_service_the_configured_folder_is_looked_at(
    tmp_path: Path, unit_folders: tuple[Path, Path]
) -> None:
    assert local_folder(tmp_path / "own", {}) == tmp_path / "own"


def test_the_folder_of_the_service_is_looked_at_while_it_runs_and_no_other_agent_does(
    tmp_path: Path, unit_folders: tuple[Path, Path]
) -> None:
    state, runtime = unit_folders
    runtime.mkdir()
    (runtime / "agent.json").write_text("{}")
    assert local_folder(tmp_path / "own", {}) == state
    assert status_candidates(state, {}) == [runtime / "agent.json"]
    own = StateDir(tmp_path / "own")
    assert local_folder(tmp_path / "own", {}) == tmp_path / "own"
    own.close()
    assert local_folder(tmp_path / "own", {}) == state


def test_the_folder_of_a_stopped_service_is_looked_at_by_who_never_ran_an_agent(
    tmp_path: Path, unit_folders: tuple[Path, Path]
) -> None:
    state, _runtime = unit_folders
    state.symlink_to("private/duxnet-agent")  # as a dynamic user's is
    assert local_folder(tmp_path / "own", {}) == state
    StateDir(tmp_path / "own").close()
    assert local_folder(tmp_path / "own", {}) == tmp_path / "own"


def test_the_service_itself_uses_its_own_folder(tmp_path: Path, unit_folders: tuple[Path, Path]) -> None:
    _state, runtime = unit_folders
    runtime.mkdir()
    (runtime / "agent.json").write_text("{}")
    given = tmp_path / "given"
    assert local_folder(given, {"STATE_DIRECTORY": str(given)}) == given
