"""A real boot of a fresh Debian 12: the README's commands, and then whatever can happen to a service.

One machine for all tests, in the order of this file: each leaves the services active for the next. Memory, CPU and
task limits are not enforced in such a machine: see `test_own_limits`.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, TypeVar

import psutil
import pytest

from tests.support.requirements import need_program
from tests.system.systemd.debian_tree import REPOSITORY, cache_folder, fill_wheelhouse
from tests.system.systemd.machine import MARK, Machine, why_not

pytestmark = [pytest.mark.slow, pytest.mark.timeout(540), pytest.mark.xdist_group("timing")]

AGENT = "duxnet-agent.service"
COORDINATOR = "duxnet-coordinator.service"
STATUS_FILE = "/run/duxnet-agent/agent.json"
T = TypeVar("T")


def need_a_machine() -> None:
    need_program("systemd-nspawn", "systemd-container")
    need_program("debootstrap", "debootstrap")
    reason = why_not()
    if reason is not None:
        pytest.skip(f"NO REAL BOOT WAS TRIED: {reason}")


def readme_commands() -> str:
    """What the README says to type on a fresh Debian, with the wheel of this checkout in the place of the checkout.

    Building the wheel needs an index, and the booted machine has none.
    """
    blocks = re.findall(r"^```(?:sh|bash|console)\n(.*?)^```", (REPOSITORY / "README.md").read_text(), re.M | re.S)
    (found,) = [block for block in blocks if "duxnet service install" in block]
    lines = [line.partition(" #")[0].strip() for line in found.splitlines() if line.strip()]
    assert len(lines) <= 3, "three commands at most"
    commands = "\n".join(lines)
    assert commands.count("pipx install .\n") == 1
    return commands.replace("pipx install .\n", "pipx install /wheels/duxnet_registry-*.whl\n")


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    need_a_machine()
    made = Machine()
    try:
        fill_wheelhouse(made.root / "wheels")
        made.boot()
        # An address as machines have one; the boot has no other network.
        made.run("ip link add lan0 type veth peer name lan1; ip addr add 192.168.77.2/24 dev lan0")
        made.run("ip link set lan0 up; ip link set lan1 up")
        yield made
    finally:
        made.destroy()


def typed(machine: Machine, commands: str, *, timeout_seconds: float = 180.0) -> str:
    """Type `commands` as an administrator would, with the wheels of this checkout in the place of PyPI."""
    shell = 'sudo() { env "$@"; }; export PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels DEBIAN_FRONTEND=noninteractive\n'
    return machine.run(f"{shell}{commands}", timeout_seconds=timeout_seconds)


def show(machine: Machine, unit: str, name: str) -> str:
    return machine.run(f"systemctl show {unit} --property={name} --value").strip()


def agent_status(machine: Machine) -> dict[str, Any]:
    """What the agent last wrote of itself."""
    found: dict[str, Any] = json.loads(machine.run(f"cat {STATUS_FILE}"))
    return found


def within(seconds: float, look: Callable[[], T]) -> T:
    """The first truthy answer of `look`, asked until `seconds` are over."""
    deadline = time.monotonic() + seconds
    last: Exception
    while True:
        try:
            answer = look()
            if answer:
                return answer
            last = AssertionError(f"still {answer!r} after {seconds} s")
        except (AssertionError, ValueError) as error:  # not there yet, or half there
            last = error
        if time.monotonic() > deadline:
            raise last
        time.sleep(0.2)


def reports_again(machine: Machine, *, after: int, seconds: float = 30.0) -> dict[str, Any]:
    """The status of an agent process other than `after`, once it has delivered a report."""

    def look() -> dict[str, Any]:
        found = agent_status(machine)
        return found if found["pid"] != after and found["problem"] is None and found["reports_delivered"] else {}

    return within(seconds, look)


def journal(machine: Machine, unit: str = AGENT) -> str:
    return machine.run(f"journalctl --no-pager --output=cat --unit={unit}")


def drop_in(machine: Machine, unit: str, text: str) -> None:
    machine.run(f"mkdir -p /run/systemd/system/{unit}.d")
    (machine.root / "tmp-drop-in").write_text(text)
    machine.run(f"cp /tmp-drop-in /run/systemd/system/{unit}.d/test.conf; rm /tmp-drop-in; systemctl daemon-reload")


def test_the_commands_of_the_readme_lead_to_an_active_service(machine: Machine) -> None:
    said = typed(machine, readme_commands())
    assert f"{AGENT} is active" in said
    assert show(machine, AGENT, "ActiveState") == "active"
    assert re.match(r"registered as n1\w+… on fresh-debian, last report \d\d:", show(machine, AGENT, "StatusText"))
    node_id = agent_status(machine)["node_id"]
    assert node_id[:12] in machine.run("duxnet nodes list")


def test_it_runs_under_all_its_hardening(machine: Machine) -> None:
    pid = show(machine, AGENT, "MainPID")
    status = dict(line.split(":\t", 1) for line in machine.run(f"cat /proc/{pid}/status").splitlines() if ":\t" in line)
    assert status["CapEff"].strip() == status["CapBnd"].strip() == "0000000000000000"
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert status["Uid"].split()[0] not in ("0", "65534")
    assert machine.run("stat -c %a /var/lib/private/duxnet-agent").strip() == "700"


def test_the_second_installation_changes_nothing(machine: Machine) -> None:
    pid = show(machine, AGENT, "MainPID")
    said = machine.run("duxnet service install")
    assert {line.split()[0] for line in said.splitlines()[:-1]} == {"unchanged"}
    assert show(machine, AGENT, "MainPID") == pid


def test_it_runs_with_the_drop_ins_too(machine: Machine) -> None:
    pid = show(machine, AGENT, "MainPID")
    assert f"{AGENT} is active" in machine.run("duxnet service install --gpu --allow 192.168.77.0/24")
    assert show(machine, AGENT, "MainPID") != pid
    assert "gpu.conf" in show(machine, AGENT, "DropInPaths")
    assert show(machine, AGENT, "PrivateDevices") == "no"
    assert "192.168.77.0/24" in show(machine, AGENT, "IPAddressAllow")
    assert f"{AGENT} is active" in machine.run("duxnet service install --no-gpu --allow any")
    assert show(machine, AGENT, "DropInPaths") == ""


def test_anybody_sees_how_it_is_and_no_secret(machine: Machine) -> None:
    seen = machine.run("setpriv --reuid=nobody --regid=nogroup --clear-groups duxnet status --format json")
    assert json.loads(seen)["reporting"] is True
    key = machine.run("base64 -w0 /var/lib/private/duxnet-agent/node.key").strip()
    assert key[:16] not in seen + journal(machine)
    machine.run("setpriv --reuid=nobody --regid=nogroup --clear-groups duxnet service status")
    refused = machine.try_run("setpriv --reuid=nobody --regid=nogroup --clear-groups duxnet nodes list")
    assert (refused.returncode, "sudo" in refused.stderr) == (1, True)


def test_an_upgrade_is_taken_up_by_installing_again(machine: Machine) -> None:
    before = agent_status(machine)
    typed(
        machine,
        "PIPX_HOME=/opt/pipx pipx runpip duxnet-registry install --quiet --no-deps --force-reinstall duxnet-registry",
    )
    assert f"{AGENT} is active" in machine.run("duxnet service install")
    assert reports_again(machine, after=before["pid"])["node_id"] == before["node_id"]


def test_the_doctor_finds_all_well_and_the_sandbox_sees_what_root_sees(machine: Machine) -> None:
    found = json.loads(machine.try_run("duxnet doctor --format json").stdout)
    assert found["ok"], json.dumps([each for each in found["findings"] if each["state"] not in ("ok", "note")])
    (seen,) = [finding for finding in found["findings"] if finding["check"] == "seen by the service"]
    assert seen["state"] == "ok"
    root = json.loads(machine.run("duxnet probe --format json --work-dir /var/lib/duxnet-agent"))["capabilities"]
    service = agent_status(machine)["capabilities"]
    for name in ("cpu_cores", "memory_gb", "host_cpus", "cpu_model", "architecture", "kernel"):
        assert service.get(name) == root.get(name), name
    assert service["storage_gb"] == pytest.approx(root["storage_gb"], rel=0.01)


def test_the_doctor_says_what_hides_something_from_the_service(machine: Machine) -> None:
    drop_in(machine, AGENT, "[Service]\nCPUAffinity=0\n")
    try:
        result = machine.try_run("duxnet doctor --format json")
        problems = [found for found in json.loads(result.stdout)["findings"] if found["state"] == "problem"]
        if (os.cpu_count() or 1) > 1:
            assert result.returncode == 1
            assert any(found["details"].get("field") == "cpu_cores" for found in problems), problems
            assert all(found["remedy"] for found in problems)
    finally:
        machine.run(f"rm /run/systemd/system/{AGENT}.d/test.conf; systemctl daemon-reload")


def test_a_reload_takes_over_a_good_file_and_refuses_a_bad_one(machine: Machine) -> None:
    pid = show(machine, AGENT, "MainPID")
    machine.write("/etc/duxnet/config.toml", "[agent]\ninterval_seconds = 1.0\n")
    machine.run(f"systemctl reload {AGENT}")
    within(20, lambda: agent_status(machine)["interval_seconds"] == 1.0)
    machine.write("/etc/duxnet/config.toml", "[agent]\ninterval_seconds = -5\n")
    machine.try_run(f"systemctl reload {AGENT}")
    within(20, lambda: "interval_seconds" in journal(machine) and "kept" in journal(machine))
    delivered = agent_status(machine)["reports_delivered"]
    within(20, lambda: agent_status(machine)["reports_delivered"] > delivered + 1)
    assert agent_status(machine)["interval_seconds"] == 1.0
    assert show(machine, AGENT, "MainPID") == pid
    machine.write("/etc/duxnet/config.toml", "[agent]\ninterval_seconds = 1.0\n")


def test_the_journal_has_priorities_and_fields(machine: Machine) -> None:
    lines = machine.run(f"journalctl --no-pager --output=json --unit={AGENT}").splitlines()
    entries = [entry for entry in map(json.loads, lines) if entry.get("_SYSTEMD_UNIT") == AGENT]
    assert {"3", "6"} <= {entry["PRIORITY"] for entry in entries}
    assert all(entry["SYSLOG_IDENTIFIER"] == "duxnet-agent" for entry in entries)
    (node_id,) = {entry["DUXNET_NODE_ID"] for entry in entries if "DUXNET_NODE_ID" in entry}
    assert node_id == agent_status(machine)["node_id"]
    assert "registered" in machine.run(f"journalctl --no-pager --output=cat DUXNET_NODE_ID={node_id}")


def test_a_killed_agent_is_back_with_its_id(machine: Machine) -> None:
    before = agent_status(machine)
    machine.run(f"systemctl kill --signal=KILL {AGENT}")
    after = reports_again(machine, after=before["pid"])
    assert after["node_id"] == before["node_id"]


STUCK = """
import signal, time
def stick(*_):
    while True:
        time.sleep(1)
signal.signal(signal.SIGUSR2, stick)  # runs in the main thread, which is the scheduler's; the other threads live on
"""


def test_a_stuck_scheduler_is_ended_and_started_again(machine: Machine) -> None:
    machine.run("mkdir -p /opt/stuck")
    machine.write("/opt/stuck/sitecustomize.py", STUCK)
    drop_in(machine, AGENT, "[Service]\nWatchdogSec=3\nEnvironment=PYTHONPATH=/opt/stuck\n")
    machine.run(f"systemctl restart {AGENT}")
    before = agent_status(machine)
    time.sleep(7)  # twice its time, and it is left alone
    assert agent_status(machine)["pid"] == before["pid"]
    machine.run(f"systemctl kill --signal=USR2 {AGENT}")
    after = reports_again(machine, after=before["pid"])
    assert after["node_id"] == before["node_id"]
    assert "Watchdog timeout" in machine.run("journalctl --no-pager --output=cat")


def test_a_full_disk_is_recovered_from(machine: Machine) -> None:
    machine.run(f"systemctl stop {AGENT}")
    state = "/var/lib/private/duxnet-agent"
    machine.run(f"cp -a {state} /var/lib/kept; mount -t tmpfs -o size=1M,mode=700 tmpfs {state}")
    machine.run(f"cp -a /var/lib/kept/. {state}/; rm -r /var/lib/kept; systemctl start {AGENT}")
    before = agent_status(machine)
    machine.try_run(f"dd if=/dev/zero of={state}/filler bs=4k")
    within(20, lambda: agent_status(machine)["written_at"] > before["written_at"])
    assert show(machine, AGENT, "MainPID") == str(before["pid"])
    machine.run(f"systemctl kill --signal=KILL {AGENT}")
    time.sleep(5)
    machine.run(f"rm {state}/filler")
    after = reports_again(machine, after=before["pid"], seconds=60)
    assert after["node_id"] == before["node_id"]
    machine.run(f"systemctl stop {AGENT}; cp -a {state} /var/lib/kept; umount {state}")
    machine.run(f"rm -rf {state}; mv /var/lib/kept {state}; systemctl start {AGENT}")
    assert reports_again(machine, after=0)["node_id"] == before["node_id"]


def test_a_bad_configuration_is_not_tried_again_and_says_so(machine: Machine) -> None:
    machine.write("/etc/duxnet/config.toml", "[agent]\ninterval = 5\n")
    began = time.monotonic()
    for _try in range(5):  # a person who does not find the mistake at once is not made to wait
        assert machine.try_run(f"systemctl restart {AGENT}").returncode != 0
    assert time.monotonic() - began < 30
    time.sleep(3)
    assert show(machine, AGENT, "ActiveState") == "failed"
    assert show(machine, AGENT, "ExecMainStatus") == "78"
    doctor = machine.try_run("duxnet doctor")
    assert doctor.returncode == 1
    assert "interval_seconds" in doctor.stdout
    machine.write("/etc/duxnet/config.toml", "[agent]\ninterval_seconds = 1.0\n")
    machine.run(f"systemctl restart {AGENT}")


def test_what_fails_again_and_again_waits_longer_until_a_person_stops_it(machine: Machine) -> None:
    machine.run(f"systemctl stop {AGENT}; systemctl start {AGENT}")
    for _start in range(2):
        pid = agent_status(machine)["pid"]
        machine.run(f"kill -KILL {pid}")
        reports_again(machine, after=pid)
    pid = agent_status(machine)["pid"]
    machine.run(f"kill -KILL {pid}")
    within(10, lambda: show(machine, AGENT, "SubState") == "start-pre")
    time.sleep(4)
    assert show(machine, AGENT, "SubState") == "start-pre", "it waits"
    started = time.monotonic()
    machine.run(f"systemctl stop {AGENT}; systemctl start {AGENT}")
    assert time.monotonic() - started < 10, "a person does not wait"
    reports_again(machine, after=pid)


def test_a_coordinator_runs_under_all_its_hardening_beside_the_agent(machine: Machine) -> None:
    typed(machine, "python3 -m venv /opt/duxnet; /opt/duxnet/bin/pip install --quiet 'duxnet-registry[coordinator]'")
    said = machine.run("/opt/duxnet/bin/duxnet service install --coordinator")
    assert f"{COORDINATOR} is active" in said
    check = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8410/healthz').status)"
    within(20, lambda: machine.run(f'python3 -c "{check}"').strip() == "200")
    heard = show(machine, COORDINATOR, "WatchdogTimestampMonotonic")
    within(40, lambda: show(machine, COORDINATOR, "WatchdogTimestampMonotonic") != heard)
    places = [machine.run(f"ls /var/lib/private/{name}").split() for name in ("duxnet-agent", "duxnet-coordinator")]
    assert "node.key" in places[0]
    assert "coordinator.key" in places[1]


def test_a_killed_coordinator_is_back_as_itself(machine: Machine) -> None:
    key = machine.run("md5sum /var/lib/private/duxnet-coordinator/coordinator.key")
    pid = show(machine, COORDINATOR, "MainPID")
    machine.run(f"kill -KILL {pid}")
    within(
        20, lambda: show(machine, COORDINATOR, "StatusText") and show(machine, COORDINATOR, "MainPID") not in ("0", pid)
    )
    within(20, lambda: show(machine, COORDINATOR, "ActiveState") == "active")
    assert machine.run("md5sum /var/lib/private/duxnet-coordinator/coordinator.key") == key


def test_the_agent_reports_to_a_coordinator_that_asks_for_a_token(machine: Machine) -> None:
    target = 'target = "http://127.0.0.1:8410"'
    join = '[coordinator]\njoin = "token"'
    machine.write("/etc/duxnet/config.toml", f"[agent]\ninterval_seconds = 1.0\n[registry]\n{target}\n{join}\n")
    machine.run(f"systemctl restart {COORDINATOR}")
    before = agent_status(machine)
    machine.run(f"systemctl restart {AGENT}")
    within(20, lambda: agent_status(machine)["problem"])
    assert machine.try_run("duxnet doctor").returncode == 1, "it cannot report, and the doctor says so"
    token = machine.run("/opt/duxnet/bin/duxnet token create join --state-dir /var/lib/duxnet-coordinator").split()[-1]
    machine.run("mkdir -p /etc/credstore")
    machine.write("/etc/credstore/duxnet-agent.join-token", token)
    machine.run(f"chmod 600 /etc/credstore/duxnet-agent.join-token; systemctl restart {AGENT}")
    status = reports_again(machine, after=before["pid"])
    assert status["node_id"] == before["node_id"]
    listed = machine.run("duxnet nodes list --registry http://127.0.0.1:8410")
    assert status["node_id"][:12] in listed
    assert "http://127.0.0.1:8410" in machine.run("duxnet status")
    doctor = machine.try_run("duxnet doctor --format json")
    found = json.loads(doctor.stdout)
    assert found["ok"], json.dumps([each for each in found["findings"] if each["state"] not in ("ok", "note")])
    assert {"registry", "clock"} <= {finding["check"] for finding in found["findings"]}
    assert token not in journal(machine) + journal(machine, COORDINATOR) + doctor.stdout


def test_a_registry_that_hangs_does_not_stop_the_watchdog(machine: Machine) -> None:
    before = agent_status(machine)
    machine.run(f"systemctl kill --signal=STOP {COORDINATOR}")
    time.sleep(10)  # three times the agent's WatchdogSec, which an earlier test made 3 s
    assert show(machine, AGENT, "MainPID") == str(before["pid"])
    assert show(machine, AGENT, "ActiveState") == "active"
    machine.run(f"systemctl kill --signal=CONT {COORDINATOR}")
    delivered = agent_status(machine)["reports_delivered"]
    within(40, lambda: agent_status(machine)["reports_delivered"] > delivered)


def test_everything_is_back_after_a_reboot(machine: Machine) -> None:
    before = agent_status(machine)
    machine.power_off()
    machine.boot()
    within(30, lambda: show(machine, AGENT, "ActiveState") == "active")
    after = within(30, lambda: agent_status(machine))
    assert after["node_id"] == before["node_id"]
    within(30, lambda: after["node_id"][:12] in machine.run("duxnet nodes list"))


def test_uninstalling_keeps_the_state_until_told_and_then_leaves_nothing(machine: Machine) -> None:
    before = agent_status(machine)
    assert "kept /var/lib/duxnet-agent" in machine.run("duxnet service uninstall")
    alone = machine.run("/opt/duxnet/bin/duxnet doctor")
    assert "duxnet-coordinator.service is active" in alone
    assert "agent:" not in alone, "there is none on this machine"
    machine.run("duxnet service install")
    assert reports_again(machine, after=before["pid"])["node_id"] == before["node_id"]
    machine.run("tar -C /var/lib/private -czf /root/backup.tar.gz duxnet-agent")
    machine.run(
        "rm -r /etc/credstore; duxnet service uninstall --purge; duxnet service uninstall --coordinator --purge"
    )
    left = machine.run("find /etc/systemd /run /var/lib /var/cache -name '*duxnet*'").split()
    assert left == []
    assert machine.run("systemctl list-units --all --no-legend 'duxnet*'").strip() == ""
    assert not [line for line in machine.run("ps -eo args").splitlines() if "duxnet" in line and "sh -ec" not in line]


def test_a_backup_brings_the_same_node_back(machine: Machine) -> None:
    kept = machine.run("tar -xzOf /root/backup.tar.gz duxnet-agent/node.id")
    machine.write("/etc/duxnet/config.toml", "")
    machine.run("install -d -m 700 /var/lib/private")
    machine.run("tar -C /var/lib/private --no-same-owner -xzf /root/backup.tar.gz; duxnet service install")
    assert reports_again(machine, after=0)["node_id"] == json.loads(kept)["id"]
    machine.run("duxnet service uninstall --purge")


BOOTING = """
import sys, time
from tests.system.systemd.machine import Machine
machine = Machine()
machine.boot()
print("up", flush=True)
time.sleep(600)
"""


def test_a_killed_test_run_leaves_no_process_and_no_mount() -> None:
    need_a_machine()
    run = subprocess.Popen([sys.executable, "-c", BOOTING], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    assert run.stdout.readline() == "up\n"
    family = psutil.Process(run.pid).children(recursive=True)
    assert any(process.name() == "systemd" for process in family)
    run.send_signal(signal.SIGKILL)
    run.wait()
    run.stdout.close()
    _gone, alive = psutil.wait_procs(family, timeout=10)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
    assert MARK not in Path("/proc/self/mountinfo").read_text()
    name = f"{MARK}{run.pid}"
    assert (cache_folder() / name).exists()
    subprocess.run(
        [sys.executable, "-c", "from tests.system.systemd.machine import sweep; sweep()"], cwd=REPOSITORY, check=True
    )
    left = [path for place in (cache_folder(), Path("/sys/fs/cgroup")) for path in place.glob(f"**/{name}*")]
    assert left == []
