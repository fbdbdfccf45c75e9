"""Where files are kept when nobody says so."""

from __future__ import annotations

import os
import pwd

import pytest

from duxnet.process.folders import config_file_candidates, default_state_folder


def test_without_home_the_user_database_says_where_home_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)  # root's folder does not depend on a home
    home = pwd.getpwuid(os.getuid()).pw_dir
    assert default_state_folder({}) == f"{home}/.local/state/duxnet"
    assert config_file_candidates({"HOME": ""})[0] == f"{home}/.config/duxnet/config.toml"
    assert config_file_candidates({"HOME": "/home/a"})[0] == "/home/a/.config/duxnet/config.toml"
