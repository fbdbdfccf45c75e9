"""What README and docs say is true of the code."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from duxnet.cli import COMMANDS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_readmes_library_example_runs_and_finds_its_node(tmp_path: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    done = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"\['[0-9a-f-]{36}'\]\n", done.stdout)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_part_in_the_page_of_commands(name: str) -> None:
    assert f"## duxnet {name}\n" in (ROOT / "docs/cli.md").read_text()


def test_nothing_says_to_install_the_package_by_name() -> None:
    """Until a release exists the name on an index may be another's: a checkout or a file is named instead."""
    places = ("registry_core", "agent", "duxnet", "docs", "packaging")
    texts = [path for place in places for path in (ROOT / place).rglob("*") if path.suffix in {".py", ".md"}]
    found = re.compile(r"\b(?:pip|pipx)3?[^`\n]*? install[^`\n]*?duxnet-registry")
    naming = [path for path in [*texts, *ROOT.glob("*.md")] if found.search(path.read_text(encoding="utf-8"))]
    assert naming == []


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{path.name}" for path in sorted(ROOT.glob("docs/*.md")))])
def test_links_between_pages_lead_somewhere(page: str) -> None:
    file = ROOT / page
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", file.read_text()):
        assert (file.parent / target).exists(), target


def test_every_file_that_the_page_of_the_architecture_names_is_there() -> None:
    packages = ("registry_core", "agent", "duxnet", "tests")
    files = {str(path.relative_to(ROOT)) for package in packages for path in (ROOT / package).rglob("*.py")}
    named = set(re.findall(r"`([a-z_/]+\.py)`", (ROOT / "docs/architecture.md").read_text()))
    assert len(named) > 40
    assert {name for name in named if not any(f"/{file}".endswith(f"/{name}") for file in files)} == set()
