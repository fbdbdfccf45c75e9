"""coordinator.db has the care that a registry has: nothing of it is lost, or changed, without a word."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from duxnet.coordinator.access.own_identity import ensure_coordinator_identity
from duxnet.coordinator.access.token_store import COORDINATOR_DB, KIND, TokenStore
from duxnet.coordinator.app import open_coordinator
from duxnet.coordinator.coordinator import Coordinator
from duxnet.coordinator.settings import CoordinatorSettings
from registry_core.embedded.node_registry import NodeRegistry
from registry_core.errors import DamagedStoreError, StoreError, UnsupportedSchemaError
from registry_core.identity.tokens import hashed_secret
from registry_core.models.status import Admission
from registry_core.storage.maintenance.verify import verify
from registry_core.storage.state_sum import SumKey
from tests.support.builders import a_node
from tests.support.processes import duxnet

LAYOUT_1 = """
CREATE TABLE tokens (
  id INTEGER PRIMARY KEY AUTOINCREMENT, hash TEXT NOT NULL UNIQUE, role TEXT NOT NULL, label TEXT NOT NULL,
  wallet TEXT NOT NULL, created REAL NOT NULL, expires REAL, uses INTEGER, revoked REAL
);
CREATE TABLE joins (
  token INTEGER NOT NULL REFERENCES tokens(id), node_id TEXT NOT NULL, at REAL NOT NULL, PRIMARY KEY (token, node_id)
) WITHOUT ROWID;
CREATE TABLE gone (
  node_id TEXT PRIMARY KEY, generation INTEGER NOT NULL, ban TEXT NOT NULL, at REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX gone_at ON gone (at) WHERE ban = '';
CREATE TABLE gone_keys (
  node_id TEXT PRIMARY KEY, links INTEGER NOT NULL, key TEXT NOT NULL, at REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX gone_keys_at ON gone_keys (at);
INSERT INTO gone VALUES ('banned', 7, 'cheats', 1e9), ('left', 3, '', 1e9), ('unknown', -1, '', 1e9);
INSERT INTO gone_keys VALUES ('left', 2, 'the key', 1e9), ('rotated', 1, 'its key', 1e9);
PRAGMA journal_mode = WAL;
PRAGMA user_version = 1;
"""


def in_layout_1(path: Path) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with closing(sqlite3.connect(path)) as file:
        file.executescript(LAYOUT_1)
        row = (hashed_secret("dux_join_x"), "join", "rack", "", 1.0, None, 2)
        file.execute("INSERT INTO tokens VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, NULL)", row)
        file.execute("INSERT INTO joins VALUES (1, 'node-1', 2.0)")
        file.commit()
    path.chmod(0o600)


def opened_coordinator(state_dir: Path) -> Coordinator:
    return open_coordinator(CoordinatorSettings(state_dir=str(state_dir)))


def test_a_file_of_layout_1_is_brought_up_and_kept_beside(tmp_path: Path) -> None:
    path = tmp_path / COORDINATOR_DB
    in_layout_1(path)
    with closing(TokenStore(path)) as store:
        (token,) = store.tokens()
        assert (token.role, token.label, token.uses, token.used) == ("join", "rack", 2, 1)
        assert store.join("dux_join_x", "node-1", 9.0)
        assert store.join("dux_join_x", "node-2", 9.0)
        assert not store.join("dux_join_x", "node-3", 9.0)
        assert len(store.removed_before()) == 4
    (aside,) = tmp_path.glob(f"{COORDINATOR_DB}.layout-1-*")
    shutil.copy(aside, tmp_path / "old.db")
    with closing(sqlite3.connect(tmp_path / "old.db")) as old:
        assert old.execute("SELECT count(*) FROM gone").fetchone() == (3,)
    with closing(TokenStore(path)) as store:
        assert [each.used for each in store.tokens()] == [2]
    assert len(list(tmp_path.glob(f"{COORDINATOR_DB}.layout-1-*"))) == 1


def test_the_registry_takes_over_what_was_kept_of_removed_nodes(tmp_path: Path) -> None:
    state_dir = tmp_path / "state"
    in_layout_1(state_dir / COORDINATOR_DB)
    shutil.move(state_dir / COORDINATOR_DB, tmp_path / "kept")
    ensure_coordinator_identity(state_dir)
    shutil.move(tmp_path / "kept", state_dir / COORDINATOR_DB)
    for _ in range(2):  # and keeps it
        coordinator = opened_coordinator(state_dir)
        host = coordinator.registry.host
        banned, left, rotated = (host.removed(name) for name in ("banned", "left", "rotated"))
        assert banned is not None
        assert (banned.ban, banned.state) == ("cheats", {"generation": 7})
        assert left is not None
        assert (left.ban, left.state) == ("", {"generation": 3, "links": 2, "key": "the key"})
        assert rotated is not None
        assert rotated.state == {"links": 1, "key": "its key"}
        assert host.removed("unknown") is None
        assert coordinator.token_store.removed_before() == []
        coordinator.close()
    with closing(sqlite3.connect(state_dir / COORDINATOR_DB)) as file:
        assert {name for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")} == {
            "tokens", "joins", "sqlite_sequence",
        }  # fmt: skip


def test_what_is_newer_in_the_registry_is_not_taken_over_again() -> None:
    with NodeRegistry() as registry:
        registry.register_node(a_node(1))
        registry.host.deregister("node-1", state={"generation": 9})
        registry.host.take_over_removed("node-1", state={"generation": 3}, lasts=False, ban="cheats", removed_at=1e9)
        found = registry.host.removed("node-1")
        assert found is not None
        assert (found.state, found.ban) == ({"generation": 9}, "cheats")
        registry.register_node(a_node(1))
        assert registry.get_reputation("node-1").standing is Admission.BANNED


def test_a_flipped_bit_anywhere_is_noticed_or_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "state" / COORDINATOR_DB
    path.parent.mkdir(mode=0o700)
    with closing(TokenStore(path)) as store, store.batch():
        for number in range(300):
            _row, secret = store.create("join", 1.0, label=f"label {number}", wallet="0x" + "1" * 40, uses=3)
            store.join(secret, f"node-{number}", 2.0)
        expected = store.tokens()
    whole = path.read_bytes()
    noticed = 0
    draw = random.Random(3)
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        try:
            with closing(TokenStore(path)) as store:
                assert store.tokens() == expected
        except StoreError:
            noticed += 1
    assert noticed > 100


@pytest.mark.parametrize(
    "attack",
    [
        "UPDATE tokens SET role = 'operator'",
        "UPDATE tokens SET revoked = NULL",
        "UPDATE tokens SET uses = 99",
        "UPDATE joins SET node_id = 'another'",
        "UPDATE tokens SET checksum = 'x'",
    ],
)
def test_a_changed_row_is_refused(tmp_path: Path, attack: str) -> None:
    path = tmp_path / COORDINATOR_DB
    with closing(TokenStore(path)) as store:
        row, secret = store.create("join", 1.0, uses=1)
        store.join(secret, "node-1", 2.0)
        store.revoke(row.id, 3.0)
    with closing(sqlite3.connect(path)) as file, file:
        assert file.execute(attack).rowcount == 1
    with pytest.raises(DamagedStoreError, match="checksum"):
        TokenStore(path)


def test_a_token_that_is_changed_under_a_running_coordinator_opens_nothing(tmp_path: Path) -> None:
    path = tmp_path / COORDINATOR_DB
    with closing(TokenStore(path)) as store:
        _row, secret = store.create("reader", 1.0)
        with closing(sqlite3.connect(path)) as file, file:
            file.execute("UPDATE tokens SET role = 'operator'")
        with pytest.raises(DamagedStoreError, match="checksum"):
            store.find(secret)


@pytest.mark.parametrize("content", [b"", b"no database", b"SQLite format 3\x00" + bytes(200)])
def test_what_is_no_database_of_ours_is_refused_and_kept(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / COORDINATOR_DB
    path.write_bytes(content)
    with pytest.raises((DamagedStoreError, UnsupportedSchemaError)):
        TokenStore(path)
    assert path.read_bytes() == content


def test_a_file_of_a_newer_layout_or_another_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / COORDINATOR_DB
    for pragma in (f"user_version = {KIND.layout + 1}", "application_id = 7"):
        TokenStore(path).close()
        with closing(sqlite3.connect(path)) as file:
            file.execute(f"PRAGMA {pragma}")
        with pytest.raises(UnsupportedSchemaError):
            TokenStore(path)
        path.unlink()


def test_a_damaged_log_is_kept_aside(tmp_path: Path) -> None:
    path, copy = tmp_path / COORDINATOR_DB, tmp_path / "killed" / COORDINATOR_DB
    copy.parent.mkdir(mode=0o700)
    with closing(TokenStore(path)) as store:
        for _ in range(6):
            store.create("reader", 1.0)
        shutil.copy(path, copy)
        shutil.copy(f"{path}-wal", f"{copy}-wal")
    log = Path(f"{copy}-wal")
    damaged = bytearray(log.read_bytes())
    damaged[len(damaged) // 3] ^= 1
    log.write_bytes(damaged)
    with closing(TokenStore(copy)) as store:
        assert len(store.tokens()) < 6
    (kept,) = copy.parent.glob(f"{COORDINATOR_DB}-wal.damaged-*")
    assert kept.read_bytes() == bytes(damaged)


def test_tokens_that_are_missing_beside_a_registry_are_an_error_with_a_remedy(tmp_path: Path) -> None:
    state_dir = tmp_path / "state"
    opened_coordinator(state_dir).close()
    token = (state_dir / "operator.token").read_bytes()
    (state_dir / COORDINATOR_DB).unlink()
    with pytest.raises(DamagedStoreError, match=r"coordinator\.db.* nodes\.db and operator\.token moved aside"):
        opened_coordinator(state_dir)
    assert (state_dir / "operator.token").read_bytes() == token
    assert not (state_dir / COORDINATOR_DB).exists()
    os.rename(state_dir / "nodes.db", tmp_path / "nodes.db")
    with pytest.raises(DamagedStoreError, match=r"operator\.token.* has no operator token"):
        opened_coordinator(state_dir)
    assert (state_dir / "operator.token").read_bytes() == token
    os.rename(state_dir / "operator.token", tmp_path / "operator.token")
    opened_coordinator(state_dir).close()
    assert (state_dir / "operator.token").read_bytes() != token
    os.replace(tmp_path / "nodes.db", state_dir / "nodes.db")
    opened_coordinator(state_dir).close()


def test_a_registry_of_ones_own_becomes_a_coordinators(tmp_path: Path) -> None:
    state_dir = tmp_path / "state"
    state_dir.mkdir(mode=0o700)
    with NodeRegistry(state_dir / "nodes.db") as registry:
        registry.register_node(a_node(1))
    coordinator = opened_coordinator(state_dir)
    coordinator.registry.register_node(a_node(2))
    key = SumKey(coordinator.identity.sum_key)
    coordinator.close()
    assert verify(state_dir / "nodes.db", sum_key=key).notes == ()
    (note,) = verify(state_dir / "nodes.db").notes
    assert "coordinator.key" in note
    found = duxnet("registry", "verify", str(state_dir / "nodes.db"))
    assert (found.returncode, "coordinator.key" in found.stdout) == (0, False)
