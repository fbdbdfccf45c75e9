"""The node's two identity files: made once, durably, by a child; repaired from the key; never replaced silently."""

from __future__ import annotations

import json
import os
import resource
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from registry_core.errors import DamagedStoreError, StoreError
from registry_core.identity.identity_files import NodeIdentity, ensure_identity, read_identity
from registry_core.identity.replace_key import replace_key
from registry_core.models.ids import key_from_text, node_id_of_key
from tests.support.requirements import need_program

PRINT_IDENTITY = (
    "import sys; from registry_core.identity.identity_files import ensure_identity; "
    "made = ensure_identity(sys.argv[1]); print(made.id); "
    "print(sorted(name for name in sys.modules if name.split('.')[0] == 'cryptography'))"
)


def start(state_dir: Path, **options: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PRINT_IDENTITY, str(state_dir)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)  # type: ignore[call-overload,no-any-return]  # options of Popen


def test_the_first_start_makes_a_key_that_only_its_owner_reads(tmp_path: Path) -> None:
    state_dir = tmp_path / "a" / "b"
    identity = ensure_identity(state_dir)
    assert identity.id == node_id_of_key(key_from_text("key", identity.public_key))
    assert stat.S_IMODE((state_dir / "node.key").stat().st_mode) == 0o600
    assert stat.S_IMODE(state_dir.stat().st_mode) == 0o700
    assert sorted(os.listdir(state_dir)) == ["node.id", "node.key"]


def test_a_careless_umask_does_not_show_the_key(tmp_path: Path) -> None:
    former = os.umask(0)
    try:
        ensure_identity(tmp_path)
    finally:
        os.umask(former)
    assert stat.S_IMODE((tmp_path / "node.key").stat().st_mode) == 0o600


def test_later_starts_give_the_same_identity_without_a_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = ensure_identity(tmp_path)
    monkeypatch.setattr(sys, "executable", "/nonexistent")  # a child could not even be started
    assert ensure_identity(tmp_path) == first


def test_neither_the_first_nor_a_later_start_imports_cryptography(tmp_path: Path) -> None:
    for _ in range(2):
        output, errors = start(tmp_path).communicate(timeout=30)
        assert output.splitlines()[1:] == ["[]"], errors


def test_the_key_is_what_openssl_reads_and_belongs_to_the_id(tmp_path: Path) -> None:
    from registry_core.identity.keys import load_private_key, public_key_text

    identity = ensure_identity(tmp_path)
    assert public_key_text(load_private_key(tmp_path / "node.key").public_key()) == identity.public_key
    openssl = need_program("openssl", "openssl")
    shown = subprocess.run([openssl, "pkey", "-in", tmp_path / "node.key", "-noout", "-text"], capture_output=True)
    assert b"ED25519 Private-Key" in shown.stdout


def test_two_starts_at_once_end_with_one_identity(tmp_path: Path) -> None:
    starts = [start(tmp_path) for _ in range(4)]
    ids = {process.communicate(timeout=50)[0].splitlines()[0] for process in starts}
    assert ids == {read_identity(tmp_path).id}
    assert sorted(os.listdir(tmp_path)) == ["node.id", "node.key"]


@pytest.mark.parametrize("step", ["fsync:1", "renameat:1", "fsync:2", "openat", "fsync:3", "renameat:2", "fsync:4"])
def test_a_kill_between_any_two_steps_leaves_a_state_that_the_next_start_completes(tmp_path: Path, step: str) -> None:
    strace = need_program("strace", "strace")
    state_dir = tmp_path / "state"
    state_dir.mkdir()
    if step == "openat":  # after the first file is whole, before the second is begun
        ensure_identity(state_dir)
        (state_dir / "node.id").unlink()
        (state_dir / ".node.id.tmp").write_bytes(b'{"id": "n1')
    else:
        call, _, turn = step.partition(":")
        inject = f"inject={call}:signal=KILL:when={turn}"
        command = [strace, "-qq", "-o", str(tmp_path / "trace"), "-e", f"trace={call}", "-e", inject]
        make_key = [sys.executable, "-B", "-m", "registry_core.identity.make_key", str(state_dir)]
        child = subprocess.run([*command, *make_key])
        assert child.returncode == -signal.SIGKILL
    key_before = (state_dir / "node.key").read_bytes() if (state_dir / "node.key").exists() else None
    identity = ensure_identity(state_dir)
    assert key_before in (None, (state_dir / "node.key").read_bytes())
    assert ensure_identity(state_dir) == identity
    assert sorted(os.listdir(state_dir)) == ["node.id", "node.key"]


def test_a_lost_id_file_is_made_again_from_the_key(tmp_path: Path) -> None:
    first = ensure_identity(tmp_path)
    (tmp_path / "node.id").unlink()
    assert ensure_identity(tmp_path) == first


def test_a_lost_key_is_an_error_and_no_new_one_is_made(tmp_path: Path) -> None:
    ensure_identity(tmp_path)
    (tmp_path / "node.key").unlink()
    with pytest.raises(DamagedStoreError, match="restore it from a backup"):
        ensure_identity(tmp_path)
    assert os.listdir(tmp_path) == ["node.id"]


@pytest.mark.parametrize(
    "damage", [b"", b"not a key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_a_damaged_key_is_never_replaced(tmp_path: Path, damage: bytes) -> None:
    ensure_identity(tmp_path)
    (tmp_path / "node.id").unlink()
    (tmp_path / "node.key").write_bytes(damage)
    with pytest.raises(DamagedStoreError, match=r"node\.key"):
        ensure_identity(tmp_path)
    assert (tmp_path / "node.key").read_bytes() == damage


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"[]", b"[" * 4000, b"x" * 5000, b'{"id": "n1aaaa"}', b'{"id": 5, "public_key": 7}', b"\xff\xfe"),
        b'{"id": "n1aaaa", "public_key": "", "public_kez": ""}',
    ],
)
def test_a_damaged_id_file_is_named_with_its_remedy(tmp_path: Path, content: bytes) -> None:
    ensure_identity(tmp_path)
    (tmp_path / "node.id").write_bytes(content)
    with pytest.raises(DamagedStoreError, match=r"node\.id.*remove only this file"):
        ensure_identity(tmp_path)
    assert (tmp_path / "node.id").read_bytes() == content


def test_an_id_that_is_not_the_hash_of_the_key_is_refused(tmp_path: Path) -> None:
    ensure_identity(tmp_path)
    other = ensure_identity(tmp_path / "other")
    plain = json.loads((tmp_path / "node.id").read_text())
    plain["id"] = other.id
    (tmp_path / "node.id").write_text(json.dumps(plain))
    with pytest.raises(DamagedStoreError, match="its id does not match its key"):
        ensure_identity(tmp_path)


def test_an_id_stays_when_a_later_key_succeeds_the_first(tmp_path: Path) -> None:
    first = ensure_identity(tmp_path)
    later = ensure_identity(tmp_path / "later")
    succeeded = {"id": first.id, "first_public_key": first.public_key, "public_key": later.public_key}
    (tmp_path / "node.id").write_text(json.dumps(succeeded))
    assert ensure_identity(tmp_path) == NodeIdentity(first.id, later.public_key)


def test_a_replaced_key_that_its_file_misquotes_is_noticed_without_the_secret_key(tmp_path: Path) -> None:
    """No id follows from it, so the file has a checksum."""
    ensure_identity(tmp_path)
    replace_key(tmp_path)
    plain = json.loads((tmp_path / "node.id").read_text())
    plain["public_key"] = ensure_identity(tmp_path / "other").public_key
    (tmp_path / "node.id").write_text(json.dumps(plain))
    with pytest.raises(DamagedStoreError, match=r"checksum; remove only this file"):
        ensure_identity(tmp_path)


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o604])
def test_a_key_that_others_may_read_is_refused_with_the_command_that_mends_it(tmp_path: Path, mode: int) -> None:
    ensure_identity(tmp_path)
    (tmp_path / "node.key").chmod(mode)
    with pytest.raises(StoreError, match="chmod 600"):
        ensure_identity(tmp_path)


def test_a_folder_in_the_place_of_a_file_is_an_error(tmp_path: Path) -> None:
    ensure_identity(tmp_path)
    (tmp_path / "node.id").unlink()
    (tmp_path / "node.id").mkdir()
    with pytest.raises(StoreError, match="is a directory"):
        ensure_identity(tmp_path)


def test_a_state_directory_below_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be used as a state directory"):
        ensure_identity(tmp_path / "file" / "state")


def test_a_disk_that_takes_nothing_is_an_error_and_leaves_nothing_half_made(tmp_path: Path) -> None:
    def nothing_may_be_written() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    process = start(tmp_path / "state", preexec_fn=nothing_may_be_written)
    errors = process.communicate(timeout=30)[1]
    assert "StoreError" in errors
    assert "File too large" in errors
    assert os.listdir(tmp_path / "state") == []
    assert ensure_identity(tmp_path / "state").id.startswith("n1")


def test_what_lies_in_the_working_directory_is_not_imported_by_the_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cryptography.py").write_text("raise SystemExit('hijacked')")
    monkeypatch.chdir(tmp_path)
    assert ensure_identity(tmp_path / "state").id.startswith("n1")
