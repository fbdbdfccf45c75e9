"""A registry that is opened read-only beside a running writer follows all that the writer saves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, Optional

import pytest

from registry_core import NodeRegistry, UnknownNodeError
from registry_core.models.status import Liveness
from registry_core.storage.maintenance.verify import verify
from registry_core.testing import HandClock
from tests.support.builders import a_node


@pytest.mark.parametrize("name", ["nodes.db", "nodes.json"])
def test_a_reader_shows_the_samples_that_were_saved_since_it_opened(tmp_path: Path, name: str) -> None:
    with NodeRegistry(tmp_path / name) as writer:
        writer.register_node(a_node(1))
        writer.update_node_health("node-1", 1.0, 10.0, 10.0)
        writer.save()
        with NodeRegistry(tmp_path / name, read_only=True) as reader:
            assert _load(reader) == 1.0
            writer.update_node_health("node-1", 2.0, 20.0, 20.0)
            writer.save()
            assert _load(reader) == 2.0
            writer.register_node(a_node(2))
            assert _load(reader) == 2.0


@pytest.mark.parametrize("name", ["nodes.db", "nodes.json"])
def test_a_reader_sees_who_leaves_and_who_comes_back(tmp_path: Path, name: str) -> None:
    with NodeRegistry(tmp_path / name) as writer:
        writer.register_node(a_node(1))
        with NodeRegistry(tmp_path / name, read_only=True) as reader:
            assert [node.id for node in reader.list_nodes(only_healthy=True)] == ["node-1"]
            writer.leave("node-1")
            assert reader.list_nodes()[0].liveness is Liveness.LEFT
            assert reader.list_nodes(only_healthy=True) == []
            writer.register_node(a_node(1))
            assert [node.id for node in reader.list_nodes(only_healthy=True)] == ["node-1"]


@pytest.mark.parametrize("timeout_seconds", [None, 600.0])
@pytest.mark.parametrize("name", ["nodes.db", "nodes.json"])
def test_a_reader_sees_who_is_down_and_who_is_heard_again(
    tmp_path: Path, name: str, timeout_seconds: Optional[float]
) -> None:
    clock = HandClock()
    with NodeRegistry(tmp_path / name, clock=clock, heartbeat_timeout_seconds=60) as writer:
        writer.register_node(a_node(1))
        writer.save()
        with NodeRegistry(tmp_path / name, read_only=True, heartbeat_timeout_seconds=timeout_seconds) as reader:
            assert reader.list_nodes()[0].liveness is Liveness.LIVE
            clock.move(61)
            writer.tick()
            writer.save()
            assert reader.list_nodes()[0].liveness is Liveness.DOWN
            assert reader.count_nodes(only_healthy=True) == 0
            clock.move(1)
            writer.update_node_health("node-1", 1.0)
            writer.save()
            assert reader.list_nodes()[0].liveness is Liveness.LIVE
            assert reader.count_nodes(only_healthy=True) == 1


def test_a_commit_about_one_node_is_no_sign_of_life_of_another(tmp_path: Path) -> None:
    clock = HandClock()
    with NodeRegistry(tmp_path / "nodes.db", clock=clock) as writer:
        writer.register_node(a_node(1))
        with NodeRegistry(tmp_path / "nodes.db", read_only=True, clock=clock, heartbeat_timeout_seconds=30) as reader:
            assert reader.get_node("node-1") is not None
            clock.move(31)
            writer.register_node(a_node(2))
            assert {node.id: node.liveness for node in reader.list_nodes()} == {
                "node-1": Liveness.DOWN,
                "node-2": Liveness.LIVE,
            }


def _load(registry: NodeRegistry) -> object:
    node = registry.get_node("node-1")
    assert node is not None
    return node.health.load_average


@pytest.mark.parametrize("name", ["nodes.db", "nodes.json"])
def test_what_can_be_no_id_is_an_unknown_node_in_every_store(tmp_path: Path, name: str) -> None:
    with NodeRegistry(tmp_path / name) as registry:
        nonsense: list[Any] = ["\ud800", None, 7, []]
        for value in nonsense:
            assert registry.host.state(value) is None
            with pytest.raises(UnknownNodeError):
                registry.get_reputation(value)


def test_another_program_that_looks_into_the_file_costs_a_writer_nothing_although_a_reader_was_beside_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "nodes.db"
    look = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT * FROM nodes').fetchall(); c.close()"
    )
    with NodeRegistry(path) as writer:
        writer.register_node(a_node(1))
        for _ in range(2):
            with NodeRegistry(path, read_only=True) as reader:
                assert len(reader.list_nodes()) == 1
            verify(path)
        subprocess.run([sys.executable, "-c", look, str(path)], check=True, timeout=30)
        writer.register_node(a_node(2))
        with NodeRegistry(path, read_only=True) as reader:
            assert len(reader.list_nodes()) == 2
    with NodeRegistry(path) as again:
        assert len(again.list_nodes()) == 2
