"""What the registry costs: catches a query that scans, a heartbeat that touches the disk or grows with the number of
nodes, a table that fattens, a start that decodes records. Beside the baselines of `benchmarks.baselines`.

`python -m benchmarks registry [SIZE…]`, by default 10,000, 100,000 and 1,000,000 nodes.
"""

from __future__ import annotations

import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Callable, NamedTuple

from benchmarks.baselines import CoveringIndex, Demand, ScannedObjects, ScannedRecords
from registry_core import Admission, Node, NodeCapabilities, NodeQuery, NodeRegistry
from registry_core.embedded.node_cache import NodeCache
from registry_core.models.columns import columns_of
from registry_core.models.record import NodeRecord
from registry_core.models.trusted import node_with
from registry_core.storage.sqlite.store import SqliteStore
from registry_core.storage.store import Put
from registry_core.table.select import select

SIZES = (10_000, 100_000, 1_000_000)
TEN_SCORES = (0.25, 1.12, 2.19, 3.03, 3.42, 3.81, 4.11, 4.5, 4.71, 4.97)
Say = Callable[[str], None]
Row = tuple[str, int, float, float, float, bool]


class Fleet(NamedTuple):
    """The nodes that all are asked about."""

    rows: list[Row]
    path: Path


def rows(count: int) -> Iterator[Row]:
    """Half of all nodes share ten scores. One in ten is not ready."""
    chance = random.Random(7)
    for number in range(count):
        score = chance.choice(TEN_SCORES) if chance.random() < 0.5 else chance.randint(25, 500) / 100
        yield (
            f"{chance.getrandbits(64):016x}-{number:019d}",
            chance.choice((1, 2, 2, 4, 4, 4, 8, 8, 8, 16, 16, 32, 48, 64, 96, 128)),
            chance.choice((1, 2, 4, 8, 16.6, 16.8, 33.1, 67.4, 135.0, 270.0, 540.0)) * chance.uniform(0.95, 1.0),
            chance.choice((20, 50, 100, 250, 500, 1000, 2000, 4000, 16000)) * chance.uniform(0.9, 1.0),
            score,
            chance.random() < 0.9,
        )


def fill(path: Path, fleet: list[Row]) -> float:
    """Write the fleet as an SQLite registry; returns seconds."""
    store = SqliteStore(path)
    started = time.perf_counter()
    for first in range(0, len(fleet), 20_000):
        store.commit([put(number + first, row) for number, row in enumerate(fleet[first : first + 20_000], 1)], {})
    seconds = time.perf_counter() - started
    store.commit([], {"event_index": "0", "next_sequence": str(len(fleet) + 1)})
    store.close()
    return seconds


def put(sequence: int, row: Row) -> Put:
    """The change that keeps one node of the fleet; one that is not ready is suspended."""
    node_id, cpu_cores, memory_gb, storage_gb, score, ready = row
    node = Node(
        f"10.{sequence >> 16 & 255}.{sequence >> 8 & 255}.{sequence & 255}",
        f"0x{sequence:040x}",
        NodeCapabilities(cpu_cores, memory_gb, storage_gb, host_cpus=cpu_cores),
        node_id,
        hostname=f"node-{sequence}.example",
    )
    record = NodeRecord(
        node_with(node, reputation=score, admission=Admission.PROBATION if ready else Admission.SUSPENDED), sequence
    )
    return Put(record, columns_of(record))


def demands(count: int) -> list[Demand]:
    """Different questions, as a scheduler asks them."""
    chance = random.Random(11)
    return [
        Demand(
            chance.choice((1, 2, 4, 6, 8, 16)),
            chance.choice((1.0, 4.0, 8.0, 12.0, 16.0, 32.0, chance.uniform(1, 64))),
            chance.choice((10.0, 100.0, 250.0, 300.0, chance.uniform(10, 2000))),
            chance.choice((0.0, 1.0, 3.0, 3.03, 4.0)),
        )
        for _ in range(count)
    ]


RARE = [Demand(64, 512.0, 14_500.0 + number, 3.5) for number in range(200)]  # about one node in ten thousand


def query_of(demand: Demand) -> NodeQuery:
    """The same question to the registry."""
    offer = NodeCapabilities(demand.cpu_cores, demand.memory_gb, demand.storage_gb)
    return NodeQuery(demand.min_reputation, True, offer, limit=demand.limit)


class Costs(NamedTuple):
    """Of each call: microseconds by the clock on the wall, and of processor time."""

    wall: list[float]
    processor: list[float]


def microseconds(work: Callable[[int], object], times: int, before: Callable[[], object] = int) -> Costs:
    """What each call costs; the argument is the number of the call. `before` runs outside of what is measured."""
    wall, processor = time.perf_counter, time.thread_time
    found = Costs([], [])
    for number in range(times):
        before()
        started, used = wall(), processor()
        work(number)
        found.processor.append((processor() - used) * 1e6)
        found.wall.append((wall() - started) * 1e6)
    return found


def told(costs: Costs) -> str:
    """Median and 99th percentile; of processor time too, which says what a busy machine adds to the first."""
    said = []
    for name, values in zip(("", ", processor "), costs):
        ordered = sorted(values)
        last = ordered[len(ordered) * 99 // 100 - 1]
        said.append(f"{name}median {statistics.median(ordered):9.1f} µs  p99 {last:9.1f} µs")
    return "".join(said)


def measure_queries(say: Say, registry: NodeRegistry, fleet: list[Row]) -> None:
    """Top 20, ids and records, easy and rare; beside the scan and the covering index."""
    live_state = registry._live_state  # noqa: SLF001 - ids without records are no call of the interface
    table = live_state._table  # noqa: SLF001 - the same

    def forget() -> None:
        live_state._node_cache = NodeCache(table)  # noqa: SLF001 - as after a start

    for name, asked in (("1,000 different queries", demands(1000)), ("200 rare ones (0.01 %)", RARE)):
        queries = [query_of(demand) for demand in asked]
        select(table, queries[0], None, 20)

        def ids_of(number: int, queries: list[NodeQuery] = queries) -> object:
            return select(table, queries[number], None, 20)

        def nodes_of(number: int, queries: list[NodeQuery] = queries) -> object:
            return registry.find_nodes(queries[number])

        ids = microseconds(ids_of, len(queries))
        say(f"  {name}: ids            {told(ids)}")
        microseconds(nodes_of, len(queries))
        say(f"  {name}: records cached {told(microseconds(nodes_of, len(queries)))}")
        say(f"  {name}: records cold   {told(microseconds(nodes_of, 200, forget))}")
        for baseline, times in ((CoveringIndex(fleet), 50), (ScannedObjects(fleet), 5)):
            costs = microseconds(lambda number: baseline.ids(asked[number]), times)  # noqa: B023 - called here
            ratio = statistics.median(costs.processor) / statistics.median(ids.processor)
            say(f"  {name}: {type(baseline).__name__:14} {told(costs)}  = {ratio:,.1f} × ids")


def measure_under_heartbeats(say: Say, registry: NodeRegistry, fleet: list[Row]) -> None:
    """The same queries while another thread delivers 2,000 heartbeats a second."""
    stop = threading.Event()
    ids = [row[0] for row in fleet]

    def beat() -> None:
        chance = random.Random(3)
        due = time.perf_counter()
        while not stop.is_set():
            for _ in range(20):
                registry.update_node_health(chance.choice(ids), 0.5, 40.0, 50.0)
            due += 0.01
            time.sleep(max(0.0, due - time.perf_counter()))

    beating = threading.Thread(target=beat)
    beating.start()
    queries = [query_of(demand) for demand in demands(1000)]
    costs = microseconds(lambda number: registry.find_nodes(queries[number]), len(queries), lambda: time.sleep(0.0005))
    stop.set()
    beating.join()
    say(f"  under 2,000 heartbeats/s   {told(costs)}")


def measure_single_calls(say: Say, registry: NodeRegistry, fleet: list[Row]) -> None:
    """`get_node` and `update_node_health`, ids in random order, each a fresh string; beside a bare dict."""
    chance = random.Random(5)
    wanted = [chance.choice(fleet)[0] for _ in range(20_000)]
    say(f"  get_node from SQLite       {told(microseconds(lambda number: registry.get_node(wanted[number]), 5000))}")
    hot = wanted[:2000]
    for node_id in hot:
        registry.get_node(node_id)
    say(f"  get_node unchanged         {told(microseconds(lambda number: registry.get_node(hot[number]), 2000))}")
    for node_id in hot:
        registry.update_node_health(node_id, 0.5, 40.0, 50.0)
    say(f"  get_node after a heartbeat {told(microseconds(lambda number: registry.get_node(hot[number]), 2000))}")
    order = [row[0] for row in fleet]
    chance.shuffle(order)
    known = {node_id: number for number, node_id in enumerate(order)}
    order = (order * (200_000 // len(order) + 1))[:200_000]
    fresh = [(node_id + "x")[:-1] for node_id in order]
    looked_up = _processor_seconds(lambda: [known[node_id] for node_id in fresh])
    update = registry.update_node_health
    for node_id in order:  # a first report changes conditions, which is not what a heartbeat usually does
        update(node_id, 0.4, 39.0, 50.0)
    fresh = [(node_id + "x")[:-1] for node_id in order]
    started = time.perf_counter()
    seconds = _processor_seconds(lambda: [update(node_id, 0.5, 40.0, 50.0) for node_id in fresh])
    wall = time.perf_counter() - started
    each = seconds / len(fresh) * 1e6
    say(
        f"  update_node_health         {len(fresh) / seconds:,.0f} a second of processor time = {each:.2f} µs "
        f"({wall / len(fresh) * 1e6:.2f} µs by the clock); bare dict {looked_up / len(fresh) * 1e6:.2f} µs"
    )


def _processor_seconds(work: Callable[[], object]) -> float:
    started = time.thread_time()
    work()
    return time.thread_time() - started


def measure_unlimited(say: Say) -> None:
    """Everything listed at 10,000 nodes, when every node's health has just changed."""
    registry = NodeRegistry()
    with registry.batch():
        for sequence, row in enumerate(rows(10_000), 1):
            registry.register_node(put(sequence, row).record.node)
    baseline = ScannedRecords(list(registry.list_nodes()))
    ratios = []
    for turn in range(7):
        for node in registry.list_nodes():
            registry.update_node_health(node.id, 0.1, 40.0 + turn, 50.0)
        scan = min(_processor_seconds(lambda: baseline.listed(0.25)) for _ in range(2))
        ratios.append((_processor_seconds(lambda: registry.list_nodes(0.25, only_healthy=True)), scan))
    ours, scan = (statistics.median(column) for column in zip(*ratios))
    say(f"  10,000 nodes, all changed: {ours * 1e3:.1f} ms; scan and sort of ready-made records {scan * 1e3:.1f} ms")
    say(f"  = {ours / scan:.2f} × the scan (target 2)")


_OPENER = """
import sys, time, resource
from pathlib import Path
import registry_core.storage.sqlite.store, registry_core.table.index
from registry_core import NodeRegistry
def resident():
    fields = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) * 1024
before, started, used = resident(), time.perf_counter(), time.process_time()
registry = NodeRegistry(sys.argv[1])
count = registry.count_nodes()
seconds, used = time.perf_counter() - started, time.process_time() - used
registry.list_nodes(limit=20)
print(seconds, used, (resident() - before) / count)
"""


def measure_start(say: Say, path: Path) -> None:
    """A process that opens the registry: until it answers, and what it then holds."""
    shown = subprocess.run([sys.executable, "-c", _OPENER, str(path)], capture_output=True, text=True, check=True)
    seconds, used, size = map(float, shown.stdout.split())
    say(f"  ready after {seconds:.1f} s ({used:.1f} s of processor time), {size:.0f} bytes a node resident")


def main(say: Say = print, sizes: tuple[int, ...] = ()) -> None:
    """Run all; sizes from the command line or `SIZES`."""
    sizes = sizes or tuple(int(size) for size in sys.argv[1:]) or SIZES
    with tempfile.TemporaryDirectory(prefix="duxnet-bench-") as name:
        folder = Path(name)
        measure_unlimited(say)
        for size in sizes:
            fleet = list(rows(size))
            path = folder / f"{size}.db"
            say(f"{size:,} nodes (written at {size / fill(path, fleet):,.0f}/s)")
            measure_start(say, path)
            with NodeRegistry(path) as registry:
                measure_queries(say, registry, fleet)
                measure_under_heartbeats(say, registry, fleet)
                measure_single_calls(say, registry, fleet)


if __name__ == "__main__":
    main()
