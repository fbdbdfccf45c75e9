"""`duxnet config` and `duxnet status`, and that the example configuration is true."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from duxnet.cli import main
from duxnet.process.config_file import read_config_file
from tests.support.processes import RunningAgent, duxnet

EXAMPLE = Path(__file__).parents[2] / "config.example.toml"


@pytest.fixture(autouse=True)
def nobody_elses_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("DUXNET_CONFIG", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR", "RUNTIME_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, dict[str, object]]:
    assert main(["config", "show", "--format", "json", *arguments]) == 0
    plain = json.loads(capsys.readouterr().out)["settings"]
    assert isinstance(plain, dict)
    return plain


def test_the_example_holds_every_setting_at_its_real_default(capsys: pytest.CaptureFixture[str]) -> None:
    defaults = shown(capsys)
    with_example = shown(capsys, "--config", str(EXAMPLE))
    assert {name: item["value"] for name, item in with_example.items()} == {
        name: item["value"] for name, item in defaults.items()
    }
    tables = read_config_file(EXAMPLE)
    for name in defaults:
        place: object = tables
        for part in name.split("."):
            assert isinstance(place, dict)
            assert part in place, f"{name} is missing in config.example.toml"
            place = place[part]


def test_show_says_where_each_value_comes_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "c.toml"
    file.write_text("[agent]\ninterval_seconds = 30\n")
    monkeypatch.setenv("DUXNET_AGENT__PORT", "8000")
    settings = shown(capsys, "--config", str(file))
    assert settings["agent.interval_seconds"] == {"value": 30.0, "origin": str(file)}
    assert settings["agent.port"] == {"value": 8000, "origin": "environment DUXNET_AGENT__PORT"}
    assert settings["log.format"] == {"value": "plain", "origin": "default"}
    assert main(["config", "show", "--config", str(file)]) == 0
    assert "environment DUXNET_AGENT__PORT" in capsys.readouterr().out


def test_check_accepts_a_good_file_and_names_every_problem_of_a_bad_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["config", "check", str(EXAMPLE)]) == 0
    assert "ok" in capsys.readouterr().out
    bad = tmp_path / "bad.toml"
    bad.write_text("[agent]\nport = -1\ninterval = 3\n")
    assert main(["config", "check", str(bad)]) == 78
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("duxnet: configuration: agent.") for line in lines)
    assert main(["config", "check", str(tmp_path / "none.toml")]) == 78


@pytest.mark.parametrize("target", ["nodes.txt", "ftp://example.org", "nodes"])
def test_check_refuses_a_registry_that_no_agent_could_open(
    target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text(f'[registry]\ntarget = "{target}"\n')
    assert main(["config", "check", str(bad)]) == 78
    assert "registry.target" in capsys.readouterr().err


def test_status_of_nothing_says_that_nothing_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--state-dir", str(tmp_path)]) == 1
    assert "not running" in capsys.readouterr().out
    assert main(["status", "--state-dir", str(tmp_path), "--format", "json"]) == 1
    assert json.loads(capsys.readouterr().out)["running"] is False


def test_status_as_json_says_whether_it_reports(tmp_path: Path) -> None:
    with RunningAgent(tmp_path / "state") as agent:
        agent.wait_for_reports()
        done = duxnet("status", "--state-dir", tmp_path / "state", "--format", "json")
        plain = json.loads(done.stdout)
        assert done.returncode == 0
        assert plain["running"]
        assert plain["reporting"]
        assert plain["agent"]["pid"] == agent.process.pid
        assert "key" not in "".join(plain["agent"])


def test_the_configuration_is_read_on_every_python(tmp_path: Path) -> None:
    assert read_config_file(EXAMPLE)["agent"]["interval_seconds"] == 15.0, sys.version
