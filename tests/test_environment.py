"""The environment that `make` sets up: made, repaired when it is half made, and left alone when it is whole.

With real virtual environments and a project as small as can be, which needs no network.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Callable

import pytest

SCRIPT = Path(__file__).parents[1] / "tools" / "environment.py"

PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "duxnet-registry"
version = "1"
"""

# A build backend of its own: no other needs to be fetched.
BACKEND = """
import os, zipfile

INFO = "duxnet_registry-1.dist-info"

def build_editable(folder, config_settings=None, metadata_directory=None):
    name = "duxnet_registry-1-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as wheel:
        wheel.writestr("duxnet_registry.pth", os.getcwd() + "\\n")
        wheel.writestr(f"{INFO}/METADATA", "Metadata-Version: 2.1\\nName: duxnet-registry\\nVersion: 1\\n"
                       "Provides-Extra: dev\\nRequires-Dist: pip>=1; extra == 'dev'\\n")
        wheel.writestr(f"{INFO}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(f"{INFO}/entry_points.txt", "[console_scripts]\\nduxnet = duxnet_here:main\\n")
        wheel.writestr(f"{INFO}/RECORD", f"duxnet_registry.pth,,\\n{INFO}/METADATA,,\\n{INFO}/WHEEL,,\\n"
                       f"{INFO}/entry_points.txt,,\\n{INFO}/RECORD,,\\n")
    return name
"""


class Checkout:
    """A folder with the small project, and the script run in it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.venv = folder / ".venv"
        temporary = folder.parent / "temporary"  # pip of Python 3.9 leaves files there
        temporary.mkdir()
        self.environ = {"HOME": str(folder), "PATH": os.environ["PATH"], "TMPDIR": str(temporary), "PIP_NO_INDEX": "1"}
        (folder / "pyproject.toml").write_text(PROJECT)
        (folder / "backend.py").write_text(BACKEND)
        (folder / "duxnet_here.py").write_text("def main():\n    print('it runs')\n")

    def set_up(self, extra: str = "dev") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(SCRIPT), ".venv", extra]
        return subprocess.run(command, cwd=self.folder, env=self.environ, capture_output=True, text=True, timeout=55)

    def packages(self) -> Path:
        return Path(sysconfig.get_path("purelib", "posix_prefix", {"base": str(self.venv), "platbase": str(self.venv)}))

    def check(self) -> None:
        """The command runs, and another call finds nothing to do."""
        ran = subprocess.run([self.venv / "bin" / "duxnet"], capture_output=True, text=True, timeout=30)
        assert ran.stdout == "it runs\n", ran.stderr
        again = self.set_up()
        assert (again.returncode, again.stdout) == (0, ""), again.stderr


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """One for all tests: each leaves it whole."""
    checkout = Checkout(tmp_path_factory.mktemp("environment") / "checkout")
    done = checkout.set_up()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "setting up .venv for dev, once" in done.stdout
    return checkout


def without_pip(checkout: Checkout) -> None:
    """As a Python without `ensurepip` leaves it, or an interruption."""
    shutil.rmtree(checkout.packages() / "pip")
    (checkout.venv / ".installed-dev").unlink()


def interrupted_while_installing(checkout: Checkout) -> None:
    (checkout.venv / ".installed-dev").unlink()
    (checkout.venv / ".installed").unlink()
    (checkout.venv / "bin" / "duxnet").unlink()
    (checkout.packages() / "duxnet_registry-1.dist-info" / "RECORD").unlink()


def interrupted_at_the_very_start(checkout: Checkout) -> None:
    shutil.rmtree(checkout.venv)
    (checkout.venv / "bin").mkdir(parents=True)


def a_python_that_is_gone(checkout: Checkout) -> None:
    python = checkout.venv / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python3")


def stamps_without_content(checkout: Checkout) -> None:
    shutil.rmtree(checkout.packages() / "duxnet_registry-1.dist-info")
    (checkout.packages() / "duxnet_registry.pth").unlink()


def a_file_of_a_part_is_missing(checkout: Checkout) -> None:
    (checkout.packages() / "pip" / "__main__.py").unlink()


def a_command_is_missing(checkout: Checkout) -> None:
    (checkout.venv / "bin" / "duxnet").unlink()


def a_checkout_that_was_moved(checkout: Checkout) -> None:
    checkout.folder = checkout.folder.rename(checkout.folder.with_name(f"{checkout.folder.name}-moved"))
    checkout.venv = checkout.folder / ".venv"


@pytest.mark.slow
@pytest.mark.parametrize(
    "damage",
    [
        without_pip, interrupted_while_installing, interrupted_at_the_very_start, a_python_that_is_gone,
        stamps_without_content, a_file_of_a_part_is_missing, a_command_is_missing, a_checkout_that_was_moved,
    ],
)  # fmt: skip
def test_a_half_made_environment_is_repaired(damage: Callable[[Checkout], None], made: Checkout) -> None:
    damage(made)
    done = made.set_up()
    assert done.returncode == 0, done.stdout + done.stderr
    made.check()


def test_a_new_environment_is_whole_and_is_then_left_alone(made: Checkout) -> None:
    made.check()


def test_where_the_requirements_changed_they_are_installed_into_what_is_there(made: Checkout) -> None:
    own = made.packages() / "somebody_s_own.py"
    own.touch()
    os.utime(made.venv / ".installed-dev", (1, 1))
    assert "setting up" in made.set_up().stdout
    assert own.exists()
    made.check()


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_what_the_next_call_repairs(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path / "checkout")
    for seconds in (0.1, 0.4, 1.0, 1.8, 2.6):
        command = ["timeout", "-s", "KILL", str(seconds), sys.executable, str(SCRIPT), ".venv", "dev"]
        subprocess.run(command, cwd=checkout.folder, env=checkout.environ, capture_output=True)
    assert checkout.set_up().returncode == 0
    checkout.check()


def test_where_pip_cannot_install_what_is_there_stays_and_the_next_call_tries_again(made: Checkout) -> None:
    project = made.folder / "pyproject.toml"
    os.utime(project)  # newer than what is installed
    backend = made.folder / "backend.py"
    whole = backend.read_text()
    backend.write_text("raise OSError('no network')")
    try:
        refused = made.set_up()
    finally:
        backend.write_text(whole)
    assert refused.returncode != 0
    assert "no network" in refused.stderr
    assert (made.venv / "bin" / "duxnet").exists()
    assert made.set_up().returncode == 0
    made.check()


def test_a_folder_that_is_no_environment_is_never_emptied(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path / "checkout")
    checkout.venv.mkdir()
    (checkout.venv / "thesis.txt").write_text("three years")
    refused = checkout.set_up()
    assert refused.returncode == 1
    assert "no virtual environment" in refused.stderr
    assert (checkout.venv / "thesis.txt").read_text() == "three years"
