"""What durability costs beside bare sqlite3 with WAL and FULL, and how long a start takes. Catches: a commit that
does more than one flush, callers that do not share commits, a start that decodes records, a record read twice.

`python -m benchmarks.storage [NODES]`; the default, a million, takes some minutes and 2 GB of disk.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, Optional

from registry_core import Node, NodeCapabilities, NodeRegistry
from registry_core.models.columns import columns_of
from registry_core.models.record import NodeRecord
from registry_core.models.trusted import node_with
from registry_core.storage.maintenance.verify import verify
from registry_core.storage.packed_records import pack
from registry_core.storage.sealing import KeyRing
from registry_core.storage.sqlite.store import SqliteStore
from registry_core.storage.store import Put

KEY = bytes(range(32))
INJECTED_LATENCY_SECONDS = 0.002
CALLERS = 16

_START = """
import sys, time
from registry_core import NodeRegistry
import registry_core.storage.sqlite.store, registry_core.embedded.live_state
def resident():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) * 1024
before, start = resident(), time.perf_counter()
key = bytes(range(32)) if sys.argv[2] == "sealed" else None
registry = NodeRegistry(sys.argv[1], encryption_key=key)
count = registry.count_nodes()
print(time.perf_counter() - start, resident() - before, count)
registry.close()
"""


def nodes(count: int, seed: int) -> Iterator[Node]:
    """Ordinary nodes: random ids, a thousand wallets, one tag."""
    draw = random.Random(seed)
    for number in range(count):
        yield Node(
            f"10.{draw.randrange(256)}.{draw.randrange(256)}.{draw.randrange(256)}",
            id=str(uuid.UUID(int=draw.getrandbits(128))),
            wallet_address=f"wallet-{draw.randrange(1000)}",
            hostname=f"host-{number}.example.org",
            os_version="Debian GNU/Linux 12",
            tags={"zone": f"zone-{number % 10}"},
            capabilities=NodeCapabilities(
                cpu_cores=draw.choice([2, 4, 8, 16, 32, 64]),
                memory_gb=draw.choice([4.0, 16.0, 64.0, 256.0]),
                storage_gb=draw.choice([100.0, 500.0, 2000.0]),
            ),
        )


class BareSqlite:
    """The same bytes in a table with an index on the id, by sqlite3 alone."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=FULL")
        self._connection.execute("CREATE TABLE nodes (n INTEGER PRIMARY KEY, id TEXT UNIQUE, record BLOB)")

    def commit(self, rows: list[tuple[int, str, bytes]]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany("INSERT INTO nodes VALUES (?,?,?)", rows)
        self._connection.execute("COMMIT")

    def commit_each(self, rows: list[tuple[int, str, bytes]]) -> None:
        for row in rows:
            self.commit([row])

    def close(self) -> None:
        self._connection.close()


def one_thread(folder: Path, rounds: int, in_a_round: int) -> list[str]:
    """Durable registrations one by one, by turns with bare inserts of the same records."""
    bare = BareSqlite(folder / "bare.db")
    plain, sealed = NodeRegistry(folder / "one.db"), NodeRegistry(folder / "one-sealed.db", encryption_key=KEY)
    ratios: dict[str, list[float]] = {"plain": [], "sealed": []}
    rates: list[float] = []
    for round_number in range(rounds):
        some = list(nodes(in_a_round, round_number))
        rows = [(round_number * in_a_round + n, node.id, pack(NodeRecord(node, n))) for n, node in enumerate(some)]
        baseline = seconds(lambda: bare.commit_each(rows))  # noqa: B023 - run at once
        for name, registry in (("plain", plain), ("sealed", sealed)):
            took = seconds(lambda: register_all(registry, some))  # noqa: B023 - run at once
            ratios[name].append(baseline / took)
        rates.append(in_a_round / baseline)
    for closing in (bare, plain, sealed):
        closing.close()
    said = ", ".join(f"{name} {statistics.median(found):.0%}" for name, found in ratios.items())
    return [f"one thread: {said} of bare sqlite3 ({statistics.median(rates):,.0f} commits/s)"]


def batched(folder: Path, count: int, in_a_batch: int) -> list[str]:
    """Registrations in batches, beside one bare transaction for as many rows."""
    bare = BareSqlite(folder / "bare-batched.db")
    plain, sealed = NodeRegistry(folder / "batched.db"), NodeRegistry(folder / "batched-sealed.db", encryption_key=KEY)
    spent: dict[str, float] = {"bare": 0.0, "plain": 0.0, "sealed": 0.0}
    for number in range(count // in_a_batch):
        some = list(nodes(in_a_batch, 1000 + number))
        rows = [(number * in_a_batch + n, node.id, pack(NodeRecord(node, n))) for n, node in enumerate(some)]
        spent["bare"] += seconds(lambda: bare.commit(rows))  # noqa: B023 - run at once
        for name, registry in (("plain", plain), ("sealed", sealed)):
            spent[name] += seconds(lambda: register_batch(registry, some))  # noqa: B023 - run at once
    for closing in (bare, plain, sealed):
        closing.close()
    rates = ", ".join(f"{name} {count / took:,.0f}/s" for name, took in spent.items())
    return [f"batches of {in_a_batch:,}: {rates}"]


def register_batch(registry: NodeRegistry, some: list[Node]) -> None:
    with registry.batch():
        for node in some:
            registry.register_node(node)


def many_callers(folder: Path, each: int) -> list[str]:
    """Sixteen threads: commits for each operation, and the gain where a commit takes 2 ms more."""
    path = folder / "callers.db"
    with NodeRegistry(path) as registry:
        took = seconds(lambda: run_callers(registry, CALLERS, each, 2000))
    commits = verify(path).last_commit or 0
    lines = [
        f"{CALLERS} callers: {commits / (CALLERS * each):.3f} commits an operation, {CALLERS * each / took:,.0f}/s"
    ]
    rates = {}
    for callers in (1, CALLERS):
        with NodeRegistry(folder / f"slow-{callers}.db") as registry:
            slow_down(vars(registry)["_store"])
            took = seconds(lambda: run_callers(registry, callers, 60, 3000))  # noqa: B023 - run at once
            rates[callers] = callers * 60 / took
    lines.append(f"with 2 ms more in each commit: {CALLERS} callers {rates[CALLERS] / rates[1]:.1f} × one thread")
    return lines


def slow_down(store: Any) -> None:
    """A slower disk: each commit takes 2 ms more."""
    commit = store.commit

    def slow(*arguments: Any) -> None:
        time.sleep(INJECTED_LATENCY_SECONDS)
        commit(*arguments)

    store.commit = slow


def run_callers(registry: NodeRegistry, callers: int, each: int, seed: int) -> None:
    work = [list(nodes(each, seed + caller)) for caller in range(callers)]
    threads = [
        threading.Thread(target=lambda some=some: [registry.register_node(node) for node in some]) for some in work
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def register_all(registry: NodeRegistry, some: list[Node]) -> None:
    for node in some:
        registry.register_node(node)


def reads_and_starts(folder: Path, count: int) -> list[str]:
    """A file of `count` nodes: reading a record from it, and opening it in a new process."""
    lines = []
    for name, keys in (("plain", None), ("sealed", KeyRing.of(KEY))):
        path = folder / f"many-{name}.db"
        ids = fill(path, count, keys)
        store = SqliteStore(path, keys=keys)
        chosen = random.Random(3).sample(ids, 5000)
        reading = [seconds(lambda: store.read(node_id)) for node_id in chosen]  # noqa: B023 - run at once
        store.close()
        del ids
        found = [start(path, name) for _ in range(3)]
        took, resident = min(item[0] for item in found), min(item[1] for item in found)
        lines.append(
            f"{count:,} nodes {name}: ready after {took:.1f} s, {resident / count:.0f} B resident a node, "
            f"{path.stat().st_size / count:.0f} B on disk a node, "
            f"a record read in {statistics.median(reading) * 1e6:.0f} µs"
        )
    return lines


def start(path: Path, name: str) -> tuple[float, float]:
    """Seconds and resident bytes of an opening in a process of its own."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", _START, str(path), name]
    words = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.split()
    return float(words[0]), float(words[1])


def fill(path: Path, count: int, keys: Optional[KeyRing]) -> list[str]:
    """Write a file of `count` nodes by the store alone, and return the ids."""
    store, ids = SqliteStore(path, keys=keys), []
    puts: list[Put] = []
    for number, node in enumerate(nodes(count, 7), start=1):
        record = NodeRecord(node_with(node, reputation=(number % 501) / 100), number)
        puts.append(Put(record, columns_of(record)))
        ids.append(node.id)
        if len(puts) == 20_000 or number == count:
            store.commit(puts, {"next_sequence": str(number + 1)})
            puts.clear()
    store.close()
    return ids


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main(say: Callable[[str], None] = print) -> None:
    """Print the figures; the disk measured is the one of $TMPDIR."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    folder = Path(tempfile.mkdtemp(prefix="duxnet-storage-"))
    try:
        measurements: list[Callable[[], list[str]]] = [
            lambda: one_thread(folder, rounds=7, in_a_round=400),
            lambda: batched(folder, count=60_000, in_a_batch=5_000),
            lambda: many_callers(folder, each=200),
            lambda: reads_and_starts(folder, count),
        ]
        for measurement in measurements:
            for line in measurement():
                say(line)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
