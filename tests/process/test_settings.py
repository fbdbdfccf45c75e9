"""Where settings come from, which one wins, and what is said about a bad one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.settings import AGENT_SECTIONS, AgentSettings, RegistrySettings, load_agent_settings
from duxnet.process.errors import ConfigurationError
from duxnet.process.settings import LogSettings, Section, load_settings


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("DUXNET_CONFIG", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "STATE_DIRECTORY", "DUXNET_REGISTRY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("duxnet.process.folders.SYSTEM_CONFIG_FILE", str(tmp_path / "etc" / "config.toml"))


def written(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def problems(text: str, tmp_path: Path) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load_agent_settings(written(tmp_path / "bad.toml", text))
    return list(caught.value.problems)


def interval(config: object = None, **flags: Any) -> float:
    loaded = load_agent_settings(None if config is None else str(config), flags)
    return loaded.section("agent", AgentSettings).interval_seconds


def test_without_anything_every_setting_has_its_default() -> None:
    loaded = load_agent_settings()
    assert loaded.section("agent", AgentSettings) == AgentSettings()
    assert loaded.section("log", LogSettings).format == "plain"
    assert loaded.config_file is None
    assert loaded.origin("agent.interval_seconds") == "default"


def test_flag_beats_environment_beats_file_beats_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert interval() == 15
    file = written(tmp_path / "c.toml", "[agent]\ninterval_seconds = 30\n")
    assert interval(file) == 30
    monkeypatch.setenv("DUXNET_AGENT__INTERVAL_SECONDS", "40")
    assert interval(file) == 40
    assert interval(file, **{"agent.interval_seconds": "50"}) == 50


def test_each_value_knows_where_it_came_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path / "c.toml", "[agent]\nport = 1\n[agent.tags]\nzone = 'a'\n[agent.reserve]\ncpus = 1\n")
    monkeypatch.setenv("DUXNET_AGENT__RESERVE__MEMORY_GB", "2")
    loaded = load_agent_settings(file, {"log.format": "json"})
    assert loaded.origin("agent.port") == file
    assert loaded.origin("agent.tags") == file
    assert loaded.origin("agent.reserve.cpus") == file
    assert loaded.origin("agent.reserve.memory_gb") == "environment DUXNET_AGENT__RESERVE__MEMORY_GB"
    assert loaded.origin("log.format") == "flag"
    assert loaded.origin("agent.wallet_address") == "default"


def test_the_file_asked_for_by_flag_wins_then_environment_then_user_then_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path / "etc" / "config.toml", "[agent]\ninterval_seconds = 1\n")
    assert interval() == 1
    written(tmp_path / "home" / ".config" / "duxnet" / "config.toml", "[agent]\ninterval_seconds = 2\n")
    assert interval() == 2
    monkeypatch.setenv("DUXNET_CONFIG", written(tmp_path / "env.toml", "[agent]\ninterval_seconds = 3\n"))
    assert interval() == 3
    assert interval(written(tmp_path / "flag.toml", "[agent]\ninterval_seconds = 4\n")) == 4


def test_a_file_that_was_asked_for_and_is_absent_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match=r"--config: .*nowhere\.toml' cannot be read: No such file"):
        load_agent_settings(str(tmp_path / "nowhere.toml"))
    monkeypatch.setenv("DUXNET_CONFIG", str(tmp_path / "nowhere.toml"))
    with pytest.raises(ConfigurationError, match=r"\$DUXNET_CONFIG"):
        load_agent_settings()


def test_an_error_names_the_file_however_deep_it_lies(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 200)
    deep.mkdir()
    with pytest.raises(ConfigurationError, match=r"/nowhere\.toml' cannot be read: No such file"):
        load_agent_settings(str(deep / "nowhere.toml"))
    with pytest.raises(ConfigurationError, match=r"/bad\.toml' is not valid TOML"):
        load_agent_settings(written(deep / "bad.toml", "x = = 3"))


def test_a_path_may_begin_with_the_home_folder(tmp_path: Path) -> None:
    file = written(tmp_path / "c.toml", '[agent]\nwork_dir = "~/jobs"\n[registry]\ntarget = "~/nodes.json"\n')
    loaded = load_agent_settings(file)
    assert loaded.section("agent", AgentSettings).work_dir == str(tmp_path / "home" / "jobs")
    assert loaded.section("registry", RegistrySettings).target == str(tmp_path / "home" / "nodes.json")


@pytest.mark.parametrize("given", ["", ".", "a\x00b", "~nobody-of-this-name/c.toml"])
def test_a_path_that_is_none_is_an_error(given: str) -> None:
    with pytest.raises(ConfigurationError, match="--config"):
        load_agent_settings(given)


def test_a_folder_is_no_configuration_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="not a regular file"):
        load_agent_settings(str(tmp_path))


def test_bad_toml_is_told_with_line_and_column(tmp_path: Path) -> None:
    (problem,) = problems("[agent]\nport = = 3\n", tmp_path)
    assert "bad.toml" in problem
    assert "line 2, column 8" in problem


def test_bytes_that_are_no_text_and_files_that_are_too_large_are_refused(tmp_path: Path) -> None:
    (tmp_path / "b.toml").write_bytes(b"[agent]\n# \xff\n")
    with pytest.raises(ConfigurationError, match="not UTF-8 text"):
        load_agent_settings(str(tmp_path / "b.toml"))
    (tmp_path / "l.toml").write_bytes(b"#" * 1_000_001)
    with pytest.raises(ConfigurationError, match="at most 1000000 bytes"):
        load_agent_settings(str(tmp_path / "l.toml"))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("[agent]\ninterval_secs = 3", "agent.interval_secs is not a setting; did you mean interval_seconds?"),
        ("[agent.reserve]\ncpu = 3", "agent.reserve.cpu is not a setting; did you mean cpus?"),
        ("[agnt]\nport = 3", "'agnt' is not a section; did you mean agent?"),
        ("agent = 3", "agent: 3 is not accepted: must be a table, [agent]"),
        ("[agent]\ninterval_seconds = true", "agent.interval_seconds: true is not accepted: must be a number"),
        ("[agent]\ninterval_seconds = nan", "agent.interval_seconds: nan is not accepted: must be"),
        (
            "[agent]\ninterval_seconds = 0",
            "agent.interval_seconds: 0 is not accepted: must be greater than or",
        ),
        ("[agent]\ninterval_seconds = 901", "agent.interval_seconds: 901 is not accepted: must be less than or equal"),
        ("[agent]\nport = 65536", "agent.port: 65536 is not accepted: must be less than or equal to 65535"),
        ("[agent]\nport = -1", "agent.port: -1 is not accepted"),
        ("[agent]\nport = 8.5", "agent.port: 8.5 is not accepted"),
        ("[agent]\nwork_dir = 3", "agent.work_dir: 3 is not accepted: must be a valid string"),
        ('[agent]\nwork_dir = "a\\u0000b"', "agent.work_dir: 'a\\x00b' is not accepted"),
        ('[agent]\nstate_dir = "~nobody-of-this-name/x"', "agent.state_dir: '~nobody-of-this-name/x' is not accepted"),
        ('[agent]\nwallet_address = "a\\u202eb"', "agent.wallet_address: 'a\\u202eb' is not accepted"),
        ('[agent.tags]\na = "\\u001b[2J"', "agent.tags.a: '\\x1b[2J' is not accepted"),
        ("[agent.tags]\na = 3", "agent.tags.a: 3 is not accepted"),
        ("[agent.override]\ncpu_cores = 0", "agent.override.cpu_cores: 0 is not accepted: must be from 1"),
        ("[agent.override]\nspeed = 3", "cannot be overridden"),
        ("[agent.reserve]\nmemory_gb = -1", "agent.reserve.memory_gb: -1 is not accepted"),
        ('[log]\nformat = "xml"', "log.format: 'xml' is not accepted: must be 'plain' or 'json'"),
    ],
)
def test_a_bad_setting_is_told_with_name_value_rule_and_source(text: str, wanted: str, tmp_path: Path) -> None:
    (problem,) = problems(text, tmp_path)
    assert wanted in problem
    assert "bad.toml" in problem
    assert "\n" not in problem
    assert problem.isprintable()


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    assert len(problems("[agent]\nport = 70000\ninterval_seconds = 0\nx = 1\n", tmp_path)) == 3


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("DUXNET_AGENT__PORT", "x", "environment DUXNET_AGENT__PORT"),
        ("DUXNET_AGENT__PROT", "1", "agent.prot is not a setting; did you mean port?"),
        ("DUXNET_AGNET__PORT", "1", "there is no section 'AGNET'; did you mean agent?"),
        ("DUXNET_AGENT__TAGS", "{", "must be JSON"),
        ("DUXNET_AGENT__INTERVAL_SECONDS", "inf", "must be"),
        ("DUXNET_AGENT__INTERVAL_SECONDS", "", "DUXNET_AGENT__INTERVAL_SECONDS"),
    ],
)
def test_a_bad_variable_is_an_error_too(name: str, value: str, wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as caught:
        load_agent_settings()
    assert wanted in str(caught.value)


def test_variables_of_other_meaning_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUXNET_REGISTRY", "http://example")
    monkeypatch.setenv("DUXNET_AGENT", "3")
    assert load_agent_settings().section("registry", RegistrySettings).target == ""


def test_a_section_of_another_part_of_the_project_may_stand_in_the_file(tmp_path: Path) -> None:
    load_agent_settings(written(tmp_path / "c.toml", "[coordinator]\nanything = [1, 2]\n"))


def test_sections_compose_and_secrets_are_masked(tmp_path: Path) -> None:
    from pydantic import SecretStr

    class Coordinator(Section):
        token: SecretStr = SecretStr("")

    sections: dict[str, type[Section]] = {**AGENT_SECTIONS, "coordinator": Coordinator}
    file = written(tmp_path / "c.toml", '[coordinator]\ntoken = "hunter2"\n[agent]\nport = 5\n')
    loaded = load_settings(sections, config=file)
    assert loaded.section("coordinator", Coordinator).token.get_secret_value() == "hunter2"
    assert loaded.shown_values()["coordinator.token"] == "********"
    assert "hunter2" not in repr(loaded)
    changed = load_settings(sections, config=written(tmp_path / "d.toml", '[coordinator]\ntoken = "hunter3"\n'))
    assert changed.changed_since(loaded) == ["agent.port", "coordinator.token"]


@pytest.mark.parametrize("name", ["token", "join_token"])
@pytest.mark.parametrize("around", ["{}\n", "{}\r\n", " {}", "{}\t"])
def test_white_space_around_a_token_is_not_part_of_it(
    name: str, around: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = around.format("dux_join_abc")
    file = written(tmp_path / "c.toml", f"[registry]\n{name} = {json.dumps(given)}\n")
    from_file = load_agent_settings(file).section("registry", RegistrySettings)
    monkeypatch.setenv(f"DUXNET_REGISTRY__{name.upper()}", given)
    from_environment = load_agent_settings().section("registry", RegistrySettings)
    for found in (from_file, from_environment):
        assert getattr(found, name).get_secret_value() == "dux_join_abc"


@pytest.mark.parametrize(
    "value",
    [
        '"dux_join_HUSHé"',
        '"dux_join_HUSH dux_join_HUSH"',
        '"\\uFEFFdux_join_HUSH"',
        '"dux_join_HUSH\\u0000"',
        '["dux_join_HUSH"]',
        '{ x = "dux_join_HUSH" }',
        '"' + "HUSH" * 100 + '"',
    ],
)
@pytest.mark.parametrize("name", ["token", "join_token"])
def test_what_is_no_token_is_one_problem_that_does_not_show_it(name: str, value: str, tmp_path: Path) -> None:
    (problem,) = problems(f"[registry]\n{name} = {value}\n", tmp_path)
    assert problem.startswith(f"registry.{name}: '********'" if value[0] == '"' else f"registry.{name}: ********")
    assert "HUSH" not in problem
    assert "bad.toml" in problem


def test_a_proxy_is_checked_where_it_is_read_and_its_password_not_shown(tmp_path: Path) -> None:
    file = written(tmp_path / "c.toml", '[registry]\nproxy = "http://user:HUSH@proxy.example:3128"\n')
    assert load_agent_settings(file).shown_values()["registry.proxy"] == "********"
    for value in ('"socks5://user:HUSH@h:1"', '"http://user:HUSH@h"', "1080", '["HUSH"]', '"HUSH://[::1"'):
        (problem,) = problems(f"[registry]\nproxy = {value}\n", tmp_path)
        assert problem.startswith("registry.proxy: ")
        assert "HUSH@" not in problem


toml_values = st.one_of(st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.text(max_size=30))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    key=st.sampled_from([*AgentSettings.model_fields, "nonsense"]),
    value=st.one_of(toml_values, st.lists(toml_values, max_size=2)),
)
def test_whatever_stands_in_the_file_is_accepted_or_told_in_printable_lines(
    key: str, value: Any, tmp_path: Path
) -> None:
    try:
        text = f"[agent]\n{key} = {_toml(value)}\n"
        file = written(tmp_path / "fuzz.toml", text)
    except UnicodeEncodeError:
        return
    try:
        load_agent_settings(file)
    except ConfigurationError as error:
        told = error.problems
    else:
        told = ("accepted",)
    assert told
    assert all(problem.isprintable() for problem in told)


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value)
