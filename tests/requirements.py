"""Tests that need a program which a Debian package brings: skipped with its name."""

from __future__ import annotations

import shutil

import pytest


def need_program(program: str, package: str) -> str:
    """The path of `program`, else skip."""
    found = shutil.which(program)
    if found is not None:
        return found
    pytest.skip(f"needs {program} (Debian package {package})")
