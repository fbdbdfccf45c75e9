"""What is built and installed, and not only the checkout, is what works. Built, installed apart, and run."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from tests.support.processes import environment

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True, timeout=55, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the programs of an environment that holds the wheel and, from here, only its dependencies."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, with_pip=False, symlinks=True)  # as `python -m venv` does
    python = folder / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*install, "--disable-pip-version-check", str(wheel)], check=True, timeout=55, capture_output=True)
    (site,) = (folder / "lib").glob("python*/site-packages")
    # A path line, not a site folder: the link to the checkout that lies there is not followed.
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return folder / "bin"


def test_the_wheel_holds_all_parts_and_no_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for package in ("agent", "registry_core", "duxnet/cli", "duxnet/process", "duxnet/registry"):
        assert f"{package}/py.typed" in names
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"agent", "duxnet", "registry_core"}
    assert any(name.startswith("duxnet/systemd/") for name in names)
    assert "duxnet/coordinator/http/api.html" in names
    assert "duxnet/__init__.py" not in names  # a namespace that other distributions share
    assert "registry_core/testing.py" in names  # for those who embed a registry
    strays = [name for name in names if "test" in name.lower() or name.endswith((".pyc", ".c"))]
    assert strays == ["registry_core/testing.py"]


def test_what_is_imported_is_the_wheel(installed: Path, tmp_path: Path) -> None:
    script = (
        "import json, agent, registry_core, duxnet.cli, duxnet.process;"
        "from duxnet.registry.models.node import Node;"
        "from duxnet.registry.services.node_registry import NodeRegistry;"
        "print(json.dumps([module.__file__ for module in (agent, registry_core, duxnet.cli, duxnet.process)]))"
    )
    done = subprocess.run(
        [installed / "python", "-c", script], cwd=tmp_path, env=environment({}), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for file in json.loads(done.stdout):
        assert file.startswith(str(installed.parent)), file


def test_the_installed_command_registers_this_machine_and_lists_it(installed: Path, tmp_path: Path) -> None:
    environ = environment({"XDG_STATE_HOME": str(tmp_path / "state")})

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [installed / "duxnet", *arguments], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=30
        )

    assert run("probe", "--format", "json").returncode in (0, 3)
    once = run("agent", "--once")
    assert once.returncode in (0, 3), once.stderr
    listed = run("nodes", "list", "--format", "json")
    assert listed.returncode == 0, listed.stderr
    assert len(json.loads(listed.stdout)["nodes"]) == 1
