"""States in colour: in a terminal, or as `--color` says; never where NO_COLOR or a dumb terminal forbids it."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

import click
import pytest

from duxnet.cli import main
from duxnet.cli.output import print_table
from registry_core.embedded.node_registry import NodeRegistry
from registry_core.models.node import Node
from registry_core.models.status import Admission
from tests.support.processes import command, environment

GREEN, YELLOW, RED, END = "\x1b[32m", "\x1b[33m", "\x1b[31m", "\x1b[0m"


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "nodes.json"
    with NodeRegistry(path) as registry:
        for name in ("good", "held", "gone"):
            registry.register_node(Node(ip_address="192.0.2.1", id=f"{name}-node", hostname=name))
        registry.admin.cordon("held-node", reason="disk", actor="ops")
        registry.admin.set_admission("gone-node", Admission.BANNED, reason="", actor="ops")
    return str(path)


def in_a_terminal(*words: str, **environ: str) -> str:
    master, slave = pty.openpty()
    try:
        subprocess.run(
            command(*words), stdout=slave, env=environment({"TERM": "xterm", **environ}), check=True, timeout=30
        )
    finally:
        os.close(slave)
    text = b""
    try:
        while chunk := os.read(master, 65536):
            text += chunk
    except OSError:  # EIO: the other end is closed and everything was read
        pass
    finally:
        os.close(master)
    return text.decode()


def test_a_state_is_green_yellow_or_red_in_a_terminal(file: str) -> None:
    header, *lines = in_a_terminal("nodes", "list", "--registry", file).splitlines()
    assert "\x1b" not in header
    shown = {line.split()[1]: line for line in lines}
    assert f"{GREEN}ready{END}" in shown["good"]
    assert f"{YELLOW}cordoned{END}" in shown["held"]
    assert f"{RED}banned{END}" in shown["gone"]


@pytest.mark.parametrize(
    ("options", "environ"),
    [([], {"NO_COLOR": "1"}), ([], {"TERM": "dumb"}), (["--color", "never"], {})],
    ids=["NO_COLOR", "dumb", "never"],
)
def test_a_terminal_without_colour_gets_none(options: list[str], environ: dict[str, str], file: str) -> None:
    assert "\x1b" not in in_a_terminal("nodes", "list", "--registry", file, *options, **environ)


def test_a_pipe_gets_colour_only_by_the_option(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nodes", "list", "--registry", file]) == 0
    plain = capsys.readouterr().out
    assert "\x1b" not in plain
    assert main(["nodes", "list", "--registry", file, "--color", "always"]) == 0
    coloured = capsys.readouterr().out
    assert f"{GREEN}ready{END}" in coloured
    for code in (GREEN, YELLOW, RED, END):
        coloured = coloured.replace(code, "")
    assert coloured == plain


def test_the_doctor_s_marks_are_in_colour(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--state-dir", str(tmp_path), "--color", "always"]) == 1
    marks = [line for line in capsys.readouterr().out.splitlines() if line.startswith("\x1b")]
    assert any(line.startswith(f"{RED}PROBLEM{END} agent:") for line in marks)
    assert any(line.startswith(f"{GREEN}ok{END}      configuration:") for line in marks)


def test_a_state_from_elsewhere_brings_no_escapes_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    with click.Context(click.Command("list")) as context:
        context.color = True
        print_table(("STATE",), [("banned: \x1b[2J",)])
    assert capsys.readouterr().out == f"STATE\n{RED}banned: \\x1b[2J{END}\n"
