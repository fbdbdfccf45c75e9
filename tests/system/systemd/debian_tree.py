"""A Debian 12 tree with what the README asks for, and the wheels that it installs: made once, kept in a cache.

Here: building and caching. Not here: booting (`machine`). $DUXNET_BOOT_CACHE names another place for the cache.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
SUITE = "bookworm"
MIRROR = os.environ.get("DUXNET_BOOT_MIRROR", "http://deb.debian.org/debian")
# What a Debian server has besides a minimal tree, and pipx, which the README installs: the boot has no network.
PACKAGES = ("ca-certificates", "dbus", "iproute2", "pipx", "procps", "systemd", "systemd-sysv")
TREE_PYTHON = "3.11"
BUILD_TIMEOUT_SECONDS = 420
KEPT_SECONDS = 14 * 24 * 3600


def cache_folder() -> Path:
    """Where trees and wheels are kept, and machines live while they run. Not below /tmp: a tree has 300 MB."""
    given = os.environ.get("DUXNET_BOOT_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "duxnet-boot"


@contextmanager
def cache_lock() -> Iterator[Path]:
    """One builder at a time; the others find its work done."""
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


def debian_tree() -> Path:
    """The tree, never booted itself. About a minute the first time."""
    with cache_lock() as folder:
        key = hashlib.sha256(" ".join((SUITE, *PACKAGES)).encode()).hexdigest()[:12]
        tree = folder / f"{SUITE}-{key}"
        if not tree.exists():
            _bootstrap(tree.with_name(f".{tree.name}.new"))
            tree.with_name(f".{tree.name}.new").rename(tree)
        return tree


def _bootstrap(place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, str(place), MIRROR]
    _run(command)
    for emptied in ("var/cache/apt/archives", "var/lib/apt/lists"):
        shutil.rmtree(place / emptied, ignore_errors=True)
    (place / "etc/machine-id").write_text("")  # each machine makes its own at its first boot
    (place / "etc/hostname").write_text("fresh-debian\n")


def fill_wheelhouse(place: Path) -> None:
    """Make `place`: the wheel of this checkout, all that it needs on the tree's Python, and what pipx itself needs."""
    with cache_lock() as folder:
        wanted = (REPOSITORY / "pyproject.toml").read_bytes()
        wheels = folder / f"wheels-{hashlib.sha256(wanted).hexdigest()[:12]}"
        if not wheels.exists():
            _forget_old(folder)
            draft = wheels.with_name(f".{wheels.name}.new")
            shutil.rmtree(draft, ignore_errors=True)
            _download(draft)
            draft.rename(wheels)
        shutil.copytree(wheels, place)
    _build_wheel(place)


def _forget_old(folder: Path) -> None:
    """Wheels for requirements of weeks ago."""
    for wheels in folder.glob("wheels-*"):
        if time.time() - wheels.stat().st_mtime > KEPT_SECONDS:
            shutil.rmtree(wheels, ignore_errors=True)


def _download(place: Path) -> None:
    with tempfile.TemporaryDirectory() as built:
        (wheel,) = _build_wheel(Path(built)).glob("*.whl")
        machine = platform.machine()
        platforms = [f"--platform=manylinux{tag}_{machine}" for tag in ("_2_34", "_2_28", "_2_17", "2014")]
        target = [f"--python-version={TREE_PYTHON}", "--implementation=cp", "--only-binary=:all:", *platforms]
        _pip("download", *target, f"--dest={place}", f"{wheel}[coordinator]", "pip", "setuptools", "wheel")
        (place / wheel.name).unlink()  # each run builds its own


def _build_wheel(place: Path) -> Path:
    _pip("wheel", "--no-deps", f"--wheel-dir={place}", str(REPOSITORY))
    return place


def _pip(*arguments: str) -> None:
    _run([sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments])


def _run(command: list[str]) -> None:
    result = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=BUILD_TIMEOUT_SECONDS
    )
    assert result.returncode == 0, f"{' '.join(command)}\n{result.stdout[-4000:]}"
