"""`duxnet probe` as it is typed: what it prints, its exit codes, its two readers of one table of options."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from duxnet.cli.probe import OPTIONS, command, parsed_without_click
from tests.probe.test_recordings import RECORDINGS
from tests.probe.test_rules import disk_usage
from tests.support.processes import duxnet, duxnet_process

# Modules that `duxnet probe` must not load, and why
FORBIDDEN = {
    "pydantic": "validates settings; 260 ms of CPU time",
    "pydantic_settings": "reads settings; the probe has none",
    "httpx": "talks to a registry; the probe talks to nobody",
    "apscheduler": "schedules; the probe runs once",
    "rich": "draws; plain text is enough",
    "msgspec": "checks what comes over the wire",
    "cryptography": "signs; the probe signs nothing",
    "pyroaring": "the registry's index",
    "sqlite3": "the registry's store",
    "importlib.metadata": "looks versions up on disk",
    "click": "26 ms for options that a table parses; it comes when help or an error is asked for",
    "dataclasses": "14 ms, by way of inspect",
    "inspect": "the same",
    "hashlib": "loads OpenSSL, 3 ms",
    "logging": "13 ms; what happens is in the report",
    "uuid": "9 ms, no id is made",
    "asyncio": "nothing waits for many things",
}


def test_json_is_all_that_standard_output_holds() -> None:
    done = duxnet_process("probe", "--format", "json", "--work-dir", "/")
    assert done.stderr == ""
    assert list(json.loads(done.stdout)) == ["schema", "capabilities", "readings", "errors"]
    assert done.returncode == (3 if json.loads(done.stdout)["errors"] else 0)


@pytest.mark.parametrize(
    ("machine", "code"), [("arm-board", 0), ("dead-nfs-mount", 3)], ids=["whole is 0", "partial is 3"]
)
def test_the_exit_code_says_whether_everything_was_found_out(machine: str, code: int) -> None:
    done = duxnet("probe", "--root", str(RECORDINGS / machine))
    assert done.returncode == code
    assert done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["--format", "xml"],
        ["--only", "cpu,gpus"],
        ["--only"],
        ["--only", ""],
        ["--nope"],
        ["extra"],
        ["--explain=yes"],
        ["--root", "/nowhere/at/all"],
        ["--work-dir", ""],
        ["--record", "/proc/none"],
    ],
)
def test_a_mistake_in_usage_is_one_clear_error_and_exit_code_2(arguments: list[str]) -> None:
    done = duxnet("probe", *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert done.stderr.strip()


def test_a_recording_that_is_none_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "machine.recording").write_text("file /a = b\nwhat is this\n")
    done = duxnet("probe", "--root", str(tmp_path))
    assert done.returncode == 2
    assert "line 2" in done.stderr
    (tmp_path / "machine.recording").write_bytes(b"\xff\xfe")
    assert "UTF-8" in duxnet("probe", "--root", str(tmp_path)).stderr


def test_only_the_named_probes_run() -> None:
    report = json.loads(duxnet("probe", "--format", "json", "--only", "memory,cpu").stdout)
    names = {reading["name"] for reading in report["readings"]}
    assert {"cpu_cores", "memory_gb"} <= names
    assert not names & {"storage_gb", "gpus", "hostname", "addresses"}


def by_click(arguments: list[str]) -> Any:
    """What click makes of the arguments; None for help or an error."""
    made = command()
    try:
        return made.make_context("probe", list(arguments)).params
    except (click.ClickException, click.exceptions.Exit):
        return None


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--format", "json"],
        ["--format=json", "--only", "cpu,memory"],
        ["--only=cpu", "--only=gpu"],
        ["--explain", "--work-dir", "/a b"],
        ["--record", "x", "--root=y=z"],
        ["--work-dir="],
        ["--help"],
        ["--format", "yaml"],
        ["--format"],
        ["--form", "json"],
        ["--explain=1"],
        ["--only", "cpu,nope"],
        ["--only", ""],
        ["-x"],
        ["x"],
        ["--"],
    ],
)
def test_the_fast_reader_and_click_agree(arguments: list[str]) -> None:
    fast, slow = parsed_without_click(arguments), by_click(arguments)
    if fast is not None:  # None means: click decides
        assert fast == slow


def test_every_plain_use_of_every_option_takes_the_fast_way() -> None:
    for option in OPTIONS:
        value = [] if option.metavar is None else [option.choices[-1] if option.choices else "cpu"]
        assert parsed_without_click([option.name, *value]) is not None


def test_the_probe_loads_only_what_it_needs() -> None:
    code = (
        "import sys; from duxnet.cli import main; code = main(['probe', '--format', 'json', '--work-dir', '/'])\n"
        "sys.stderr.write('\\n'.join(sys.modules)); sys.exit(code)"
    )
    # -I -S: neither the test runner's settings nor what site-packages' .pth files import may count
    paths = [path for path in sys.path if path]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path[:] = {paths!r}\n{code}"],
        capture_output=True,
        timeout=30,
    )
    loaded = set(done.stderr.decode().split("\n"))
    assert "agent.probe.runner" in loaded, done.stderr
    assert not loaded & set(FORBIDDEN), {name: FORBIDDEN[name] for name in loaded & set(FORBIDDEN)}


def test_explain_says_what_is_offered_and_what_made_the_difference() -> None:
    text = duxnet("probe", "--explain", "--root", str(RECORDINGS / "container-cgroup-v1")).stdout
    assert text.startswith("This machine offers 1 CPU, 2.147 GB of memory, 99.72 GB of storage and no GPU.")
    assert (
        "CPUs: 1 offered; 1.5 may be used by this process; 16 on the whole machine.\n"
        "  Limited by: the CPU quota of a control group, /sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us.\n"
        "  A share of CPU time is offered as whole CPUs, rounded down, but at least one.\n"
    ) in text
    assert "Memory: 2.147 GB offered; that is all that this process may use; 67.423 GB on the whole machine.\n" in text
    assert "/etc/hosts" not in text


def test_the_table_escapes_what_a_terminal_would_obey(tmp_path: Path) -> None:
    (tmp_path / "machine.recording").write_text('ask uname = ["Linux", "h", "6.1", "v", "x"]\n')
    source = (tmp_path / "machine.recording").read_text()
    (tmp_path / "machine.recording").write_text(
        source + "file /proc/self/mountinfo\n|1 0 8:1 / /\x1b[31mred rw - ext4 d rw\n"
        'ask nearest_existing / = "/"\n' + disk_usage("/", 9, 0, 9) + disk_usage("/\x1b[31mred", 9, 0, 9)
    )
    text = duxnet("probe", "--all", "--only", "storage", "--work-dir", "/", "--root", str(tmp_path)).stdout
    assert "\x1b" not in text
    assert "\\x1b[31mred" in text


def test_a_terminal_that_cannot_show_a_sign_gets_it_escaped(tmp_path: Path) -> None:
    (tmp_path / "machine.recording").write_text(
        'ask uname = ["Linux", "h", "6.1", "v", "x"]\nfile /etc/os-release = PRETTY_NAME="Größe ®"\n'
        'file /proc/meminfo = x\ndir /sys/bus = ["pci"]\n'
    )
    done = duxnet_process("probe", "--only", "host", "--root", str(tmp_path), PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert "Gr\\xf6\\xdfe" in done.stdout


def test_what_was_recorded_replays_to_the_same_capabilities(tmp_path: Path) -> None:
    recorded = duxnet("probe", "--format", "json", "--record", str(tmp_path / "r"), "--work-dir", "/")
    assert "read it before you send it" in recorded.stderr
    replayed = duxnet("probe", "--format", "json", "--root", str(tmp_path / "r"))
    assert json.loads(replayed.stdout)["capabilities"] == json.loads(recorded.stdout)["capabilities"]
