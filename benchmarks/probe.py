"""What a probe costs: catches an import that creeps into its start, and a reading that became slow.

Runs `duxnet probe` beside `python -c pass`, one after the other in turn, and beside slurmd, glances and lshw where
they are installed. `python -m benchmarks.probe`
"""

from __future__ import annotations

import compileall
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Callable

MOST_TIMES_PASS = 6.5
BASELINE = "python -c pass"
PACKAGES = ("registry_core", "agent", "duxnet")

_RUN = "import sys; from duxnet.cli import main; sys.exit(main(sys.argv[1:]))"


def installed_copy(folder: Path) -> None:
    """The packages with their bytecode, as an installed wheel has them: an editable install would spoil the measure."""
    root = Path(__file__).resolve().parent.parent
    for package in PACKAGES:
        shutil.copytree(root / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    compileall.compile_dir(str(folder), quiet=1)


def commands() -> dict[str, list[str]]:
    """What is measured, by name; peers only where they are installed."""
    found = {
        BASELINE: [sys.executable, "-c", "pass"],
        "duxnet probe": [sys.executable, "-c", _RUN, "probe", "--work-dir", "/"],
        "duxnet probe --format json": [sys.executable, "-c", _RUN, "probe", "--work-dir", "/", "--format", "json"],
    }
    peers = {
        "slurmd -C": ["slurmd", "-C"],
        "lshw -short": ["lshw", "-short"],
        "glances --stdout": ["glances", "--stdout", "cpu.user,mem.used,load", "--stop-after", "1"],
    }
    for name, command in peers.items():
        program = shutil.which(command[0])
        if program:
            found[name] = [program, *command[1:]]
    return found


def milliseconds(runs: int, names: Sequence[str], folder: Path) -> Mapping[str, float]:
    """The median wall time of each, measured in turn so that a busy machine slows all alike."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environ["PYTHONPATH"] = str(folder)
    all_commands = commands()
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(runs):
        for name, measured in times.items():
            start = time.perf_counter()
            subprocess.run(
                all_commands[name],
                cwd=folder,  # `python -c` looks for modules here first: not in the repository
                env=environ,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=False,
            )
            measured.append(time.perf_counter() - start)
    return {name: 1000 * statistics.median(measured) for name, measured in times.items()}


def main(say: Callable[[str], None] = print) -> None:
    """Print the figures; exit code 1 when the target is missed."""
    ours = [name for name in commands() if name == BASELINE or name.startswith("duxnet")]
    peers = [name for name in commands() if name not in ours]
    with tempfile.TemporaryDirectory() as folder:
        installed_copy(Path(folder))
        medians = {**milliseconds(31, ours, Path(folder)), **milliseconds(3, peers, Path(folder))}
    for name, median in medians.items():
        say(f"{name:28} {median:8.1f} ms  {median / medians[BASELINE]:6.2f} × {BASELINE}")
    slowest = max(medians[name] for name in ours) / medians[BASELINE]
    say(f"target: at most {MOST_TIMES_PASS} × {BASELINE}; the slower way takes {slowest:.2f} ×")
    if slowest > MOST_TIMES_PASS:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
