"""Errors of the library as the command line shows them: one prefix, no Python, and a remedy that can be typed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from duxnet.cli import main
from duxnet.cli.output import time_text, value_text
from duxnet.cli.run import ended
from duxnet.process.layers import setting_text
from registry_core.embedded.node_registry import NodeRegistry
from registry_core.errors import RefusedError, RegistryError, SealedStoreError
from registry_core.models.node import Node


@pytest.fixture(autouse=True)
def own_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("DUXNET_CONFIG", "DUXNET_REGISTRY", "XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)


def test_a_registry_in_use_names_the_process_and_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "nodes.json"
    with NodeRegistry(file) as registry:
        registry.register_node(Node(ip_address="192.0.2.1", id="some-node"))
        assert main(["nodes", "cordon", "some-node", "--registry", str(file)]) == 1
    reason, remedy = capsys.readouterr().err.splitlines()
    assert reason.startswith(f"duxnet: '{file}': process ")
    assert reason.endswith(" has this registry open for writing")
    assert "--registry" in remedy
    assert "read_only" not in reason + remedy


@pytest.mark.parametrize(
    ("error", "typed"),
    [
        (SealedStoreError("n.db", "it is sealed; give its encryption key"), "$DUXNET_REGISTRY_ENCRYPTION_KEY"),
        (RefusedError("token-required", "to cordon needs a token", "send Authorization"), "DUXNET_REGISTRY__TOKEN"),
        (RefusedError("token-required", "to cordon needs a token", "send Authorization"), "duxnet token create"),
    ],
)
def test_a_missing_key_or_token_names_where_it_is_set(
    error: RegistryError, typed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing() -> int:
        raise error

    assert ended(failing) == 1
    reason, *remedy = capsys.readouterr().err.splitlines()
    assert reason.startswith("duxnet: ")
    assert typed in " ".join(remedy)
    assert "Authorization" not in reason + " ".join(remedy)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('[coordinator]\nhost = "0.0.0.0"\n', "coordinator: a host other than this machine needs TLS"),
        ("[agent]\nport = {a = 1}\n", "agent.port: a table is not accepted"),
        ("[agent]\nport = [1, 2]\n", "agent.port: a list is not accepted"),
        ("[agent]\nport = true\n", "agent.port: true is not accepted"),
        ("agent = true\n", "agent: true is not accepted: must be a table"),
        ("[agent]\ntags = {a = true}\n", "agent.tags.a: true is not accepted"),
    ],
)
def test_a_setting_that_is_refused_is_shown_as_the_file_has_it(
    text: str, wanted: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "c.toml"
    file.write_text(text)
    assert main(["config", "check", str(file)]) == 78
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"duxnet: configuration: {wanted}")
    assert not any(word in line for word in ("{", "[1", "True", "None"))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (True, "yes"),
        (False, "no"),
        (0.1, "0.1"),
        (4.0, "4"),
        (["a", True], "a, yes"),
        (3, "3"),
        ("None", "None"),
        ("2026-12-24T18:00:00.123Z", "2026-12-24T18:00:00Z"),
    ],
)
def test_values_are_shown_in_words(value: Any, shown: str) -> None:
    assert value_text(value) == shown


def test_values_of_settings_are_short() -> None:
    assert setting_text("x" * 1000) == "'" + "x" * 78 + "…"


@pytest.mark.parametrize(
    "moment", [1_798_135_200.0, 1_798_135_200.987, "2026-12-24T18:00:00Z", "2026-12-24T18:00:00.987Z"]
)
def test_every_time_has_one_form(moment: Any) -> None:
    assert time_text(moment) == "2026-12-24T18:00:00Z"
