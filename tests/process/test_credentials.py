"""Secrets from the service manager: read, absent, unfit; and never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from duxnet.process.credentials import credential
from duxnet.process.errors import ConfigurationError


def test_a_credential_is_its_one_line(tmp_path: Path) -> None:
    (tmp_path / "join-token").write_text("abc123\n")
    assert credential("join-token", {"CREDENTIALS_DIRECTORY": str(tmp_path)}) == "abc123"


def test_without_one_there_is_none(tmp_path: Path) -> None:
    assert credential("join-token", {}) == ""
    assert credential("join-token", {"CREDENTIALS_DIRECTORY": str(tmp_path)}) == ""


@pytest.mark.parametrize("content", [b"two\nlines", b"\xff\xfe", b"x\x00y", b"a" * 5000])
def test_what_is_no_token_is_refused_without_being_shown(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "join-token").write_bytes(content)
    with pytest.raises(ConfigurationError) as refused:
        credential("join-token", {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert "credential join-token: must be " in str(refused.value)
    assert "lines" not in str(refused.value)
