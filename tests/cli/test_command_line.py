"""The top of the command line: what is loaded, what is suggested, how errors and pipes end."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from duxnet.cli import COMMANDS, main
from duxnet.cli.group import click_command, group
from duxnet.cli.run import ended
from registry_core.version import __version__
from tests.support.processes import command, duxnet, duxnet_process, environment
from tests.support.requirements import need_program

STARTS = {  # command: what follows it, its exit code, and a part of what it says; other tests call it in this process
    "probe": (["--only", "host"], 0, "host name"),
    "agent": (["--state-dir", "/dev/null/x"], 1, "cannot be used as a state directory"),
    "status": (["--state-dir", "."], 1, "not running"),
    "nodes": (["register", "--ip-address", "192.0.2.1", "--id", "first-node", "--registry", "n.json"], 0, "first-node"),
    "registry": (["new-key", "new.key"], 0, ""),
    "config": (["show"], 0, "agent.interval_seconds"),
    "service": (["uninstall", "--root", ".", "--dry-run"], 0, ""),
    "doctor": (["--state-dir", "."], 1, "PROBLEM"),
    "coordinator": (["--state-dir", "c", "--host", "0.0.0.0"], 78, "needs TLS"),
    "token": (["create", "reader", "--state-dir", "."], 1, "coordinator.db does not exist"),
    "key": (["show", "--state-dir", "."], 1, "node.key"),
    "wallet": (["message", "none", "--registry", "none.json"], 1, "none.json"),
    "completion": (["bash"], 0, "_duxnet_completion"),
    "manual": ([], 0, ".TH"),
    "help": (["nodes", "list"], 0, "Usage: duxnet nodes list"),
    "version": ([], 0, f"duxnet {__version__}"),
}


def test_the_version_is_printed_without_loading_anything_for_it() -> None:
    loaded = subprocess.run(
        [sys.executable, "-X", "importtime", *command("--version")[1:]], capture_output=True, text=True, check=True
    )
    assert loaded.stdout == f"duxnet {__version__}\n"
    for module in ("click", "importlib.metadata", "pydantic", "json", "pathlib"):
        assert not re.search(rf"\| +{re.escape(module)}$", loaded.stderr, re.MULTILINE), module


def test_help_lists_every_command_without_loading_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for name, (_module, _attribute, line) in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(line[:30])}", text, re.MULTILINE)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_that_begins_as_the_list_says(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    assert "Usage: duxnet " + name in capsys.readouterr().out
    assert click_command(name).name == name


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_runs_in_a_process_of_its_own(name: str, tmp_path: Path) -> None:
    words, code, wanted = STARTS[name]
    done = subprocess.run(
        command(name, *words), cwd=tmp_path, env=environment({}), capture_output=True, text=True, timeout=30
    )
    assert done.returncode == code, done.stderr
    assert wanted in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) in (0, 2)
    captured = capsys.readouterr()
    assert "Commands:" in captured.out + captured.err


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["prob"], "there is no command 'prob'; did you mean probe?"),
        (["nodes", "lst"], "there is no command 'lst'; did you mean list?"),
        (["xyzzy"], "there is no command 'xyzzy'; the commands are probe, agent"),
        (["\x1b[2J"], r"there is no command '\x1b[2J'"),
        (["agent", "--intervall", "3"], "there is no option '--intervall'; did you mean --interval?"),
        (["nodes", "list", "--limit", "many"], "--limit: 'many' is not a valid integer"),
        (["nodes", "show"], "ID is missing"),
        (["token", "create", "guest"], "ROLE: 'guest' is not one of"),
        (["token", "lits"], "there is no command 'lits'; did you mean list?"),
        (["help", "nodes", "lst"], "there is no command 'lst'; did you mean list?"),
        (["config", "show", "-o", "yaml"], "-o / --format: 'yaml' is not one of"),
        (["--frobnicate"], "there is no option '--frobnicate'"),
    ],
)
def test_a_mistyped_word_is_a_usage_error_with_a_suggestion(
    arguments: list[str], wanted: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    error, hint = captured.err.splitlines()
    assert error.startswith(f"duxnet: {wanted}")
    assert re.fullmatch(r"See `duxnet[a-z -]* --help`\.", hint)
    assert captured.out == ""


def test_a_reader_that_leaves_early_is_no_error() -> None:
    shell = f"{' '.join(map(_quoted, command('probe', '--format', 'json')))} | head -c 1"
    done = subprocess.run(["/bin/sh", "-c", shell], capture_output=True, text=True, env=environment({}), timeout=30)
    assert done.stdout == "{"
    assert done.stderr == ""


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


@pytest.mark.parametrize("buffering", [{}, {"PYTHONUNBUFFERED": "1"}], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("words", ["config show", "--help", "--version", "probe --only host", "manual", "nodes --help"])
def test_a_full_output_device_is_told(words: str, buffering: dict[str, str]) -> None:
    done = in_a_shell(f"{words} >/dev/full", **buffering)
    assert done.returncode == 1
    assert done.stderr == "duxnet: No space left on device\n"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("config show 2>/dev/full", 0),
        ("config show >/dev/full 2>&1", 1),
        ("probe --only host >/dev/full 2>&1", 1),
        ("nodes lst 2>/dev/full", 2),
        ("probe --only nothing 2>/dev/full", 2),
        ("agent --interval 0 2>/dev/full", 78),
        ("nodes list --registry /nowhere/nodes.json 2>/dev/full", 1),
    ],
)
def test_an_error_that_cannot_be_written_keeps_its_exit_code(words: str, code: int) -> None:
    assert in_a_shell(words).returncode == code


@pytest.mark.parametrize("words", ["config show", "--version", "probe --only host", "manual"])
def test_a_reader_that_is_gone_ends_every_command_alike(words: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            command(*words.split()), stdout=writing, stderr=subprocess.PIPE, env=environment({}), timeout=30
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


def in_a_shell(words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    call = " ".join(map(_quoted, command()))
    return subprocess.run(
        ["/bin/sh", "-c", f"{call} {words}"], capture_output=True, text=True, env=environment(environ), timeout=30
    )


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
@pytest.mark.parametrize("words", ["config show", "nodes lst", "probe --only host", "probe --only nothing"])
def test_closed_streams_are_no_fault_of_the_program(words: str, closed: str) -> None:
    done = in_a_shell(f"{words} {closed}")
    assert done.returncode in (0, 2, 3)
    assert "Traceback" not in done.stderr + done.stdout


def test_a_terminal_that_shows_only_ascii_gets_escapes(tmp_path: Path) -> None:
    done = duxnet_process("agent", "--once", "--state-dir", tmp_path / "state", PYTHONIOENCODING="ascii")
    assert done.returncode in (0, 3), done.stderr
    assert "\\u2026 on " in done.stdout


def test_ctrl_c_ends_quietly() -> None:
    def interrupted() -> int:
        raise KeyboardInterrupt

    assert ended(interrupted) == 130


def test_a_fault_of_the_program_keeps_its_traceback() -> None:
    def faulty() -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ended(faulty)


@pytest.fixture
def on_path() -> dict[str, str]:
    folder = Path(sys.executable).parent
    if not (folder / "duxnet").exists():
        pytest.skip("the duxnet command is not installed beside this Python")
    return environment({"PATH": f"{folder}:{os.environ['PATH']}"})


def test_bash_completes_commands_and_options(on_path: dict[str, str]) -> None:
    bash = need_program("bash", "bash")
    script = """
        eval "$(duxnet completion bash)"
        complete -p duxnet
        try() { COMPREPLY=(); _duxnet_completion duxnet; echo "got ${COMPREPLY[*]}"; }
        COMP_WORDS=(duxnet nodes li); COMP_CWORD=2; try
        COMP_WORDS=(duxnet agent --st); COMP_CWORD=2; try
        COMP_WORDS=(duxnet pro); COMP_CWORD=1; try
    """
    done = subprocess.run([bash, "--norc", "-c", script], env=on_path, capture_output=True, text=True, timeout=30)
    assert "_duxnet_completion" in done.stdout, done.stderr
    assert [line[4:] for line in done.stdout.splitlines() if line.startswith("got")] == ["list", "--state-dir", "probe"]


def test_zsh_completes_commands(on_path: dict[str, str]) -> None:
    zsh = need_program("zsh", "zsh")
    script = """
        compdef() { print "registered $2" }
        _describe() { print -l "got ${(@P)3}" }
        compadd() { [[ $argv[1] == -U ]] && print -l "got ${(@P)argv[-1]}" }
        eval "$(duxnet completion zsh)"
        words=(duxnet nod); CURRENT=2; _duxnet_completion
    """
    done = subprocess.run([zsh, "-f", "-c", script], env=on_path, capture_output=True, text=True, timeout=30)
    assert "registered duxnet" in done.stdout, done.stderr
    assert "got nodes" in done.stdout


def test_fish_completes_commands(on_path: dict[str, str]) -> None:
    fish = need_program("fish", "fish")
    script = 'duxnet completion fish | source; complete -C "duxnet stat"'
    done = subprocess.run([fish, "--no-config", "-c", script], env=on_path, capture_output=True, text=True, timeout=30)
    assert done.stdout.startswith("status"), done.stderr


def test_an_unknown_shell_is_a_usage_error() -> None:
    assert duxnet("completion", "csh").returncode == 2


def test_the_group_can_be_mounted_elsewhere() -> None:
    assert set(group().commands) == set()  # nothing is loaded before it is asked for


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_lines_that_install_completion_work_in_an_empty_home(shell: str, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
    block = page.partition("## duxnet completion")[2].partition("```sh\n")[2].partition("```")[0]
    lines = [line for line in block.splitlines() if line.startswith("mkdir") or f"completion {shell}" in line]
    environ = {"HOME": str(tmp_path), "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(["sh", "-ec", "\n".join(lines)], env=environ, check=True, capture_output=True)
    assert [path for path in tmp_path.rglob("*duxnet*") if path.stat().st_size > 100]
