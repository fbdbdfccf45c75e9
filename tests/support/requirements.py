"""Tests that need a program which a Debian package brings: skipped with its name."""

from __future__ import annotations

import shutil

import pytest


def need_program(program: str, package: str) -> str:
    """The path of `program`, also of one for root, where an ordinary user's PATH does not lead; else skip."""
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    if found is not None:
        return found
    pytest.skip(f"needs {program} (Debian package {package})")
