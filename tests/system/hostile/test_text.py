"""Text from strangers on its way to people: taken in by Unicode category, and shown by one way that escapes."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from duxnet.cli.output import print_pairs, print_table
from duxnet.process.logs import configure_logs, datagram
from duxnet.process.terminal import say, say_text
from registry_core.embedded.node_registry import NodeRegistry
from registry_core.errors import ValidationError, printable
from registry_core.models.node import Node
from tests.support.coordinators import Running
from tests.system.coordinator.test_identity import Signer, kind

ESCAPES = "\x1b[2J\x1b]52;c;cm0=\x07\x1b]0;owned\x07"
REPOSITORY = Path(__file__).parents[3]

HIDDEN = {
    "escape": ESCAPES,
    "C1": "a\x9b31m",
    "line end": "a\nb",
    "tab": "a\tb",
    "soft hyphen": "a\u00adb",
    "joiner": "a\u034fb",
    "zero width": "a\u200bb",
    "bidi override": "a\u202eb",
    "isolate": "a\u2066b",
    "filler": "a\u115fb",
    "Hangul filler": "a\u3164b",
    "half-width filler": "a\uffa0b",
    "Mongolian vowel separator": "a\u180eb",
    "Mongolian variation selector": "a\u180bb",
    "empty Braille": "a\u2800b",
    "variation selector": "a\ufe0fb",
    "supplementary selector": "a\U000e0101b",
    "tag letters": "a\U000e0041b",
    "private use": "a\ue000b",
    "private plane": "a\U00100000b",
    "unassigned": "a\u0378b",
    "no character": "a\ufffeb",
    "line separator": "a\u2028b",
    "no-break space": "a\u00a0b",
    "thin space": "a\u2009b",
    "interlinear": "a\ufff9b",
    "marks upon marks": "a" + "\u0301" * 200,
    "enclosing marks": "a" + "\u20dd" * 20,
}
SHOWN = [
    "Zürich-3",
    "ノード",
    "узел",
    "صندوق",
    "nœud №7",
    "a\u0323\u0302",
    "GPU ®",
    "日本 東京",
    "🚀",
    "e\u0301",
    "שָׁלוֹם",
    "กี่",
]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(tmp_path_factory.mktemp("text") / "state") as coordinator:
        yield coordinator


def described(text: str) -> list[dict[str, Any]]:
    """Nodes that have the text wherever text can stand."""
    gpu = {"vendor": "x", "model": text}
    return [
        *({name: text} for name in ("hostname", "os_version", "agent_version", "wallet_address")),
        *({"capabilities": {name: text}} for name in ("cpu_model", "architecture", "kernel")),
        {"capabilities": {"cpu_cores": 1, "gpus": [gpu]}},
        {"tags": {"key": text}},
        {"tags": {text: "value"}},
        {text: "value"},
        {"of_mine": text},
        {"of_mine": {text: 1}},
        {"of_mine": {"a": ["b", {"c": text}]}},
        {"extra": {"of_mine": [[text]]}},
    ]


@pytest.mark.parametrize("text", HIDDEN.values(), ids=HIDDEN)
def test_text_that_people_would_not_see_as_it_is_comes_in_nowhere(text: str) -> None:
    registry = NodeRegistry()
    from registry_core.models.encoding import node_from_plain

    for node in described(text):
        if any(len(name) > 63 for name in (*node, *node.get("tags", {}))):
            continue  # too long before it is looked at
        with pytest.raises(ValidationError):
            registry.register_node(node_from_plain({"id": "a", "ip_address": "192.0.2.1", **node}))
    node_id = registry.register_node(Node("192.0.2.1"))
    for change in (registry.admin.cordon, registry.admin.uncordon, registry.admin.ban, registry.admin.approve):
        with pytest.raises(ValidationError):
            change(node_id, reason=text)
        with pytest.raises(ValidationError):
            change(node_id, actor=text)


@pytest.mark.parametrize("text", SHOWN)
def test_text_of_any_script_comes_in_and_is_shown_as_it_is(text: str) -> None:
    registry = NodeRegistry()
    from registry_core.models.encoding import node_from_plain

    for node in described(text):
        registry.register_node(node_from_plain({"id": "a", "ip_address": "192.0.2.1", **node}))
    assert printable(text) == text


def test_over_the_network_too_and_in_the_gap_of_a_heartbeat(running: Running) -> None:
    signer = Signer(running)
    answer = signer.register(1, node={"id": signer.node_id, "public_key": signer.public_key, "ip_address": "192.0.2.1",
                                      f"x{ESCAPES}": "v"})  # fmt: skip
    assert kind(answer) == "invalid"
    assert "\x1b" not in str(answer[2])
    session = signer.register(2)[2]["session"]
    path = f"/v1/nodes/{signer.node_id}/heartbeat"
    for name in ("from", "to", "reason"):
        gap = {"from": "2026-01-01T00:00:00Z", "to": "2026-01-01T00:00:00Z", "samples": 3, name: ESCAPES}
        assert kind(running.call("PUT", path, {"sequence": 1, "gap": gap}, session)) == "invalid"
    honest = {"from": "2026-01-01T00:00:00Z", "to": "2026-01-01T00:00:00Z", "samples": 3, "reason": "no route to host"}
    assert running.call("PUT", path, {"sequence": 1, "gap": honest}, session)[0] == 200


def test_names_of_fields_are_escaped_as_values_are(capsys: pytest.CaptureFixture[str]) -> None:
    print_pairs([(ESCAPES, ESCAPES)])
    print_table((ESCAPES, "B"), [(ESCAPES, "\u3164")])
    say(f"a{ESCAPES}\nFAKE", err=True)
    say_text(f"one\ntwo{ESCAPES}")
    shown = capsys.readouterr()
    assert "\x1b" not in shown.out + shown.err
    assert "\x07" not in shown.out + shown.err
    assert shown.err.count("\n") == 1  # a line of its own is not to be had
    assert "\\u3164" in shown.out


def test_a_log_line_a_traceback_and_the_journal_s_fields_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    try:
        for form in ("plain", "json"):
            configure_logs(form, "info", {}, lines.append)
            try:
                raise ValueError(ESCAPES)
            except ValueError:
                logging.getLogger("duxnet").exception("failed: %s", ESCAPES)
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    assert len(lines) == 2
    assert "\x1b" not in "".join(lines)
    assert b"\x1b" not in datagram({"DUXNET_NODE_ID": ESCAPES, "MESSAGE": f"a\n{ESCAPES}"})


@pytest.mark.parametrize(
    "command",
    [["nodes", "show", ESCAPES], ["nodes", ESCAPES], [ESCAPES], ["--registry", ESCAPES], ["token", "revoke", "x\x1b"]],
)
def test_what_is_mistyped_is_escaped_in_the_complaint(command: list[str], tmp_path: Path) -> None:
    environ = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-m", "duxnet.cli", *command], env=environ, capture_output=True, timeout=30)
    if b"No module named duxnet.cli.__main__" in done.stderr:
        main = "import sys; from duxnet.cli import main; sys.exit(main())"
        done = subprocess.run([sys.executable, "-c", main, *command], env=environ, capture_output=True, timeout=30)
    assert done.returncode != 0
    assert b"\x1b" not in done.stdout + done.stderr


def test_a_crash_shows_its_traceback_without_what_a_terminal_acts_on(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom duxnet.cli.run import ended\n"
        "def fail(): raise KeyError('\\x1b]0;owned\\x07' + chr(10) + 'x')\n"
        "class Odd(Exception):\n    def __str__(self): return '\\x1b[2J'\n"
        "def odd(): raise Odd\n"
        "sys.exit(ended(odd))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=30)
    assert done.returncode == 1
    assert b"Traceback" in done.stderr
    assert b"\\x1b[2J" in done.stderr
    assert b"\x1b" not in done.stderr


@pytest.mark.parametrize(
    "statement",
    [
        "import click\n\nclick.echo('x')",
        "from click import echo\n\necho('x')",
        "import click\n\nclick.secho('x')",
        "import sys\n\nsys.stdout.write('x')",
        "import sys\n\nsys.stderr.writelines(['x'])",
        "from sys import stdout\n\nstdout.write('x')",
        "import sys\n\nsys.__stderr__.write('x')",
        "print('x')",
    ],
)
@pytest.mark.parametrize("package", ["duxnet/cli", "agent", "registry_core"])
def test_the_linter_knows_no_other_way_to_a_terminal(statement: str, package: str) -> None:
    command = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--select",
        "TID,T20",
        "--stdin-filename",
        f"{package}/new.py",
        "-",
    ]
    done = subprocess.run(command, input=f"{statement}\n", capture_output=True, text=True, cwd=REPOSITORY, timeout=30)
    assert done.returncode == 1, done.stdout
    assert "TID251" in done.stdout or "T201" in done.stdout


def test_a_stream_that_is_closed_is_an_error_of_the_system_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        def write(self, _text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Gone())
    with pytest.raises(BrokenPipeError):
        say("x")
