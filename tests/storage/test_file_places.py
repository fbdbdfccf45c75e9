"""What every store that has a file promises about it: locks, readers, folders, damage, a full disk."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from registry_core import NodeRegistry, ReadOnlyError, RegistryClosedError, StoreError, StoreInUseError
from tests.support.builders import a_node
from tests.support.places import FILE_PLACES, IRREGULAR, irregular


@pytest.fixture(params=list(FILE_PLACES.values()), ids=list(FILE_PLACES))
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    found = request.param(tmp_path).path
    assert isinstance(found, Path)
    return found


def test_missing_folders_are_made_for_their_owner_only(path: Path) -> None:
    deep = path.parent / "a" / "b" / path.name
    with NodeRegistry(deep) as registry:
        registry.register_node(a_node())
    assert stat.S_IMODE((path.parent / "a").stat().st_mode) == 0o700
    assert stat.S_IMODE(deep.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(deep.stat().st_mode) == 0o600


@pytest.mark.parametrize("read_only", [False, True], ids=["writing", "reading"])
@pytest.mark.parametrize("kind", IRREGULAR)
def test_what_is_no_regular_file_is_refused_at_once_and_nothing_is_made_beside_it(
    kind: str, read_only: bool, path: Path
) -> None:
    with irregular(path, kind) as target:
        before = sorted(os.listdir(path.parent))
        with pytest.raises(StoreError, match=f"is {IRREGULAR[kind]}, not a regular file"):
            NodeRegistry(path, read_only=read_only)
        assert sorted(os.listdir(path.parent)) == before
        assert not os.path.lexists(f"{target}.lock")


def test_links_that_lead_round_in_a_circle_are_refused(path: Path) -> None:
    path.symlink_to(path)
    with pytest.raises(StoreError, match="is a chain of more than 40 links"):
        NodeRegistry(path)
    assert os.listdir(path.parent) == [path.name]
    assert path.is_symlink()


def test_a_second_writer_is_refused_with_the_pid_of_the_first(path: Path) -> None:
    with NodeRegistry(path) as registry:
        registry.register_node(a_node())
        with pytest.raises(StoreInUseError) as caught:
            NodeRegistry(path)
        assert caught.value.holder_pid == os.getpid()
        assert str(os.getpid()) in str(caught.value)
    NodeRegistry(path).close()


def test_a_writer_that_is_killed_leaves_no_lock_and_loses_nothing(path: Path) -> None:
    program = (
        "import sys; from registry_core import Node, NodeRegistry\n"
        "registry = NodeRegistry(sys.argv[1])\n"
        "print(registry.register_node(Node('10.0.0.1')), flush=True)\n"
        "sys.stdin.read()"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with writer:
        assert writer.stdout is not None
        node_id = writer.stdout.readline().strip()
        with pytest.raises(StoreInUseError) as caught:
            NodeRegistry(path)
        assert caught.value.holder_pid == writer.pid
        writer.send_signal(signal.SIGKILL)
    with NodeRegistry(path) as registry:
        assert [node.id for node in registry.list_nodes()] == [node_id]


def test_a_reader_beside_a_writer_sees_each_commit(path: Path) -> None:
    with NodeRegistry(path) as writer:
        writer.register_node(a_node(1))
        with NodeRegistry(path, read_only=True) as reader:
            assert reader.count_nodes() == 1
            writer.register_node(a_node(2))
            assert [node.id for node in reader.list_nodes()] == ["node-1", "node-2"]
            writer.deregister_node("node-1")
            assert reader.get_node("node-1") is None


def test_a_reader_changes_nothing(path: Path) -> None:
    with NodeRegistry(path) as writer:
        writer.register_node(a_node(1))
    with NodeRegistry(path, read_only=True) as reader:
        attempts: list[Any] = [
            lambda: reader.register_node(a_node(2)),
            lambda: reader.update_node_health("node-1", 1.0),
            lambda: reader.update_node_reputation("node-1", True),
            lambda: reader.deregister_node("node-1"),
            lambda: reader.admin.ban("node-1"),
            lambda: reader.leave("node-1"),
            reader.save,
            lambda: reader.batch().__enter__(),
        ]
        for attempt in attempts:
            with pytest.raises(ReadOnlyError):
                attempt()
        assert reader.count_nodes() == 1


def test_a_reader_of_nothing_is_told_so_and_makes_nothing(path: Path) -> None:
    with pytest.raises(StoreError, match="does not exist"):
        NodeRegistry(path, read_only=True)
    assert list(path.parent.iterdir()) == []


def test_a_folder_in_place_of_the_file_is_an_error(path: Path) -> None:
    path.mkdir()
    with pytest.raises(StoreError, match=str(path.name)):
        NodeRegistry(path)
    assert path.is_dir()
    assert list(path.iterdir()) == []


def test_a_file_where_a_folder_should_be_is_an_error(path: Path) -> None:
    path.write_text("x")
    with pytest.raises(StoreError):
        NodeRegistry(path / path.name)
    assert path.read_text() == "x"


@pytest.mark.parametrize("content", [b"", b"\0\1\2\3" * 100, b"hello", b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_file_that_is_no_registry_is_refused_and_kept(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(StoreError) as caught:
        NodeRegistry(path)
    assert path.name in str(caught.value)
    assert path.read_bytes() == content
    path.unlink()
    NodeRegistry(path).close()  # no lock stayed behind


def test_an_error_names_a_long_path_whole(path: Path) -> None:
    deep = path.parent / ("d" * 100) / path.name
    deep.parent.mkdir()
    deep.write_bytes(b"no registry")
    with pytest.raises(StoreError, match=str(deep)):
        NodeRegistry(deep)


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    """A file system of 1 MiB; its folder."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("a file system cannot be mounted here (needs root)")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_loses_nothing_that_was_acknowledged(path: Path, small_disk: Path) -> None:
    registry = NodeRegistry(small_disk / path.name)
    registry.register_node(a_node(1))
    ballast = small_disk / "ballast"
    with open(ballast, "wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            pass
    refusals = []
    for number in range(2, 300):  # a log that was given its space beforehand takes some
        try:
            registry.register_node(a_node(number, os_version="x" * 128))
        except StoreError as error:
            refusals.append(str(error))
    assert len(refusals) > 3
    assert path.name in refusals[0]
    acknowledged = {node.id for node in registry.list_nodes()}
    assert registry.update_node_health("node-1", 1.0, 2.0, 3.0).memory_usage == 2.0
    with NodeRegistry(small_disk / path.name, read_only=True) as reader:
        assert {node.id for node in reader.list_nodes()} == acknowledged
    ballast.unlink()
    registry.register_node(a_node(999))
    registry.close()
    with NodeRegistry(small_disk / path.name) as again:
        assert {node.id for node in again.list_nodes()} == acknowledged | {"node-999"}


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without root's right to write everywhere."""
    own = os.geteuid()
    if own == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(own)


def test_a_folder_without_permission_is_an_error(path: Path) -> None:
    with as_nobody(), pytest.raises(StoreError, match="Permission denied"):
        NodeRegistry(Path("/") / path.name)


def test_a_symbolic_link_stays_one(path: Path) -> None:
    target = path.parent / "elsewhere" / path.name
    target.parent.mkdir()
    path.symlink_to(target)
    with NodeRegistry(path) as registry:
        registry.register_node(a_node())
    assert path.is_symlink()
    with NodeRegistry(target) as registry:
        assert registry.count_nodes() == 1


def test_a_registry_is_refused_in_a_forked_child(path: Path) -> None:
    registry = NodeRegistry(path)
    registry.register_node(a_node())
    child = os.fork()
    if child == 0:
        try:
            registry.get_node("node-1")
        except ReadOnlyError:
            os._exit(7)
        os._exit(1)
    _pid, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 7
    registry.close()


def test_a_forked_child_that_lives_on_does_not_keep_the_registry_locked(path: Path) -> None:
    registry = NodeRegistry(path)
    end, start = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(start)
        os.read(end, 1)
        os._exit(0)
    try:
        registry.close()
        NodeRegistry(path).close()
    finally:
        os.close(start)
        os.close(end)
        os.waitpid(child, 0)


def test_a_forked_child_of_a_killed_process_does_not_keep_the_registry_locked(path: Path) -> None:
    program = (
        "import os, sys; from registry_core import NodeRegistry\n"
        "registry = NodeRegistry(sys.argv[1])\n"
        "if os.fork() == 0:\n"
        "    print(os.getpid(), flush=True); sys.stdin.read(); os._exit(0)\n"
        "os.wait()"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with writer:
        assert writer.stdout is not None
        writer.stdout.readline()  # the child has come up
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        NodeRegistry(path).close()


@pytest.fixture
def ctrl_c_interrupts() -> Iterator[None]:
    """As in a terminal; a test run that a script put into the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c_interrupts")
def test_ctrl_c_in_a_commit_comes_after_it_and_loses_nothing(path: Path) -> None:
    registry = NodeRegistry(path)
    store = registry._store
    durably = store.commit

    def interrupted(*arguments: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        durably(*arguments)
        signal.raise_signal(signal.SIGINT)

    store.commit = interrupted  # type: ignore[method-assign, assignment]  # no real Ctrl-C hits this moment each time
    with pytest.raises(KeyboardInterrupt):
        registry.register_node(a_node(1))
    assert [node.id for node in registry.list_nodes()] == ["node-1"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with pytest.raises(KeyboardInterrupt), registry.batch():
        registry.register_node(a_node(2))
    registry.close()
    with NodeRegistry(path) as again:
        assert [node.id for node in again.list_nodes()] == ["node-1", "node-2"]


def test_closing_while_others_write_leaves_what_was_acknowledged(path: Path) -> None:
    registry = NodeRegistry(path)
    acknowledged: list[str] = []
    started = threading.Barrier(5)

    def write(worker: int) -> None:
        started.wait()
        for turn in range(200):
            try:
                acknowledged.append(registry.register_node(a_node(worker * 200 + turn)))
            except (StoreError, RegistryClosedError):
                return

    writers = [threading.Thread(target=write, args=(worker,)) for worker in range(4)]
    for writer in writers:
        writer.start()
    started.wait()
    while not acknowledged:
        registry.count_nodes()
    registry.close()
    with NodeRegistry(path) as again:  # the lock was let go
        for writer in writers:
            writer.join()
        assert {node.id for node in again.list_nodes()} == set(acknowledged)


def test_a_batch_that_ends_after_the_registry_was_closed_writes_nothing(path: Path) -> None:
    registry = NodeRegistry(path)
    registry.register_node(a_node(1))
    ending = registry.batch()
    ending.__enter__()
    registry.register_node(a_node(2))
    registry.close()
    with pytest.raises(StoreError):
        ending.__exit__(None, None, None)
    with NodeRegistry(path) as again:
        assert [node.id for node in again.list_nodes()] == ["node-1"]
