"""Tests that need a program which a Debian package brings: skipped with its name, or failed where it must be."""

from __future__ import annotations

import os
import shutil

import pytest


def need_program(program: str, package: str) -> str:
    """The path of `program`, else skip; under DUXNET_TEST_SKIPS_FAIL (the CI script sets it) fail instead."""
    found = shutil.which(program)
    if found is not None:
        return found
    message = f"needs {program} (Debian package {package})"
    if os.environ.get("DUXNET_TEST_SKIPS_FAIL"):
        pytest.fail(message)
    pytest.skip(message)
