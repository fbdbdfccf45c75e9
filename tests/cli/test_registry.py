"""`duxnet registry`: what people and programs see, and the exit codes."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from duxnet.cli import main
from registry_core.storage.key_sources import read_key_file, write_key_file
from registry_core.storage.sealing import KeyRing
from tests.support.writers import KEY, OTHER_KEY, content, filled, killed, opened


@pytest.fixture(autouse=True)
def nobody_elses_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in [
        name for name in os.environ if name.startswith(("DUXNET_", "XDG_")) or name == "CREDENTIALS_DIRECTORY"
    ]:
        monkeypatch.delenv(name)


def run(*arguments: object) -> int:
    return main(["registry", *map(str, arguments)])


def test_verify_tells_people_and_programs_what_it_found(tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "nodes.db"
    filled(path, 1234)
    assert run("verify", path) == 0
    shown = capsys.readouterr()
    assert "1,234" in shown.out
    assert "number 1" in shown.out
    assert shown.err == ""
    assert run("verify", path, "--format", "json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "duxnet.verification/1.0"
    assert (found["is_whole"], found["nodes"], found["last_commit"]) == (True, 1234, 1)


def test_verify_says_damage_with_code_1_and_a_damaged_tail_with_code_3(tmp_path: Path, capsys: Any) -> None:
    path = killed(tmp_path, 5)
    wal = path.with_name("killed.db-wal")
    log = bytearray(wal.read_bytes())
    log[-1] ^= 1
    wal.write_bytes(log)
    assert run("verify", path) == 3
    assert "commit 4 of 20" in capsys.readouterr().out
    whole = tmp_path / "nodes.db"
    filled(whole, 40)
    raw = bytearray(whole.read_bytes())
    at = raw.index(b"10.0.0.9")
    raw[at] ^= 1
    whole.write_bytes(raw)
    assert run("verify", whole) == 1
    assert "node 'node-8'" in capsys.readouterr().out


def test_a_registry_goes_from_json_to_sealed_sqlite_and_back(tmp_path: Path, capsys: Any) -> None:
    old, new, back, key = (tmp_path / name for name in ("a.json", "b.db", "c.json", "key"))
    filled(old, 5)
    assert run("new-key", key) == 0
    assert key.stat().st_mode & 0o777 == 0o600
    assert run("migrate", old, new, "--to-key-file", key) == 0
    capsys.readouterr()
    assert run("migrate", new, back, "--key-file", key, "--to-clear", "--format", "json") == 0
    assert json.loads(capsys.readouterr().out)["nodes"] == 5
    assert content(back) == content(old)


def test_what_is_sealed_stays_sealed_unless_told_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = tmp_path / "a.db", tmp_path / "b.json"
    filled(old, 5, KEY)
    key = tmp_path / "key"
    write_key_file(key, KeyRing((KEY,)))
    monkeypatch.setenv("DUXNET_REGISTRY__ENCRYPTION_KEY_FILE", str(key))
    assert run("migrate", old, new) == 0
    assert len(content(new, KEY)) == 5


def test_the_key_can_come_from_a_systemd_credential(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    path = tmp_path / "nodes.db"
    filled(path, 5, KEY)
    (tmp_path / "registry-encryption-key").write_text(KEY.to_text())
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert run("verify", path, "--format", "json") == 0
    assert json.loads(capsys.readouterr().out)["opened"] is True


def test_without_its_key_a_sealed_registry_is_not_migrated(tmp_path: Path, capsys: Any) -> None:
    filled(tmp_path / "a.db", 5, KEY)
    assert run("migrate", tmp_path / "a.db", tmp_path / "b.db") == 1
    assert "sealed" in capsys.readouterr().err
    assert not (tmp_path / "b.db").exists()


def test_rotate_key_makes_a_new_key_and_seals_everything_with_it(tmp_path: Path, capsys: Any) -> None:
    path, key = tmp_path / "nodes.db", tmp_path / "key"
    filled(path, 30, KEY)
    write_key_file(key, KeyRing((KEY,)))
    assert run("rotate-key", path, "--key-file", key, "--generate") == 0
    newest, older = read_key_file(key).keys
    assert older == KEY
    assert newest.id.hex() in capsys.readouterr().out
    assert len(content(path, newest)) == 30


def test_no_new_key_is_made_while_the_registry_is_in_use(tmp_path: Path, capsys: Any) -> None:
    path, key = tmp_path / "nodes.db", tmp_path / "key"
    filled(path, 3, KEY)
    write_key_file(key, KeyRing((KEY,)))
    with opened(path, KEY):
        assert run("rotate-key", path, "--key-file", key, "--generate") == 1
    assert str(os.getpid()) in capsys.readouterr().err
    assert read_key_file(key).keys == (KEY,)


def test_backup_and_restore_refuse_to_overwrite_unless_told(tmp_path: Path, capsys: Any) -> None:
    path, copy = tmp_path / "nodes.db", tmp_path / "copy.db"
    filled(path, 3)
    assert run("backup", path, copy) == 0
    assert run("backup", path, copy) == 1
    assert run("restore", copy, path) == 1
    assert "already exists" in capsys.readouterr().err
    assert run("restore", copy, path, "--overwrite") == 0
    assert "before-restore" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["migrate", "a.db", "b.xml"],
        ["migrate", "a.db", "b.db", "--to-clear", "--to-key-file", "key"],
        ["backup", "a.db"],
        ["verify", "a.db", "--key", "00"],
        ["rotate-key", "a.db", "--generate"],
    ],
)
def test_misuse_is_told_in_a_line_without_a_traceback(tmp_path: Path, arguments: list[str], capsys: Any) -> None:
    filled(tmp_path / "a.db", 2)
    places = [str(tmp_path / word) if "." in word else word for word in arguments]
    assert run(*places) in (1, 2)
    shown = capsys.readouterr().err
    assert "Traceback" not in shown
    assert shown.strip()
    assert len(content(tmp_path / "a.db")) == 2


def test_a_key_file_that_others_can_read_is_refused(tmp_path: Path, capsys: Any) -> None:
    filled(tmp_path / "a.db", 2, OTHER_KEY)
    key = tmp_path / "key"
    write_key_file(key, KeyRing((OTHER_KEY,)))
    key.chmod(0o644)
    assert run("verify", tmp_path / "a.db", "--key-file", key) == 1
    shown = capsys.readouterr()
    assert "chmod 600" in shown.err
    assert OTHER_KEY.to_text() not in shown.err + shown.out


def test_progress_is_told_in_a_terminal_and_nowhere_else(tmp_path: Path) -> None:
    filled(tmp_path / "nodes.json", 1500)
    start = "import sys; from duxnet.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", start, "registry", "migrate", str(tmp_path / "nodes.json")]
    ours, theirs = pty.openpty()
    done = subprocess.run([*command, str(tmp_path / "a.db")], stderr=theirs, stdout=subprocess.PIPE)
    os.close(theirs)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    assert done.returncode == 0
    assert "of 1,500 nodes" in shown
    quiet = subprocess.run([*command, str(tmp_path / "b.db")], capture_output=True)
    assert (quiet.returncode, quiet.stderr) == (0, b"")
