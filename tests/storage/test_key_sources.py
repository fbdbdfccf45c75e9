"""Keys come from the first source that is set; a careless or broken one is refused, never passed by."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from registry_core.errors import StoreError, ValidationError
from registry_core.storage.key_sources import ENVIRONMENT_NAME, find_keys, read_key_file, write_key_file
from registry_core.storage.sealing import KeyRing, SealingKey

KEY = SealingKey(bytes(range(32)))
OTHER = SealingKey(bytes(range(50, 82)))


def key_file(folder: Path, content: bytes, mode: int = 0o600, name: str = "key") -> Path:
    path = folder / name
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_without_any_source_there_is_no_key() -> None:
    assert find_keys(None, {}) is None


def test_the_credential_goes_before_the_file_and_the_file_before_the_environment(tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    file = key_file(tmp_path, OTHER.to_text().encode())
    environ = {ENVIRONMENT_NAME: "11" * 32, "CREDENTIALS_DIRECTORY": str(credentials)}
    assert find_keys(file, environ).newest == OTHER  # type: ignore[union-attr]  # asserts that there is one
    key_file(credentials, KEY.to_text().encode(), 0o440, "registry-encryption-key")
    assert find_keys(file, environ).newest == KEY  # type: ignore[union-attr]  # the same


def test_a_key_from_the_environment_is_taken_with_a_warning_that_does_not_show_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        ring = find_keys(None, {ENVIRONMENT_NAME: f"{KEY.to_text()},{OTHER.to_text()}"})
    assert ring is not None
    assert ring.keys == (KEY, OTHER)
    assert "prefer a key file" in caplog.text
    assert KEY.to_text() not in caplog.text


def test_a_broken_variable_is_an_error_and_is_not_shown() -> None:
    with pytest.raises(ValidationError) as caught:
        find_keys(None, {ENVIRONMENT_NAME: "hunter2hunter2"})
    assert "hunter2" not in str(caught.value)


def test_a_key_file_that_is_missing_is_an_error_and_not_the_next_source(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be read"):
        find_keys(tmp_path / "absent", {ENVIRONMENT_NAME: KEY.to_text()})


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666, 0o610])
def test_a_key_file_that_is_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(StoreError, match="open to other users"):
        read_key_file(key_file(tmp_path, bytes(range(32)), mode))


@pytest.mark.parametrize("content", [b"", b"# only a comment\n", b"x" * 31, b"\xff" * 40, b"secret-word\n"])
def test_a_file_without_a_key_is_refused_and_not_shown(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(StoreError, match="holds no key") as caught:
        read_key_file(key_file(tmp_path, content))
    assert "secret-word" not in str(caught.value)


def test_a_folder_in_the_place_of_a_key_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        read_key_file(tmp_path)


def test_raw_bytes_and_several_lines_are_read_newest_first(tmp_path: Path) -> None:
    assert read_key_file(key_file(tmp_path, bytes(range(32)))).keys == (KEY,)
    text = f"# newest\n{OTHER.to_text()}\n\n{KEY.to_text()}\n".encode()
    assert read_key_file(key_file(tmp_path, text)).keys == (OTHER, KEY)


def test_a_written_key_file_is_private_and_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    write_key_file(path, KeyRing((OTHER, KEY)))
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_key_file(path).keys == (OTHER, KEY)
    assert [entry.name for entry in tmp_path.iterdir()] == ["keys"]
