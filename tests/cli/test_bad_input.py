"""Whatever is typed, the answer is data or one line of error with an exit code; and nothing half done."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from duxnet.cli import main
from registry_core.embedded.node_registry import NodeRegistry
from registry_core.models.node import Node

typed = st.one_of(
    st.text(max_size=40).filter(lambda text: "\x00" not in text),
    st.sampled_from(
        ["", "-1", "0", "1", "nan", "inf", "1e309", "9" * 400, "\x1b[2J", "\u202e", "::1", "a=b", "{}", "~x", "-"]
    ),
)
options = st.sampled_from(
    [
        ("list", "--min-reputation"), ("list", "--min-cpu-cores"), ("list", "--min-memory-gb"), ("list", "--limit"),
        ("list", "--wallet"), ("explain", "--tag"), ("explain", "--gpu-memory-gb"),
        ("show", ""), ("remove", ""), ("update-health", "--load-average"),
        ("register", "--ip-address"), ("register", "--hostname"), ("register", "--port"), ("register", "--tag"),
        ("register", "--id"), ("register", "--wallet"), ("register", "--memory-gb"), ("register", "--cpu-cores"),
    ]
)  # fmt: skip


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("desk") / "nodes.json"
    with NodeRegistry(path) as registry:
        registry.register_node(Node(ip_address="192.0.2.1", id="known-node"))
    return path


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(choice=options, value=typed)
def test_any_value_of_any_option_is_taken_or_refused_in_words(choice: tuple[str, str], value: str, file: Path) -> None:
    command, option = choice
    arguments = ["nodes", command]
    if command == "register" and option != "--ip-address":
        arguments.append("--ip-address=192.0.2.9")
    if command in ("update-health", "explain"):
        arguments.append("known-node")
    arguments += [f"{option}={value}"] if option else ["--", value]
    place = ["--registry", str(file)]
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        code = main([*arguments[:2], *place, *arguments[2:]])
    assert code in (0, 1, 2)
    assert (errors.getvalue() == "") == (code == 0)
    assert all(line.isprintable() for line in (output.getvalue() + errors.getvalue()).split("\n"))
    json.loads(file.read_text())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.lists(typed, min_size=1, max_size=4))
def test_any_words_end_with_an_exit_code(words: list[str]) -> None:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as errors:
        code = main(["nodes", *words])
    assert code in (0, 1, 2)
    assert "Traceback" not in errors.getvalue()
