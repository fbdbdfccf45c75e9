"""Nothing private stands in clear in any file, at any moment; what stays clear is what the documentation lists."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from registry_core import NodeRegistry, StoreError
from registry_core.models.node import Node, NodeCapabilities
from registry_core.storage.sealing import KeyRing, SealingKey
from tests.support.writers import KEY, OTHER_KEY, content, filled

PUBLIC_KEY = base64.b64encode(bytes(range(200, 232))).decode()
PRIVATE: dict[str, Any] = {
    "wallet_address": "wallet-of-ann",
    "ip_address": "203.0.113.77",
    "addresses": ("203.0.113.77", "2001:db8:77::77"),
    "hostname": "secret-host",
    "os_version": "SecretOS 7",
    "public_key": PUBLIC_KEY,
    "tags": {"rack": "basement-left"},
    "extra": {"nickname": "old-faithful"},
}
WORDS = [
    *(b"wallet-of-ann", b"203.0.113.77", b"2001:db8:77::77", b"secret-host", b"SecretOS", PUBLIC_KEY.encode()),
    *(b"rack", b"basement-left", b"old-faithful", b"lent to bob", b"operator-carol"),
]


def clear_words(folder: Path) -> set[tuple[str, bytes]]:
    """Which private words stand in which file of the folder; each word also as SQLite or JSON could write it."""
    found = set()
    for path in folder.rglob("*"):
        if path.is_file():
            raw = path.read_bytes()
            found |= {(path.name, word) for word in WORDS if word in raw or word[::-1] in raw}
    return found


@pytest.fixture(params=["nodes.db", "nodes.json"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return tmp_path / request.param


def used(registry: NodeRegistry) -> str:
    """Every kind of change that writes something private."""
    node_id = registry.register_node(Node(**PRIVATE))
    registry.register_node(Node(**{**PRIVATE, "id": node_id, "hostname": "secret-host-2"}))
    registry.update_node_health(node_id, 1.0, 2.0, 3.0)
    registry.update_node_reputation(node_id, True)
    registry.admin.cordon(node_id, reason="lent to bob", actor="operator-carol")
    registry.save()
    with registry.batch():
        for number in range(50):
            registry.register_node(Node(**{**PRIVATE, "public_key": "", "id": f"n{number}"}))
    registry.deregister_node("n7")
    return node_id


def test_the_words_are_found_where_nothing_is_sealed(path: Path) -> None:
    with NodeRegistry(path) as registry:
        used(registry)
        assert {word for _name, word in clear_words(path.parent)} == set(WORDS)


def test_nothing_private_stands_in_clear_while_in_use_and_after(path: Path) -> None:
    with NodeRegistry(path, encryption_key=KEY) as registry:
        used(registry)
        if path.suffix == ".db":
            assert path.with_name("nodes.db-wal").stat().st_size > 0
        assert clear_words(path.parent) == set()
    assert clear_words(path.parent) == set()


def test_no_key_stands_in_any_file(path: Path) -> None:
    with NodeRegistry(path, encryption_key=KEY) as registry:
        used(registry)
        raw = b"".join(file.read_bytes() for file in path.parent.iterdir())
    for form in (bytes(range(32)), KEY.to_text().encode(), base64.b64encode(bytes(range(32)))):
        assert form[:16] not in raw


def test_filters_by_wallet_and_tags_work_after_a_start_from_a_sealed_file(path: Path) -> None:
    with NodeRegistry(path, encryption_key=KEY) as registry:
        used(registry)
        registry.register_node(Node("10.0.0.1", capabilities=NodeCapabilities(cpu_cores=2)))
    with NodeRegistry(path, encryption_key=KEY) as registry:
        assert registry.count_nodes() == 51
        assert registry.count_nodes(wallet_address="wallet-of-ann") == 50
        assert len(registry.list_nodes(tags={"rack": "basement-left"}, limit=60)) == 50
        assert registry.count_nodes(wallet_address="wallet-of-bob") == 0


def test_two_nodes_of_one_wallet_do_not_look_alike(tmp_path: Path) -> None:
    import sqlite3

    path = tmp_path / "nodes.db"
    with NodeRegistry(path, encryption_key=KEY) as registry:
        used(registry)
    connection = sqlite3.connect(path)
    labels = [row[0] for row in connection.execute("SELECT labels FROM nodes")]
    connection.close()
    assert len({label[21:] for label in labels}) == len(labels) == 50


def test_a_new_key_before_the_old_one_opens_and_seals_what_is_written_from_now_on(path: Path) -> None:
    with NodeRegistry(path, encryption_key=KEY) as registry:
        used(registry)
    ring = KeyRing((OTHER_KEY, KEY))
    with NodeRegistry(path, encryption_key=ring) as registry:
        assert registry.count_nodes() == 50
        registry.register_node(Node("10.0.0.1", id="new"))
    assert len(content(path, ring)) == 51  # type: ignore[arg-type]  # a ring stands for a key


def test_a_sealed_json_file_that_was_cut_or_changed_anywhere_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "nodes.json"
    filled(path, 3, KEY)
    whole = path.read_bytes()
    cuts = [whole[:length] for length in range(0, len(whole), 97)]
    changes = [whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :] for at in range(0, len(whole), 41)]
    for raw in (*cuts, *changes, whole + b"x"):
        path.write_bytes(raw)
        with pytest.raises(StoreError, match=r"nodes\.json"):
            NodeRegistry(path, encryption_key=KEY)
        assert path.read_bytes() == raw
    path.write_bytes(whole)
    assert len(content(path, KEY)) == 3


def test_a_key_that_sealed_nothing_is_not_needed_later(path: Path) -> None:
    spare = SealingKey(bytes(range(90, 122)))
    for ring in (KeyRing((KEY, spare)), KeyRing((OTHER_KEY, KEY, spare)), KeyRing((OTHER_KEY, KEY))):
        with NodeRegistry(path, encryption_key=ring) as registry:
            registry.register_node(Node("10.0.0.1"))
    assert len(content(path, KeyRing((KEY, OTHER_KEY)))) == 3  # type: ignore[arg-type]  # a ring stands for a key


@pytest.mark.parametrize("key", [b"", b"short", b"x" * 33, "x" * 32, 7, [b"x" * 31]])
def test_what_is_no_key_is_refused_without_being_shown_and_nothing_is_made(path: Path, key: Any) -> None:
    from registry_core import ValidationError

    with pytest.raises(ValidationError, match="encryption_key") as caught:
        NodeRegistry(path, encryption_key=key)
    assert "xxxx" not in str(caught.value)
    assert list(path.parent.iterdir()) == []


def test_a_key_without_a_path_is_refused() -> None:
    from registry_core import ValidationError

    with pytest.raises(ValidationError, match="encryption_key"):
        NodeRegistry(encryption_key=SealingKey.generate())
