"""Folders that cannot be written, clocks that are set back, samples that are soft."""

from __future__ import annotations

import resource
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry_core import NodeRegistry
from registry_core.errors import StoreError
from registry_core.storage.maintenance.verify import verify
from registry_core.testing import START, HandClock
from tests.support.builders import a_node, a_put
from tests.support.writers import content, filled, opened

pytestmark = pytest.mark.xdist_group("timing")  # what it measures bears no other measurement beside it


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, for the time of a test."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(folder)], capture_output=True).returncode:
        pytest.skip("a file system cannot be mounted here (needs root)")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("name", ["nodes.db", "nodes.json"])
def test_a_folder_that_cannot_be_written_can_be_read(mounted: Path, name: str) -> None:
    filled(mounted / name, 7)
    (mounted / f"{name}.lock").unlink()
    subprocess.run(["mount", "-o", "remount,ro", str(mounted)], check=True)
    with pytest.raises(StoreError, match=name), opened(mounted / name):
        pass
    assert len(content(mounted / name)) == 7
    assert verify(mounted / name).is_whole


def test_a_full_disk_at_a_save_is_an_error_and_loses_nothing(mounted: Path) -> None:
    registry = NodeRegistry(mounted / "nodes.db")
    with registry.batch():
        for number in range(500):
            registry.register_node(a_node(number))
    ballast = mounted / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            pass
    for number in range(500):
        registry.update_node_health(f"node-{number}", 1.0, 2.0, 3.0)
    with pytest.raises(StoreError):
        registry.save()
    ballast.unlink()
    registry.save()
    registry.close()
    with NodeRegistry(mounted / "nodes.db") as again:
        assert again.count_nodes() == 500
        node = again.get_node("node-7")
        assert node is not None
        assert node.health.disk_usage == 3.0


def test_commits_are_numbered_on_when_the_clock_is_set_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "nodes.db"
    filled(path, 2)
    with monkeypatch.context() as patched:
        # Patched because the stamp is for people: nothing is decided by it, so that it needs no seam.
        patched.setattr(time, "time_ns", lambda: 10**9 * 10**9)
        with opened(path) as store:
            store.commit([a_put(3)], {})
    found = verify(path)
    assert found.last_commit == 2
    assert str(found.last_commit_at).startswith("2001-09-09")
    with opened(path) as store:
        store.commit([a_put(4)], {})
    assert verify(path).last_commit == 3
    assert [row.sequence for row, _record in content(path).values()] == [1, 2, 3, 4]


def test_a_registry_whose_clock_is_set_back_keeps_its_order(tmp_path: Path) -> None:
    clock = HandClock()
    with NodeRegistry(tmp_path / "nodes.db", clock=clock) as registry:
        registry.register_node(a_node(1))
        clock.set_wall(START.replace(year=2001))
        registry.register_node(a_node(2))
    with NodeRegistry(tmp_path / "nodes.db") as registry:
        assert [node.id for node in registry.list_nodes()] == ["node-1", "node-2"]


def test_samples_are_written_every_minute_without_anybody_waiting(tmp_path: Path) -> None:
    clock = HandClock()
    path = tmp_path / "nodes.db"
    with NodeRegistry(path, clock=clock) as registry:
        registry.register_node(a_node(1))
        registry.update_node_health("node-1", 1.0, 55.0, 3.0)
        clock.move(1.0)
        registry.tick()
        with opened(path, read_only=True) as reader:
            assert [row.sample for row in reader.rows()] == [None]
            clock.move(61.0)
            registry.tick()
            clock.move(61.0)
            registry.tick()
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline and [row.sample for row in reader.rows()] == [None]:
                time.sleep(0.01)
            (row,) = reader.rows()
            assert row.sample is not None
            assert row.sample.memory_usage == 55.0


def test_a_fall_whose_write_failed_is_written_by_the_next_save(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock, path = HandClock(), tmp_path / "nodes.db"
    with NodeRegistry(path, clock=clock, heartbeat_timeout_seconds=60) as registry:
        registry.register_node(a_node(1))
        clock.move(30)
        registry.tick()  # from now on a minute
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))  # as a full disk: no file may grow
        try:
            clock.move(61)
            registry.tick()
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline and "were not saved" not in caplog.text:
                time.sleep(0.01)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert "were not saved" in caplog.text
        registry.save()
        with opened(path, read_only=True) as reader:
            assert [row.is_down for row in reader.rows()] == [True]
