"""A state folder is checked, copied and put back as a whole; secrets go along only where they are wanted."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from duxnet.coordinator.app import open_coordinator
from duxnet.coordinator.coordinator import Coordinator
from duxnet.coordinator.settings import CoordinatorSettings
from registry_core.errors import DamagedStoreError
from registry_core.identity.identity_files import ensure_identity
from registry_core.identity.keys import private_key_pem
from tests.support.builders import a_node
from tests.support.processes import duxnet

SECRETS = {"coordinator.key", "operator.token"}


def opened(state_dir: Path) -> Coordinator:
    return open_coordinator(CoordinatorSettings(state_dir=str(state_dir)))


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    """Of a coordinator that was stopped: two nodes, one of them banned and gone, and a token that was revoked."""
    place = tmp_path / "state"
    coordinator = opened(place)
    coordinator.registry.register_node(a_node(1))
    coordinator.registry.register_node(a_node(2))
    coordinator.registry.admin.ban("node-2", reason="cheats", actor="test")
    row, _secret = coordinator.token_store.create("operator", 1.0, label="leaver")
    coordinator.token_store.revoke(row.id, 2.0)
    coordinator.close()
    return place


def state_of(place: Path) -> Any:
    coordinator = opened(place)
    try:
        tokens = [(row.label, row.revoked is None) for row in coordinator.token_store.tokens()]
        nodes = {node.id: node.admission.value for node in coordinator.registry.list_nodes()}
        return coordinator.identity.id, tokens, nodes
    finally:
        coordinator.close()


def test_a_backup_holds_all_but_secrets_and_is_put_back_whole(state_dir: Path, tmp_path: Path) -> None:
    whole = state_of(state_dir)
    done = duxnet("registry", "backup", state_dir, tmp_path / "backup", "--format", "json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert set(told["left_out"]) == SECRETS
    assert set(told["copied"]) == {"nodes.db", "coordinator.db", "coordinator.id", "audit.jsonl"}
    assert {each.name for each in (tmp_path / "backup").iterdir()} == set(told["copied"])
    coordinator = opened(state_dir)
    coordinator.registry.deregister_node("node-1")
    coordinator.close()
    refused = duxnet("registry", "restore", tmp_path / "backup", state_dir)
    assert (refused.returncode, "already exists" in refused.stderr) == (1, True)
    assert duxnet("registry", "restore", tmp_path / "backup", state_dir, "--overwrite").returncode == 0
    assert state_of(state_dir) == whole
    assert {each.name.partition(".before-restore-")[0] for each in state_dir.glob("*.before-restore-*")} == {
        "nodes.db",
        "coordinator.db",
    }


def test_a_backup_is_made_beside_a_running_coordinator_and_restore_waits_for_its_end(
    state_dir: Path, tmp_path: Path
) -> None:
    coordinator = opened(state_dir)
    coordinator.registry.register_node(a_node(3))
    assert duxnet("registry", "backup", state_dir, tmp_path / "backup").returncode == 0
    refused = duxnet("registry", "restore", tmp_path / "backup", state_dir, "--overwrite")
    assert (refused.returncode, "in use" in refused.stderr or "open" in refused.stderr) == (1, True), refused.stderr
    coordinator.close()
    assert not list(state_dir.glob("*.before-restore-*"))


def test_with_keys_a_backup_is_a_coordinator_elsewhere(state_dir: Path, tmp_path: Path) -> None:
    whole = state_of(state_dir)
    assert duxnet("registry", "backup", state_dir, tmp_path / "backup", "--with-keys").returncode == 0
    assert not {each.name for each in (tmp_path / "backup").iterdir()} & {"nodes.db-wal", "coordinator.db-wal"}
    for name in SECRETS:
        assert (tmp_path / "backup" / name).stat().st_mode & 0o077 == 0
    assert duxnet("registry", "restore", tmp_path / "backup", tmp_path / "new").returncode == 0
    assert state_of(tmp_path / "new") == whole


def test_without_its_key_a_restored_folder_says_what_is_missing(state_dir: Path, tmp_path: Path) -> None:
    assert duxnet("registry", "backup", state_dir, tmp_path / "backup").returncode == 0
    done = duxnet("registry", "restore", tmp_path / "backup", tmp_path / "new")
    assert (done.returncode, "put coordinator.key into" in done.stderr) == (0, True)
    with pytest.raises(DamagedStoreError, match=r"coordinator\.key.* is missing"):
        opened(tmp_path / "new")


def test_what_is_overwritten_is_a_backup_and_nothing_else(state_dir: Path, tmp_path: Path) -> None:
    target = tmp_path / "backup"
    assert duxnet("registry", "backup", state_dir, target).returncode == 0
    assert duxnet("registry", "verify", target).returncode == 0
    assert duxnet("registry", "backup", state_dir, target).returncode == 1
    assert duxnet("registry", "backup", state_dir, target, "--overwrite").returncode == 0
    (target / "thesis.txt").write_text("ten years")
    refused = duxnet("registry", "backup", state_dir, target, "--overwrite")
    assert (refused.returncode, "thesis.txt" in refused.stderr) == (1, True)
    assert (target / "thesis.txt").read_text() == "ten years"
    assert not [each for each in tmp_path.iterdir() if "partial" in each.name or "replaced" in each.name]


def test_another_coordinators_backup_is_refused(state_dir: Path, tmp_path: Path) -> None:
    opened(tmp_path / "other").close()
    assert duxnet("registry", "backup", tmp_path / "other", tmp_path / "backup").returncode == 0
    refused = duxnet("registry", "restore", tmp_path / "backup", state_dir, "--overwrite")
    assert (refused.returncode, "belongs to c1" in refused.stderr) == (1, True)


@pytest.mark.parametrize(
    ("name", "damage", "word"),
    [
        ("nodes.db", 0.6, "DAMAGED"),
        ("coordinator.db", 0.3, "DAMAGED"),
        ("coordinator.key", 0.5, "DAMAGED"),
        ("coordinator.id", 0.5, "DAMAGED"),
        ("coordinator.db", None, "is missing"),
    ],
)
def test_verify_names_what_is_damaged(state_dir: Path, name: str, damage: Any, word: str) -> None:
    path = state_dir / name
    content = bytearray(path.read_bytes())
    if damage is None:
        path.unlink()
    else:
        length = 64 if name.endswith(".db") else 1
        at = int(len(content) * damage)
        content[at : at + length] = bytes(byte ^ 1 for byte in content[at : at + length])
        if name == "coordinator.db":
            at = bytes(content).index(b"leaver")
            content[at] ^= 1
        elif name == "nodes.db":
            at = bytes(content).index(b"node-1")
            content[at] ^= 1
        path.write_bytes(content)
    done = duxnet("registry", "verify", state_dir)
    assert done.returncode == 1, done.stdout
    assert word in done.stdout
    assert name in done.stdout
    refused = duxnet("registry", "restore", state_dir, state_dir.with_name("new"))
    assert refused.returncode == 1
    assert not (state_dir.with_name("new") / "nodes.db").exists()


def test_an_agents_folder_is_taken_whole_too(tmp_path: Path) -> None:
    place = tmp_path / "agent"
    first = ensure_identity(place)
    done = duxnet("nodes", "register", "--ip-address", "192.0.2.1", "--registry", place / "nodes.json")
    assert done.returncode == 0, done.stderr
    assert duxnet("registry", "backup", place, tmp_path / "backup", "--with-keys").returncode == 0
    assert duxnet("registry", "restore", tmp_path / "backup", tmp_path / "new").returncode == 0
    assert ensure_identity(tmp_path / "new") == first
    assert (tmp_path / "new" / "nodes.json").read_bytes() == (place / "nodes.json").read_bytes()


def test_a_key_that_is_not_the_one_of_before_is_an_error_with_a_remedy(state_dir: Path) -> None:
    before = (state_dir / "coordinator.key").read_bytes()
    (state_dir / "coordinator.key").write_bytes(private_key_pem(Ed25519PrivateKey.generate()))
    with pytest.raises(DamagedStoreError, match=r"coordinator\.key.*coordinator\.id names c1.*restore both"):
        opened(state_dir)
    (state_dir / "coordinator.key").write_bytes(before)
    whole = state_of(state_dir)
    os.remove(state_dir / "coordinator.id")  # as a version before this one leaves it
    assert state_of(state_dir) == whole
    assert (state_dir / "coordinator.id").read_text() == whole[0] + "\n"


def test_a_folder_that_holds_only_a_key_begins_anew_with_it(state_dir: Path, tmp_path: Path) -> None:
    """As a first start that was killed leaves it."""
    (tmp_path / "new").mkdir(mode=0o700)
    shutil.copy(state_dir / "coordinator.key", tmp_path / "new")
    identity, tokens, nodes = state_of(tmp_path / "new")
    assert (identity, tokens, nodes) == (state_of(state_dir)[0], [("first operator", True)], {})


def test_a_registry_that_is_missing_beside_tokens_is_told(state_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    os.remove(state_dir / "nodes.db")
    assert state_of(state_dir)[2] == {}
    assert "nodes and bans are lost" in caplog.text
