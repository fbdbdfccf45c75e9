"""What commands read of the configuration without validating all of it: the same values and refusals as the agent's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.settings import AgentSettings, RegistrySettings, load_agent_settings
from duxnet.cli.local_agent import find_local_agent
from duxnet.process.errors import ConfigurationError
from tests.support.processes import environment


@pytest.fixture(autouse=True)
def own_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("DUXNET_CONFIG", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR", "STATE_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    "lines",
    [
        '[agent]\nstate_dir = "/srv/agent"\n[registry]\ntarget = "/srv/nodes.db"\nencryption_key_file = "/srv/key"',
        '[agent]\nstate_dir = "~/agent"\n[registry]\ntarget = "~/nodes.json"\nencryption_key_file = "~/key"',
        '[agent]\nstate_dir = "relative"\n[registry]\ntarget = "https://registry.example:8410"',
        '[agent]\nstate_dir = "/srv/agent"',
    ],
)
def test_the_values_are_those_of_the_agent(lines: str, tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text(lines)
    settings = load_agent_settings(str(file))
    agent, registry = settings.section("agent", AgentSettings), settings.section("registry", RegistrySettings)
    found = find_local_agent(str(file))
    assert found.state_dir == agent.state_path(os.environ)
    assert found.registry == (registry.target or str(found.state_dir / "nodes.json"))
    assert found.key_file == registry.key_path()
    assert find_local_agent(str(file), "/other").state_dir == Path("/other")


@pytest.mark.parametrize(
    "lines",
    [
        "[agent]\nstate_dir = 3",
        "[agent]\nstate_dir = true",
        '[agent]\nstate_dir = "~a-stranger-here/agent"',
        '[agent]\nstate_dir = "/srv/\\u001b[2J"',
        '[registry]\ntarget = "ftp://example.org"',
        '[registry]\ntarget = "nodes.txt"',
        "[registry]\ntarget = []",
        '[registry]\nencryption_key_file = "/srv/\\u0000"',
        "registry = 3",
        "[registri]\ntarget = 3",
    ],
)
def test_what_the_agent_refuses_of_them_is_refused_in_the_same_words(lines: str, tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text(lines)
    with pytest.raises(ConfigurationError) as by_agent:
        load_agent_settings(str(file))
    with pytest.raises(ConfigurationError) as by_command:
        find_local_agent(str(file))
    assert by_command.value.problems == by_agent.value.problems


@pytest.mark.parametrize("command", [["status"], ["nodes", "list"], ["key", "show"]])
def test_no_validation_library_is_loaded_for_a_path_or_two(command: list[str], tmp_path: Path) -> None:
    script = (
        "import json, sys; from duxnet.cli import main; main(sys.argv[1:]);"
        "print(json.dumps(sorted({'pydantic', 'httpx', 'rich'} & sys.modules.keys())))"
    )
    given = environment({"DUXNET_AGENT__STATE_DIR": str(tmp_path / "state")})
    done = subprocess.run([sys.executable, "-c", script, *command], env=given, capture_output=True, text=True)
    assert json.loads(done.stdout.splitlines()[-1]) == [], done.stderr
