"""A machine that boots: systemd-nspawn on a copy of the Debian tree, in namespaces and a cgroup of its own.

Nothing outlives the test process, even when that is killed: the kernel kills `unshare` with it, with that the first
process of the process namespace, and with that all others; the mounts go with the mount namespace. What a killed
run leaves are folders (the copy, empty cgroups), which the next run removes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Optional

import psutil

from tests.system.systemd.debian_tree import cache_folder, debian_tree

CGROUP_ROOT = Path("/sys/fs/cgroup")
BOOT_TIMEOUT_SECONDS = 90.0
MARK = "duxnet-boot-"

_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
}


def why_not() -> Optional[str]:
    """Why no machine can be booted here, or None."""
    if os.geteuid() != 0:
        return "only root can boot one"
    trial = subprocess.run(["unshare", "--mount", "--pid", "--fork", "true"], capture_output=True, text=True)
    if trial.returncode != 0:
        return f"no namespaces for it: {trial.stderr.strip()}"
    return None


class Machine:
    """Made stopped. `boot` and `power_off` may alternate; `destroy` ends it."""

    def __init__(self) -> None:
        sweep()
        name = f"{MARK}{os.getpid()}"
        self.root = cache_folder() / name
        self._cgroups = [folder / name for folder in _cgroup_hierarchies()]
        self._process: Optional[subprocess.Popen[bytes]] = None
        self._leader = 0
        subprocess.run(["cp", "-a", "--reflink=auto", str(debian_tree()), str(self.root)], check=True)

    def boot(self) -> None:
        """Return when systemd says that it is up."""
        for cgroup in self._cgroups:
            cgroup.mkdir(exist_ok=True)
        joined = "".join(f"echo $$ > '{cgroup}/cgroup.procs'; " for cgroup in self._cgroups)
        held = "exec setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child=KILL --mount-proc"
        nspawn = "systemd-nspawn --register=no --keep-unit --private-network --console=read-only --boot --quiet"
        with (self.root.with_suffix(".console")).open("ab") as console:
            self._process = subprocess.Popen(
                ["sh", "-ec", f"{joined}{held} {nspawn} --directory='{self.root}'"],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
            )
        self._leader = self._wait_for_leader()
        state = self.try_run("systemctl is-system-running --wait", timeout_seconds=BOOT_TIMEOUT_SECONDS)
        assert state.stdout.strip() in ("running", "degraded"), state.stdout + state.stderr + self.console()
        # systemd-nspawn lays a boot id of its own over the kernel's, but only over this one /proc: a unit with
        # ProtectProc= has a fresh one and sees the kernel's. On a machine all see the same; let it be so here.
        self.run("umount /proc/sys/kernel/random/boot_id || true")

    def run(self, script: str, *, timeout_seconds: float = 60.0) -> str:
        """What a root shell prints for `script`; AssertionError, with the output, when it fails."""
        result = self.try_run(script, timeout_seconds=timeout_seconds)
        assert result.returncode == 0, f"{script}\nexit status {result.returncode}\n{result.stdout}{result.stderr}"
        return result.stdout

    def try_run(self, script: str, *, timeout_seconds: float = 60.0) -> subprocess.CompletedProcess[str]:
        """As `run`, whatever the exit status."""
        environment = [f"{name}={value}" for name, value in _ENVIRONMENT.items()]
        command = ["nsenter", f"--target={self._leader}", "--all", "--", "env", "-i", *environment, "sh", "-ec", script]
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout_seconds, errors="replace")

    def write(self, path: str, text: str) -> None:
        """Put a file into the machine."""
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)

    def power_off(self) -> None:
        """Shut down in good order."""
        if self._process is None:
            return
        self.try_run("systemctl poweroff")
        try:
            self._process.wait(timeout=60)
        finally:
            self._kill()

    def destroy(self) -> None:
        """Pull the plug and remove every trace."""
        self._kill()
        _remove_cgroups(self._cgroups)
        self.root.with_suffix(".console").unlink(missing_ok=True)
        shutil.rmtree(self.root, ignore_errors=True)

    def console(self) -> str:
        """The last of what was on the console."""
        return self.root.with_suffix(".console").read_text(errors="replace")[-4000:]

    def _kill(self) -> None:
        if self._process is None:
            return
        if self._process.poll() is None:
            for child in psutil.Process(self._process.pid).children():  # first, so that its parent reaps it
                child.kill()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _wait_for_leader(self) -> int:
        """The process id of the machine's own first process, once it has set up what it needs to be asked."""
        assert self._process is not None
        deadline = time.monotonic() + BOOT_TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            assert self._process.poll() is None, self.console()
            leader = _systemd_below(self._process.pid)
            if leader is not None and _answers(leader):
                return leader
            time.sleep(0.1)
        raise AssertionError(f"no systemd after {BOOT_TIMEOUT_SECONDS} s\n{self.console()}")


def sweep() -> None:
    """Remove what runs that were killed have left."""
    places = [*_cgroup_hierarchies(), cache_folder()]
    for left in [path for place in places for path in place.glob(f"{MARK}*")]:
        pid = left.name[len(MARK) :].partition(".")[0]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            if left.is_file():
                left.unlink(missing_ok=True)
            elif left.parent == cache_folder():
                shutil.rmtree(left, ignore_errors=True)
            else:
                _remove_cgroups([left])


def _cgroup_hierarchies() -> list[Path]:
    """Where systemd-nspawn makes groups: the named hierarchy and the unified one, or the only one."""
    both = [CGROUP_ROOT / name for name in ("systemd", "unified") if (CGROUP_ROOT / name).is_dir()]
    return both or [CGROUP_ROOT]


def _remove_cgroups(cgroups: list[Path]) -> None:
    """A group goes when its last process has; the kernel takes a moment."""
    for cgroup in cgroups:
        for _attempt in range(50):
            for folder, _names, _files in os.walk(cgroup, topdown=False):
                try:
                    os.rmdir(folder)
                except OSError:
                    continue
            if not cgroup.exists():
                break
            time.sleep(0.1)


def _systemd_below(pid: int) -> Optional[int]:
    """The first process of the machine: the one that runs systemd and is the child of systemd-nspawn."""
    for process in psutil.Process(pid).children(recursive=True):
        try:
            parent = process.parent()
            if process.name() == "systemd" and parent is not None and parent.name() == "systemd-nspawn":
                return process.pid
        except psutil.NoSuchProcess:
            continue
    return None


def _answers(pid: int) -> bool:
    command = ["nsenter", f"--target={pid}", "--all", "--", "test", "-S", "/run/systemd/private"]
    return subprocess.run(command, capture_output=True, timeout=10).returncode == 0
