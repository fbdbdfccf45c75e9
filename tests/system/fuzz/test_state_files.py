"""A bit that flips in any file of a state folder is an error that names the file, or changes nothing that counts.

Small files: every byte. Write-ahead logs: the head and every frame. Databases: places that a seed draws.
"""

from __future__ import annotations

import json
import logging
import random
import shutil
from collections import Counter
from pathlib import Path
from typing import Any, Callable

import pytest

from duxnet.coordinator.access.own_identity import ensure_coordinator_identity
from duxnet.coordinator.app import open_coordinator
from duxnet.coordinator.settings import CoordinatorSettings
from registry_core.errors import StoreError
from registry_core.identity.identity_files import ensure_identity
from registry_core.identity.node_key import load_node_key
from registry_core.identity.replace_key import replace_key
from registry_core.remote import RemoteRegistry
from registry_core.wire.shapes import LAST_GENERATION
from tests.support.builders import a_node
from tests.support.processes import duxnet

pytestmark = pytest.mark.fuzz

PAGE = 4096
HEAD, FRAME_HEAD = 32, 24  # bytes of SQLite's write-ahead log
COORDINATORS = "http://127.0.0.1:9"
PINNED = {"schema": "duxnet.remote/1.0", "coordinator_id": "c1" + "q7" * 26, "generation": 12}


def flipped(content: bytes, at: int, bit: int) -> bytes:
    damaged = bytearray(content)
    damaged[at] ^= 1 << bit
    return bytes(damaged)


def names(error: StoreError, folder: Path) -> bool:
    """Whether it names a file of the folder, in one line."""
    return str(folder) in str(error) and str(error).isprintable()


def every_flip(path: Path, look: Callable[[], object]) -> Counter[object]:
    """What `look` finds with each bit of each byte flipped; errors that name no file of the folder fail."""
    whole, mode = path.read_bytes(), path.stat().st_mode
    found: Counter[object] = Counter()
    for at in range(len(whole)):
        for bit in range(8):
            path.write_bytes(flipped(whole, at, bit))
            try:
                found[look()] += 1
            except StoreError as error:
                found["error"] += names(error, path.parent)
    path.write_bytes(whole)
    path.chmod(mode)
    return found


@pytest.mark.parametrize("name", ["coordinator.key", "coordinator.id"])
def test_a_coordinator_never_becomes_another(name: str, tmp_path: Path) -> None:
    identity = ensure_coordinator_identity(tmp_path).id
    found = every_flip(tmp_path / name, lambda: ensure_coordinator_identity(tmp_path).id)
    assert set(found) <= {"error", identity}
    assert found["error"] > found[identity]


@pytest.mark.parametrize("is_replaced", [False, True], ids=["first key", "replaced key"])
@pytest.mark.parametrize("name", ["node.key", "node.id"])
def test_a_node_never_becomes_another(name: str, is_replaced: bool, tmp_path: Path) -> None:
    ensure_identity(tmp_path)
    if is_replaced:
        replace_key(tmp_path)
    identity = ensure_identity(tmp_path)

    def look() -> object:
        key = load_node_key(tmp_path)
        assert (key.node_id, key.public_key) == (identity.id, identity.public_key)
        return ensure_identity(tmp_path)

    found = every_flip(tmp_path / name, look)
    assert set(found) <= {"error", identity}
    assert found["error"] > found[identity]
    if name == "node.id" and is_replaced:  # an agent that keeps its own registry never loads the key
        assert set(every_flip(tmp_path / name, lambda: ensure_identity(tmp_path))) <= {"error", identity}


def test_no_flip_unpins_a_coordinator(tmp_path: Path) -> None:
    ensure_identity(tmp_path)
    path = tmp_path / "remote.json"
    path.write_text(json.dumps(PINNED) + "\n")

    def look() -> object:
        RemoteRegistry(COORDINATORS, state_dir=tmp_path).close()
        kept = json.loads(path.read_bytes())
        assert kept["coordinator_id"].startswith("c1")  # perhaps another: then the true one is refused, by name
        assert len(kept["coordinator_id"]) == len(str(PINNED["coordinator_id"]))
        assert -LAST_GENERATION < kept["generation"] < LAST_GENERATION
        return "pinned"

    found = every_flip(path, look)
    assert set(found) == {"error", "pinned"}


class Folder:
    """A coordinator's state folder: as a clean stop leaves it, and as a kill does, with all in the write-ahead logs."""

    def __init__(self, base: Path) -> None:
        self.work = base / "work"
        self.stopped, self.killed = base / "stopped", base / "killed"
        coordinator = open_coordinator(CoordinatorSettings(state_dir=str(self.stopped)))
        leaver, self.revoked = coordinator.token_store.create("operator", 1.0, label="leaver")
        coordinator.token_store.revoke(leaver.id, 2.0)
        for number in range(3):
            coordinator.registry.register_node(a_node(number))
        coordinator.registry.admin.ban("node-1", reason="thief", actor="test")
        for number in range(4):
            coordinator.token_store.create("reader", 3.0, label=f"reader {number}")
            coordinator.registry.register_node(a_node(10 + number))
        shutil.copytree(self.stopped, self.killed)
        coordinator.close()
        self.first_operator = (self.stopped / "operator.token").read_bytes()
        self.whole = self.state(self.stopped)
        assert self.state(self.fresh(self.killed)) == self.whole

    def fresh(self, source: Path) -> Path:
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.copytree(source, self.work)
        return self.work

    def state(self, place: Path) -> Any:
        """All that counts of the coordinator in `place`. Raises StoreError."""
        coordinator = open_coordinator(CoordinatorSettings(state_dir=str(place)))
        try:
            assert (place / "operator.token").read_bytes()
            tokens = [(row.id, row.role, row.label, row.revoked) for row in coordinator.token_store.tokens()]
            nodes = sorted(
                (node.id, node.ip_address, node.admission.value) for node in coordinator.registry.list_nodes()
            )
            return coordinator.identity.id, tokens, nodes
        finally:
            coordinator.close()

    def outcome(self, source: Path, name: str, content: bytes, caplog: pytest.LogCaptureFixture) -> str:
        """What an opening makes of the folder with another content of one file. It fails for a loss in silence."""
        place = self.fresh(source)
        (place / name).write_bytes(content)
        caplog.clear()
        try:
            state = self.state(place)
        except StoreError as error:
            return "error" if names(error, place) else "an error without a name"
        if state == self.whole:
            return "harmless"
        told = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
        database = name.partition("-")[0]
        assert any(database in text for text in told), (name, told)
        assert (place / "operator.token").read_bytes() == self.first_operator
        return "named in the log"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return Folder(tmp_path_factory.mktemp("flips"))


@pytest.mark.parametrize("name", ["operator.token", "audit.jsonl", "nodes.db.lock"])
def test_what_is_not_read_at_the_start_keeps_nothing_from_it(
    folder: Folder, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    (folder.stopped / "audit.jsonl").write_text('{"at": 1}\n')
    content = (folder.stopped / name).read_bytes()
    draw = random.Random(1)
    for at in range(len(content)):
        changed = flipped(content, at, draw.randrange(8))
        assert folder.outcome(folder.stopped, name, changed, caplog) == "harmless"
    assert content


@pytest.mark.parametrize("name", ["coordinator.db-wal", "nodes.db-wal"])
def test_every_frame_of_a_log(folder: Folder, name: str, caplog: pytest.LogCaptureFixture) -> None:
    content = (folder.killed / name).read_bytes()
    draw = random.Random(2)
    frames = (len(content) - HEAD) // (FRAME_HEAD + PAGE)
    assert frames >= 8
    places = list(range(HEAD))
    for start in range(HEAD, len(content), FRAME_HEAD + PAGE):
        places += [start + draw.randrange(FRAME_HEAD), start + FRAME_HEAD + draw.randrange(PAGE)]
    found: Counter[str] = Counter()
    for at in places:
        found[folder.outcome(folder.killed, name, flipped(content, at, draw.randrange(8)), caplog)] += 1
        kept = list(folder.work.glob(f"{name}.damaged-*"))
        assert len(kept) <= 1
    assert found["harmless"] == 0, found
    assert found["named in the log"] >= frames, found


@pytest.mark.parametrize("name", ["coordinator.db", "nodes.db"])
def test_a_database(folder: Folder, name: str, caplog: pytest.LogCaptureFixture) -> None:
    content = (folder.stopped / name).read_bytes()
    draw = random.Random(3)
    found: Counter[str] = Counter()
    for at in [*range(100), *(draw.randrange(len(content)) for _ in range(120))]:
        found[folder.outcome(folder.stopped, name, flipped(content, at, draw.randrange(8)), caplog)] += 1
    assert set(found) == {"error", "harmless"}, found  # much of a page is empty


@pytest.mark.parametrize(
    "name", ["coordinator.db", "coordinator.db-wal", "nodes.db", "nodes.db-wal", "coordinator.key"]
)
def test_a_file_that_is_cut_off(folder: Folder, name: str, caplog: pytest.LogCaptureFixture) -> None:
    source = folder.killed if name.endswith("-wal") else folder.stopped
    content = (source / name).read_bytes()
    draw = random.Random(4)
    lengths = [
        0,
        1,
        16,
        31,
        32,
        33,
        99,
        100,
        PAGE,
        len(content) - 1,
        *(draw.randrange(len(content)) for _ in range(20)),
    ]
    named = errors = 0
    for length in lengths:
        if length >= len(content):
            continue
        place = folder.fresh(source)
        (place / name).write_bytes(content[:length])
        try:
            state = folder.state(place)
        except StoreError as error:
            named += names(error, place)
            errors += 1
            continue
        # A log that ends with a whole commit is one of earlier: nothing can tell. Any other cut is an error.
        assert state == folder.whole or name.endswith("-wal"), (name, length)
        assert (place / "operator.token").read_bytes() == folder.first_operator
    assert named == errors
    assert errors or name.endswith("-wal")


def test_a_status_file_that_is_damaged_ends_no_command_in_a_traceback(tmp_path: Path) -> None:
    done = duxnet("agent", "--once", "--state-dir", tmp_path, "--registry", tmp_path / "nodes.db")
    assert done.returncode == 0, done.stderr
    path = tmp_path / "agent.json"
    content = path.read_bytes()
    draw = random.Random(5)
    for at in range(0, len(content), max(1, len(content) // 250)):
        path.write_bytes(flipped(content, at, draw.randrange(8)))
        done = duxnet("status", "--state-dir", tmp_path)
        assert "Traceback" not in done.stderr
        assert done.returncode in (0, 1, 3)
        assert (done.stdout + done.stderr).replace("\n", "").isprintable()
