"""Makes the virtual environment of this checkout, or repairs a half-made one.

`python tools/environment.py FOLDER [EXTRA]`, as the Makefile calls it.

Here: what may be half done, by an interruption, a Python without `ensurepip` or a Python that was upgraded, and is
found out before it is built upon. Not here: what is installed (`pyproject.toml`). The standard library alone.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

OLDEST = (3, 9)
UNFINISHED = ".unfinished"  # lies in the environment while something is installed into it

# Run by the environment's own Python. Sound: pip is there, no file of any part is missing, and nothing was moved since
# (programs begin with the path of this Python).
IS_SOUND = """
import importlib.metadata as metadata, os, sys

metadata.distribution("pip")
for part in metadata.distributions():
    if part.files is None:
        sys.exit("a part has no list of its files")
    for file in part.files:
        place = file.locate()
        if file.suffix != ".pyc" and not place.exists():
            sys.exit(f"{file} is missing")
        if file.parent.name == "bin":
            begin = place.open("rb").read(300)
            if begin.startswith(b"#!") and b"python" in begin and os.fsencode(sys.prefix) not in begin:
                sys.exit(f"{file} begins with the path of another Python")
"""

# Complete: the project is this folder's, and what it requires is there.
IS_COMPLETE = """
import importlib.metadata as metadata, json, sys
from pathlib import Path
from pip._vendor.packaging.requirements import Requirement

def require(name, extra):
    for text in metadata.requires(name) or ():
        wanted = Requirement(text)
        if wanted.marker is None or wanted.marker.evaluate({"extra": extra}):
            for further in wanted.extras if wanted.name == name else ():
                require(name, further)
            if not wanted.specifier.contains(metadata.version(wanted.name), prereleases=True):
                sys.exit(f"{wanted} is needed")

require("duxnet-registry", sys.argv[1])
source = json.loads(metadata.distribution("duxnet-registry").read_text("direct_url.json"))["url"]
if source != Path.cwd().as_uri():
    sys.exit(f"{source} is installed, another folder")
"""


def main(folder: str, extra: str = "") -> int:
    """Leave a sound environment in `folder`, with what the project and its `extra` need; the exit code."""
    venv = Path(os.path.realpath(folder))
    stamp = venv / (".installed-" + extra if extra else ".installed")
    if is_current(stamp) and is_sound(venv) and succeeds(venv, IS_COMPLETE, extra):
        return 0
    print("setting up {}{}, once: this takes a minute".format(folder, " for " + extra if extra else ""), flush=True)
    unfinished = venv / UNFINISHED
    if unfinished.exists() or not is_sound(venv):  # pip would believe in a part that is half installed
        make(venv)
    is_new = unfinished.exists()
    unfinished.touch()
    code = subprocess.run(pip_install(venv, extra)).returncode
    if code > 0 and not is_new:  # without the network, say: pip has left what was there as it was
        unfinished.unlink()
    if code != 0:
        return 1
    for done in (venv / ".installed", stamp):
        done.touch()
    unfinished.unlink()
    return 0


def is_current(stamp: Path) -> bool:
    """Whether all was installed after the requirements were last changed, and nothing was interrupted since."""
    try:
        installed = stamp.stat().st_mtime
    except OSError:
        return False
    return installed >= Path("pyproject.toml").stat().st_mtime and not (stamp.parent / UNFINISHED).exists()


def is_sound(venv: Path) -> bool:
    """Whether pip can build upon what is there."""
    return succeeds(venv, IS_SOUND)


def succeeds(venv: Path, program: str, *arguments: str) -> bool:
    """Run a program in the environment's Python, in silence; -I: nothing of this shell or folder counts."""
    command = [str(venv / "bin" / "python"), "-I", "-c", program, *arguments]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    except OSError:  # not there, or a link to a Python that is gone
        return False
    return done.returncode == 0


def make(venv: Path) -> None:
    """A new environment in the place of what is there. Refuses a folder that never was one."""
    if sys.version_info < OLDEST:
        sys.exit("Python 3.9 or later is needed")
    there = {entry.name for entry in venv.iterdir()} if venv.is_dir() else set()
    if "pyvenv.cfg" not in there and there - {"bin", "include", "lib", "lib64", UNFINISHED}:
        sys.exit("{} is a folder, but no virtual environment: give another one with VENV=…".format(venv))
    if venv.exists():
        shutil.rmtree(str(venv))
    venv.mkdir(parents=True)
    (venv / UNFINISHED).touch()  # before anything else: until the end it is worth nothing
    code = subprocess.run([sys.executable, "-m", "venv", str(venv)]).returncode
    if code != 0:
        sys.exit(code)


def pip_install(venv: Path, extra: str) -> "list[str]":
    """The command that installs the project and what it needs. -e: the commands run the code of this checkout."""
    project = ".[{}]".format(extra) if extra else "."
    pip = [str(venv / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    return [*pip, "install", "-e", project]


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
