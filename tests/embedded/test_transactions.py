"""What is decided while an earlier change is on its way to the disk: as if the changes had come one after the other."""

from __future__ import annotations

import errno
import random
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Callable, Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_core import Admission, Node, NodeRegistry
from registry_core.errors import DamagedStoreError, RegistryError, StoreError, UnknownNodeError, ValidationError
from registry_core.identity.wallets import WalletVerifier
from registry_core.storage.tombstones import StoredTombstone
from registry_core.testing import HandClock, SlowStore
from tests.support.builders import a_node

A, B = a_node(1, wallet_address="0x" + "1" * 40), a_node(2, wallet_address="0x" + "1" * 40)


@pytest.fixture(params=[None, "nodes.json", "nodes.db"], ids=["memory", "json", "sqlite"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Optional[Path]:
    return None if request.param is None else tmp_path / request.param


@pytest.fixture
def registry(path: Optional[Path]) -> Iterator[NodeRegistry]:
    with NodeRegistry(path, clock=HandClock()) as opened:
        opened.register_node(A)
        opened.update_node_reputation(A.id, False, weight=5.0)
        opened.admin.ban(A.id, reason="cheats")
        opened.register_node(B)
        yield opened


class AnyWallet(WalletVerifier):
    def verify(self, wallet_address: str, message: str, signature: str) -> bool:
        return True


class Call(threading.Thread):
    """A call in a thread of its own, begun when this returns: it waits for the disk, or has ended."""

    def __init__(self, slow: SlowStore, call: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._call = call
        self.outcome: object = None
        waiting, end = slow.waiting, time.monotonic() + 10
        self.start()
        while self.is_alive() and slow.waiting == waiting:
            assert time.monotonic() < end
            time.sleep(0.0005)

    def run(self) -> None:
        try:
            self.outcome = self._call()
        except (RegistryError, OSError) as error:
            self.outcome = error

    def end(self) -> object:
        self.join(10)
        assert not self.is_alive()
        return self.outcome


def in_flight(
    registry: NodeRegistry, calls: Sequence[Callable[[], object]], *outcomes: Optional[BaseException]
) -> list[object]:
    """What the calls came to, each made while those before it wait for the disk."""
    slow = SlowStore(registry)
    slow.hold()
    begun = [Call(slow, call) for call in calls]
    slow.let_go(*outcomes)
    return [call.end() for call in begun]


def kept(registry: NodeRegistry, node: Node = A) -> object:
    """Everything that is kept of the node, without its place in the order of registration."""
    found = registry.get_node(node.id)
    if found is None:
        return None
    reputation = registry.get_reputation(node.id)
    return found.admission, found.reputation, reputation.evidence, registry.host.proven_wallet(node.id)


def no_disk() -> StoreError:
    return StoreError("nodes.db", "cannot be written: Input/output error")


def test_a_ban_stays_when_the_node_registers_while_its_removal_is_on_its_way(
    registry: NodeRegistry, path: Optional[Path]
) -> None:
    before = kept(registry)
    remove, register = (lambda: registry.deregister_node(A.id)), (lambda: registry.register_node(A))
    assert in_flight(registry, [remove, register]) == [True, A.id]
    assert kept(registry) == before
    assert in_flight(registry, [register, remove, register, remove, register]) == [A.id, True, A.id, True, A.id]
    assert kept(registry) == before
    registry.close()
    if path is not None:
        with NodeRegistry(path, clock=HandClock()) as again:
            assert kept(again) == before


def test_a_removal_that_fails_fails_what_was_decided_upon_it(registry: NodeRegistry) -> None:
    before, remove, register = kept(registry), lambda: registry.deregister_node(A.id), lambda: registry.register_node(A)
    error = no_disk()
    assert in_flight(registry, [remove, register, remove, register], error) == [error] * 4
    assert kept(registry) == before
    first = lambda: registry.update_node_reputation(B.id, True)  # noqa: E731 - the others then share a commit
    assert in_flight(registry, [first, remove, register], None, error, error)[1:] == [error] * 2
    assert kept(registry) == before
    assert in_flight(registry, [remove, register]) == [True, A.id]
    assert kept(registry) == before


def test_a_commit_that_raises_what_no_store_may_raise_leaves_nothing_half(registry: NodeRegistry) -> None:
    before = kept(registry)
    error = OSError(errno.EIO, "Input/output error")
    first, second = in_flight(
        registry, [lambda: registry.deregister_node(A.id), lambda: registry.register_node(A)], error
    )
    assert first is error
    assert isinstance(second, StoreError)
    assert kept(registry) == before
    registry.deregister_node(A.id)
    registry.register_node(A)
    assert kept(registry) == before


def test_a_change_that_does_not_build_on_the_one_that_failed_is_made(registry: NodeRegistry) -> None:
    registry.update_node_reputation(B.id, False)
    left = kept(registry, B)
    error = no_disk()
    assert in_flight(
        registry, [lambda: registry.deregister_node(A.id), lambda: registry.deregister_node(B.id)], error
    ) == [error, True]
    registry.register_node(B)
    assert kept(registry, B) == left


def test_a_refusal_stands_only_when_what_it_was_decided_upon_is_durable(registry: NodeRegistry) -> None:
    remove, ban = (lambda: registry.deregister_node(B.id)), (lambda: registry.admin.ban(B.id))
    error = no_disk()
    assert in_flight(registry, [remove, ban], error) == [error, error]
    assert registry.get_node(B.id) is not None
    removed, refused = in_flight(registry, [remove, ban])
    assert removed is True
    assert isinstance(refused, UnknownNodeError)


def test_a_batch_that_is_dropped_forgets_only_its_own(registry: NodeRegistry) -> None:
    before = kept(registry)

    def try_in_vain() -> None:
        with registry.batch():
            assert registry.get_node(A.id) is None  # it builds on the removal
            registry.register_node(A)
            registry.deregister_node(A.id)
            registry.register_node(A)
            raise ValidationError("the batch", "", "is dropped")

    remove, register = (lambda: registry.deregister_node(A.id)), (lambda: registry.register_node(A))
    assert in_flight(registry, [remove, try_in_vain, register])[::2] == [True, A.id]
    assert kept(registry) == before


def test_what_is_kept_of_a_removed_node_and_cannot_be_read_stays_in_a_batch_that_goes_on(
    tmp_path: Path,
) -> None:
    path = tmp_path / "nodes.db"
    with NodeRegistry(path) as registry:
        registry.register_node(A)
        registry.admin.ban(A.id)
        registry.deregister_node(A.id)
        with closing(sqlite3.connect(path, isolation_level=None)) as another:
            another.execute("UPDATE removed SET content = x'7b'")
        for _ in range(2):
            with registry.batch(), pytest.raises(DamagedStoreError, match=A.id):
                registry.register_node(A)


def test_a_host_decides_in_its_batch_by_what_is_on_its_way(registry: NodeRegistry) -> None:
    registry.host.register(B, interval_seconds=None, state={"generation": 7})

    def count() -> None:
        with registry.batch():
            state = registry.host.state(B.id) or {}
            registry.host.register(B, interval_seconds=None, state={"generation": state["generation"] + 1})

    in_flight(registry, [count] * 3)
    assert registry.host.state(B.id) == {"generation": 10}


def test_what_a_host_knows_in_its_batch_is_what_its_next_change_finds(registry: NodeRegistry) -> None:
    found: list[tuple[int, str, bool]] = []

    def note() -> None:
        known = registry.host.known(B.id)
        assert known is not None
        found.append((known.state["generation"], known.node.hostname, known.node.cordon is not None))

    def change(generation: int) -> None:
        with registry.batch():
            note()
            hostname = f"host-{generation}"
            registry.host.register(
                replace(B, hostname=hostname), interval_seconds=None, state={"generation": generation}
            )
            registry.admin.cordon(B.id, actor="a")
            note()

    registry.host.register(B, interval_seconds=None, state={"generation": 0})
    in_flight(registry, [lambda: change(1), lambda: change(2)])
    assert found == [
        (0, B.hostname, False),
        (1, "host-1", True),
        (1, "host-1", True),  # from the batch before it, which is not yet durable
        (2, "host-2", True),
    ]
    note()
    assert found[-1] == (2, "host-2", True)
    with registry.batch():
        assert registry.host.known("nobody") is None
        assert registry.deregister_node(B.id)
        assert registry.host.known(B.id) is None
    assert registry.host.known(B.id) is None


def test_a_batch_reads_a_record_once_and_another_batch_reads_it_again(
    registry: NodeRegistry, path: Optional[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    read, reads = registry._store.read, []

    def counting(node_id: str, *more: Any) -> Any:
        reads.append(node_id)
        return read(node_id, *more)

    monkeypatch.setattr(registry._store, "read", counting)
    for number in range(3):
        with registry.batch():
            assert registry.host.known(B.id) is not None
            assert registry.host.state(B.id) == {}
            registry.host.register(B, interval_seconds=10.0 + number, state={})
            assert registry.host.known(B.id) is not None
    assert reads == [B.id] * 3


def test_a_cordon_that_is_over_is_none_to_the_host_either(registry: NodeRegistry) -> None:
    clock = registry._clock
    assert isinstance(clock, HandClock)
    registry.admin.cordon(B.id, actor="a", until=clock.now() + timedelta(seconds=60))
    for seconds, is_cordoned in ((0, True), (61, False)):
        clock.move(seconds)
        with registry.batch():
            known, node = registry.host.known(B.id), registry.get_node(B.id)
            assert known is not None
            assert known.node == node
            assert (known.node.cordon is not None) == is_cordoned


def test_nobody_is_credited_with_hours_before_the_registration_is_visible() -> None:
    clock = HandClock()
    with NodeRegistry(clock=clock, heartbeat_timeout_seconds=60.0) as registry:
        registry.register_node(A)
        clock.move(5 * 3600)
        registry.tick()
        with registry.batch():
            registry.register_node(B)
            registry.update_node_reputation(B.id, True)
        assert "availability" not in registry.get_reputation(B.id).evidence
        in_flight(
            registry,
            [
                lambda: registry.deregister_node(A.id),
                lambda: registry.register_node(A),
                lambda: registry.update_node_reputation(A.id, True),
            ],
        )
        assert "availability" not in registry.get_reputation(A.id).evidence


def test_a_node_that_registers_while_the_file_is_read_anew_is_no_newcomer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "nodes.json"
    with NodeRegistry(path) as registry:
        registry.register_node(A)
        registry.admin.ban(A.id)
        path.write_text(path.read_text().replace("banned", "banned", 1) + "\n")
        reading, go_on, rows = threading.Event(), threading.Event(), registry._store.rows

        def slow_rows() -> Iterator[object]:
            reading.set()
            assert go_on.wait(10)
            yield from rows()

        monkeypatch.setattr(registry._store, "rows", slow_rows)
        loading = threading.Thread(target=registry.load)
        loading.start()
        assert reading.wait(10)
        # `tick` waits for the table, so the command is entered below it, where it decides.
        monkeypatch.setattr(registry._live_state, "catch_up", lambda: 0.0)
        registering = threading.Thread(target=registry.register_node, args=(A,))
        registering.start()
        registering.join(0.05)
        go_on.set()
        for thread in (loading, registering):
            thread.join(10)
            assert not thread.is_alive()
        assert registry.host.place(A.id) is not None
        assert registry.get_reputation(A.id).standing is Admission.BANNED


def tombstones(registry: NodeRegistry) -> list[StoredTombstone]:
    return sorted((replace(each, at=0.0) for each in registry._store.tombstones()), key=lambda each: each.key)


COMMANDS: dict[str, Callable[[NodeRegistry, Node], object]] = {
    "register": lambda registry, node: registry.register_node(node),
    "deregister": lambda registry, node: registry.deregister_node(node.id),
    "fail": lambda registry, node: registry.update_node_reputation(node.id, False, weight=5.0),
    "ban": lambda registry, node: registry.admin.ban(node.id),
    "probation": lambda registry, node: registry.admin.put_on_probation(node.id),
    "prove": lambda registry, node: registry.admin.attach_wallet(node.id, "s", verifier=AnyWallet()),
    "host": lambda registry, node: registry.host.register(node, interval_seconds=9.0, state={"generation": 1}).id,
}

STEPS = st.tuples(st.sampled_from(["register", "deregister", *COMMANDS]), st.sampled_from([A, B]))


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, min_size=2, max_size=10))
def test_in_flight_is_as_one_after_the_other(steps: list[tuple[str, Node]]) -> None:
    def call(registry: NodeRegistry, name: str, node: Node) -> object:
        try:
            return COMMANDS[name](registry, node)
        except RegistryError as error:
            return str(error)

    with NodeRegistry(clock=HandClock()) as calm, NodeRegistry(clock=HandClock()) as busy:
        for name in ("register", "prove", "fail"):
            for node in (A, B):
                call(calm, name, node)
                call(busy, name, node)
        expected = [call(calm, name, node) for name, node in steps]
        made = in_flight(busy, [lambda name=name, node=node: call(busy, name, node) for name, node in steps])  # type: ignore[misc]  # mypy does not infer defaults
        assert made == expected
        assert [kept(busy, node) for node in (A, B)] == [kept(calm, node) for node in (A, B)]
        assert tombstones(busy) == tombstones(calm)


def test_under_many_threads_no_ban_and_no_outcome_is_lost(path: Optional[Path]) -> None:
    counts: dict[str, list[int]] = {A.id: [], B.id: []}
    with NodeRegistry(path, clock=HandClock()) as registry, NodeRegistry(clock=HandClock()) as calm:

        def hammer(seed: int) -> None:
            draw = random.Random(seed)
            for _ in range(40):
                node = draw.choice([A, B])
                command = draw.choice(["register", "register", "deregister", "fail"])
                try:
                    COMMANDS[command](registry, node)
                except UnknownNodeError:
                    continue
                if command == "fail":
                    counts[node.id].append(1)

        for node in (A, B):
            registry.register_node(node)
            registry.admin.ban(node.id)
        threads = [threading.Thread(target=hammer, args=(seed,)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
        for node in (A, B):
            registry.register_node(node)
            calm.register_node(node)
            calm.admin.ban(node.id)
            for _ in counts[node.id]:
                COMMANDS["fail"](calm, node)
            assert kept(registry, node) == kept(calm, node)
