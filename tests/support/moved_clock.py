"""A wall clock that a test can set for one process, while it runs: by a small library, built from moved_clock.c."""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path

from tests.support.requirements import need_program

SOURCE = Path(__file__).with_name("moved_clock.c")


class MovableClock:
    """The library and the file that it reads: seconds to add to the wall clock, and to the clock that counts sleep."""

    def __init__(self, folder: Path) -> None:
        compiler = need_program("gcc", "gcc")
        built, self._path = folder / "moved_clock.so", folder / "offsets"
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", built, SOURCE, "-ldl"], check=True)
        self._path.write_bytes(struct.pack("dd", 0.0, 0.0))
        self.environ = {"LD_PRELOAD": str(built), "MOVED_CLOCK_FILE": str(self._path)}

    def move(self, wall: float = 0.0, boot: float = 0.0) -> None:
        with self._path.open("r+b", buffering=0) as file:
            os.pwrite(file.fileno(), struct.pack("dd", wall, boot), 0)
