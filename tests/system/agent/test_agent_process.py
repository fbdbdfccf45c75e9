"""A real agent process: what an operator sees of it, and what it survives."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import RunningAgent, duxnet, duxnet_process, environment, until

pytestmark = pytest.mark.xdist_group("timing")  # what it measures bears no other measurement beside it


LEAVING_SECONDS = 2.0


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    return tmp_path / "state"


def test_it_reports_at_its_interval_and_the_desk_beside_it_shows_it(state_dir: Path) -> None:
    with RunningAgent(state_dir) as agent:
        status = agent.wait_for_reports(3)
        assert status["problem"] is None
        assert status["interval_seconds"] == 0.2
        listed = duxnet("nodes", "list", "--registry", state_dir / "nodes.json", "--format", "json")
        assert listed.returncode == 0, listed.stderr
        (node,) = json.loads(listed.stdout)["nodes"]
        assert node["id"] == status["node_id"]
        assert node["liveness"] == "live"
        assert node["capabilities"]["cpu_cores"] >= 1
        assert node["health"]["memory_usage"] > 0
        assert node["health"]["age_seconds"] < 10

        shown = duxnet("status", "--state-dir", state_dir)
        assert shown.returncode == 0, shown.stdout
        assert f"process {agent.process.pid}" in shown.stdout

        change = duxnet("nodes", "remove", node["id"], "--registry", state_dir / "nodes.json")
        assert change.returncode == 1
        assert f"process {agent.process.pid} has this registry open" in change.stderr

        code, seconds = agent.stop()
        assert code == 0
        assert seconds < LEAVING_SECONDS
        assert "stopping: SIGTERM" in agent.log
    assert duxnet("status", "--state-dir", state_dir).returncode == 1
    assert desk_says(state_dir)["liveness"] == "left"
    assert not desk_says(state_dir)["is_ready"]


def desk_says(state_dir: Path) -> dict[str, Any]:
    """The one node that `nodes list` shows."""
    (node,) = json.loads(duxnet("nodes", "list", "--registry", state_dir / "nodes.json", "--format", "json").stdout)[
        "nodes"
    ]
    assert isinstance(node, dict)
    return node


def test_killed_and_started_again_it_is_the_same_node(state_dir: Path) -> None:
    with RunningAgent(state_dir) as agent:
        first = agent.wait_for_reports()
        agent.stop(signal.SIGKILL)
        gone = duxnet("status", "--state-dir", state_dir)
        assert gone.returncode == 1
        assert "ended without a clean shutdown" in gone.stdout
        assert desk_says(state_dir)["liveness"] == "down"
    with RunningAgent(state_dir) as agent:
        second = agent.wait_for_reports()
        assert second["node_id"] == first["node_id"]
        nodes = json.loads((state_dir / "nodes.json").read_text())["nodes"]
        assert len(nodes) == 1


def test_a_second_agent_in_the_same_folder_is_refused_with_the_pid_of_the_first(state_dir: Path) -> None:
    with RunningAgent(state_dir) as agent:
        agent.wait_for_reports()
        second = duxnet_process("agent", "--state-dir", state_dir)
        assert second.returncode == 1
        assert f"the agent with process id {agent.process.pid} uses this state directory" in second.stderr
        assert "Traceback" not in second.stderr
        agent.wait_for_reports()


def test_sighup_reads_the_configuration_again_and_refuses_a_bad_one(state_dir: Path, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("[agent.tags]\nzone = 'a'\n")
    with RunningAgent(state_dir, "--config", file) as agent:
        agent.wait_for_reports()
        file.write_text("[agent.tags]\nzone = 'b'\n[agent.reserve]\ncpus = 100000\n[agent]\nprot = 1\n")
        agent.process.send_signal(signal.SIGHUP)
        agent.wait_for_log("the old configuration is kept")
        assert "did you mean port?" in agent.log
        agent.wait_for_reports(2)
        assert _tags(state_dir) == {"zone": "a"}

        file.write_text("[agent]\nwallet_address = 'w1'\n[agent.tags]\nzone = 'b'\n")
        agent.process.send_signal(signal.SIGHUP)
        agent.wait_for_log("registered again: wallet_address, tags changed")
        until(lambda: _tags(state_dir) == {"zone": "b"}, "the new tags")
        agent.wait_for_reports(2)

        file.write_text("[agent]\nwallet_address = 'w1'\n[agent.tags]\nzone = 'b'\n[registry]\ntoken = 'secret'\n")
        agent.process.send_signal(signal.SIGHUP)
        agent.wait_for_log("registry.token: the change takes effect at the next start")
        assert "secret" not in agent.log

        file.unlink()
        agent.process.send_signal(signal.SIGHUP)
        agent.wait_for_log("No such file or directory")
        agent.wait_for_reports(2)
        assert agent.stop()[0] == 0


def _tags(state_dir: Path) -> object:
    (node,) = json.loads((state_dir / "nodes.json").read_text())["nodes"]
    return node["tags"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_during_the_start_ends_it_quietly(number: signal.Signals, state_dir: Path) -> None:
    with RunningAgent(state_dir) as agent:
        until(lambda: "starting" in agent.log or agent.process.poll() is not None, "the start")
        code, seconds = agent.stop(number)
        assert code == 0
        assert seconds < LEAVING_SECONDS
        assert "Traceback" not in agent.log


def test_sighup_during_the_start_does_not_kill_it(state_dir: Path) -> None:
    with RunningAgent(state_dir) as agent:
        until(lambda: "starting" in agent.log or agent.process.poll() is not None, "the start")
        agent.process.send_signal(signal.SIGHUP)
        agent.wait_for_reports()
        agent.wait_for_log("configuration reloaded")


def test_once_registers_reports_prints_one_line_and_leaves(state_dir: Path) -> None:
    done = duxnet_process("agent", "--once", "--state-dir", state_dir)
    assert done.returncode in (0, 3), done.stderr  # 3: a probe of this machine could not find out everything
    (line,) = done.stdout.splitlines()
    assert "memory" in line
    assert json.loads((state_dir / "nodes.json").read_text())["nodes"]


def test_systemd_hears_ready_status_watchdog_and_stopping(state_dir: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "300000"}
        with RunningAgent(state_dir, interval=900, environ=environ) as agent:
            heard = _heard_until(manager, b"WATCHDOG=1")
            assert any(message.startswith(b"READY=1\nSTATUS=") for message in heard)
            for _ in range(3):  # at an interval of 900 s: fed by the schedule's own loop
                _heard_until(manager, b"WATCHDOG=1")
            agent.process.send_signal(signal.SIGHUP)
            _heard_until(manager, b"RELOADING=1")
            _heard_until(manager, b"READY=1")
            agent.process.send_signal(signal.SIGTERM)
            _heard_until(manager, b"STOPPING=1")


def _heard_until(manager: socket.socket, word: bytes) -> list[bytes]:
    heard: list[bytes] = []
    while not heard or not heard[-1].startswith(word):
        heard.append(manager.recv(4096))
    return heard


def test_the_status_file_lies_in_the_units_runtime_directory_readable_for_all(state_dir: Path, tmp_path: Path) -> None:
    runtime = tmp_path / "run"
    runtime.mkdir()
    with RunningAgent(state_dir, environ={"RUNTIME_DIRECTORY": str(runtime)}) as agent:
        until((runtime / "agent.json").exists, "the status file")
        assert (runtime / "agent.json").stat().st_mode & 0o777 == 0o644
        assert not (state_dir / "agent.json").exists()
        shown = duxnet("status", "--state-dir", state_dir, RUNTIME_DIRECTORY=str(runtime))
        assert str(agent.process.pid) in shown.stdout


def test_logs_can_be_json(state_dir: Path) -> None:
    with RunningAgent(state_dir, "--log-format", "json") as agent:
        agent.wait_for_reports(2)
        agent.stop()
        lines = [json.loads(line) for line in agent.log.splitlines()]
    assert {"time", "level", "logger", "message"} <= set(lines[0])
    assert any("load_average" in line for line in lines)


def test_a_key_that_others_may_read_stops_the_start_with_the_remedy(state_dir: Path) -> None:
    assert duxnet_process("agent", "--once", "--state-dir", state_dir).returncode in (0, 3)
    (state_dir / "node.key").chmod(0o644)
    refused = duxnet_process("agent", "--once", "--state-dir", state_dir)
    assert refused.returncode == 1
    assert "chmod 600" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_folder_used_on_another_machine_is_noticed_and_said_and_kept_in_use(state_dir: Path) -> None:
    assert duxnet_process("agent", "--once", "--state-dir", state_dir).returncode in (0, 3)
    before = json.loads((state_dir / "node.id").read_text())["id"]
    machine = state_dir / "machine.json"
    if not machine.exists():
        pytest.skip("this machine has no machine-id to make a hint of")
    machine.write_text(json.dumps({"machine_hint": "0" * 32}))
    with RunningAgent(state_dir) as agent:
        status = agent.wait_for_reports()
        assert status["node_id"] == before
        assert "was used on another machine before" in agent.log
        assert "another machine" in duxnet("status", "--state-dir", state_dir).stdout


@pytest.mark.parametrize(
    ("flags", "code", "wanted"),
    [
        (["--interval", "x"], 78, "agent.interval_seconds: 'x' is not accepted"),
        (["--interval", "0"], 78, "agent.interval_seconds: '0' is not accepted"),
        (["--interval", "nan"], 78, "agent.interval_seconds: 'nan' is not accepted"),
        (["--interval", "901"], 78, "agent.interval_seconds: '901' is not accepted"),
        (["--state-dir", "/dev/null/x"], 1, "'/dev/null/x': cannot be used as a state directory: Not a directory"),
        (["--state-dir", "/proc"], 1, "'/proc': cannot be used as a state directory"),
        (["--state-dir", "a\nb"], 78, "agent.state_dir: 'a\\nb' is not accepted"),
        (["--config", "/nowhere.toml"], 78, "--config: '/nowhere.toml' cannot be read: No such file"),
        (["--registry", "ftp://x"], 78, "must be a path, or an address with http:// or https://"),
        (["--registry", "http://192.0.2.1:8410"], 2, "must be https://"),
        (["--registry", "nodes.xml"], 78, "nodes.xml"),
        (["--log-format", "xml"], 2, "--log-format"),
        (["--intervall", "3"], 2, "--interval"),
        (["extra"], 2, "extra"),
    ],
)
def test_a_bad_flag_is_one_clear_line_and_an_exit_code(
    flags: list[str], code: int, wanted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = [] if "--state-dir" in flags else ["--state-dir", str(tmp_path / "s")]
    monkeypatch.chdir(tmp_path)
    refused = duxnet("agent", "--once", *home, *flags)
    assert refused.returncode == code, refused.stderr
    assert wanted in refused.stderr
    assert "Traceback" not in refused.stderr
    assert refused.stdout == ""


@pytest.mark.slow
def test_a_full_disk_is_told_and_reporting_goes_on_when_there_is_room_again(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", small]).returncode != 0:
        pytest.skip("needs the right to mount a small tmpfs")
    try:
        state = small / "state"
        with RunningAgent(state, environ={"RUNTIME_DIRECTORY": str(tmp_path)}) as agent:
            until((tmp_path / "agent.json").exists, "the first report")
            _fill(small / "ballast")
            before = _delivered(tmp_path)
            until(lambda: _delivered(tmp_path) >= before + 3, "reports on a full disk")  # samples need no disk
            assert agent.stop()[0] == 0
            assert "the newest sample could not be saved" in agent.log
            assert "Traceback" not in agent.log
        full = duxnet_process("agent", "--once", "--state-dir", small / "other")
        assert full.returncode == 1
        assert "No space left" in full.stderr
        assert "Traceback" not in full.stderr
        (small / "ballast").unlink()
        with RunningAgent(state, environ={"RUNTIME_DIRECTORY": str(tmp_path)}) as agent:
            agent.wait_for_log("reported")
    finally:
        subprocess.run(["umount", "-l", small], check=False)


def _delivered(folder: Path) -> int:
    return int(json.loads((folder / "agent.json").read_text())["reports_delivered"])


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            return


@pytest.mark.parametrize("named", ["", "10.1.2.3"])
def test_a_node_that_no_other_machine_can_reach_says_so(named: str, state_dir: Path) -> None:
    script = (
        "import sys; from agent.probe import system_calls as calls; from duxnet.cli import main\n"
        "lo = {'name': 'lo', 'up': True, 'mtu': 65536, 'addresses': ['127.0.0.1']}\n"
        "calls.QUESTIONS['interfaces'] = lambda _: [lo]\n"
        "calls.QUESTIONS['route'] = lambda _: None\n"
        f"sys.exit(main(['agent', '--once', '--state-dir', {str(state_dir)!r}]))"
    )
    environ = environment({"DUXNET_AGENT__OVERRIDE__PRIMARY_ADDRESS": named} if named else {})
    done = subprocess.run([sys.executable, "-c", script], env=environ, capture_output=True, text=True, timeout=30)
    assert done.returncode in (0, 3), done.stderr
    warnings = [line for line in done.stderr.splitlines() if "no address that other machines can reach" in line]
    assert len(warnings) == (0 if named else 1), done.stderr
    assert desk_says(state_dir)["ip_address"] == (named or "127.0.0.1")
