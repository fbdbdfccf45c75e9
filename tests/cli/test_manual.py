"""The manual page: man reads it without complaint, and it holds what --help says."""

from __future__ import annotations

import subprocess

from duxnet.cli import COMMANDS
from duxnet.cli.manual import manual_page
from tests.support.requirements import need_program


def test_man_formats_the_page_without_a_complaint_and_every_command_is_in_it() -> None:
    man = need_program("man", "man-db")
    command = [man, "--warnings", "--local-file", "-"]
    environ = {"PATH": "/usr/bin:/bin", "MANWIDTH": "100", "LANG": "C.UTF-8", "MANPAGER": "cat"}
    shown = subprocess.run(command, input=manual_page(), capture_output=True, text=True, timeout=30, env=environ)
    assert (shown.returncode, shown.stderr) == (0, "")
    for name in COMMANDS:
        assert f"duxnet {name}" in shown.stdout
    assert "duxnet service install" in shown.stdout
    assert "--interval" in shown.stdout
