"""The probe, which does not validate every setting, uses the same options as the agent, which does."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent.probe.options import ProbeOptions
from agent.settings import AgentSettings, RegistrySettings, load_agent_settings
from duxnet.cli.probe import configured_options
from duxnet.process.errors import ConfigurationError


def fields(options: ProbeOptions) -> dict[str, Any]:
    return {name: getattr(options, name) for name in ProbeOptions.__slots__}


@pytest.mark.parametrize(
    ("toml", "environment"),
    [
        ("", {}),
        ('[agent]\nwork_dir = "/srv/jobs"\n', {}),
        ('[agent]\nstate_dir = "relative/state"\n', {}),
        ('[agent]\nwork_dir = "~/jobs"\n[agent.reserve]\ncpus = 1\nmemory_gb = 2\n', {}),
        ('[agent.override]\nstorage_gb = 500.0\nhostname = "node-7"\ngpu_enabled = false\n', {}),
        ('[agent]\nwork_dir = "/a"\n[agent.reserve]\ncpus = 1\n', {"DUXNET_AGENT__WORK_DIR": "/b"}),
        ("[agent.reserve]\ncpus = 1\nstorage_gb = 3.5\n", {"DUXNET_AGENT__RESERVE__CPUS": "2"}),
        ("", {"DUXNET_AGENT__RESERVE": '{"memory_gb": 4}'}),
        ("", {"DUXNET_AGENT__INTERVAL_SECONDS": "20"}),
        ('[registry]\ntarget = "https://registry.example:8410/v1"\n', {}),
        ('[registry]\ntarget = "/var/lib/nodes.db"\n', {"DUXNET_REGISTRY__TARGET": "http://[2001:db8::9]:8410"}),
    ],
)
def test_both_readers_of_the_settings_agree(
    toml: str, environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.toml").write_text(toml)
    environ = {"HOME": str(tmp_path), "DUXNET_CONFIG": str(tmp_path / "config.toml"), **environment}
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    settings = load_agent_settings()
    target = settings.section("registry", RegistrySettings).target
    expected = settings.section("agent", AgentSettings).probe_options(environ, target)
    assert fields(configured_options(environ, None)) == fields(expected)


@pytest.mark.parametrize(
    ("toml", "named"),
    [
        ("[agent.reserve]\ncpus = -1\n", "agent.reserve.cpus"),
        ("[agent.override]\nkernel = 1\n", "agent.override.kernel"),
        ('[registry]\ntarget = "http://a b/"\n', "registry.target"),
        ("agent = 1\n", "agent"),
        ("[agent]\nwork_dir = 1\n", "work_dir"),
        ("x", "not valid TOML"),
    ],
)
def test_a_bad_setting_is_a_configuration_error_that_names_it(toml: str, named: str, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(toml)
    with pytest.raises(ConfigurationError, match=re.escape(named)):
        configured_options({"DUXNET_CONFIG": str(tmp_path / "config.toml")}, None)


def test_a_wrong_configuration_ends_the_command_with_78(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[agent.reserve]\ncpus = -1\n")
    code = "import sys; from duxnet.cli import main; sys.exit(main(['probe', '--only', 'cpu']))"
    environment = {"DUXNET_CONFIG": str(tmp_path / "config.toml"), "PATH": "/usr/bin"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=30, env=environment)
    assert (done.returncode, done.stdout) == (78, b"")
    assert b"agent.reserve.cpus" in done.stderr
