"""What a page of nodes costs a client: catches a decoder that goes the slow way, through constructors, for usual nodes.

Beside the slow way itself (`node_from_plain` of what msgspec decoded), which a page must not fall back to, and beside
msgspec decoding the page into plain maps, which is the least that it can cost.
"""

from __future__ import annotations

import time
from datetime import datetime, timezone
from typing import Any, Callable

import httpx
import msgspec

from registry_core import Gpu, Node, NodeCapabilities, NodeHealth, NodeQuery
from registry_core.models.encoding import node_from_plain, node_to_plain
from registry_core.remote import RemoteRegistry
from registry_core.wire.nodes import decode_node

__all__ = ["main"]

Say = Callable[[str], None]
NODES = 20
TARGET_MICROSECONDS = 300


class _Page(msgspec.Struct):
    nodes: list[msgspec.Raw]


def a_node(number: int) -> Node:
    """A worker as a probe describes it."""
    at = datetime(2026, 1, 31, 12, tzinfo=timezone.utc)
    offer = NodeCapabilities(
        16,
        67.4,
        1890.5,
        gpus=(Gpu("NVIDIA", "NVIDIA H100 80GB HBM3", 85.9, f"GPU-{number}", "550.54.14"),),
        cpu_quota=15.5,
        host_cpus=32,
        physical_cores=16,
        cpu_model="AMD EPYC 9354 32-Core Processor",
        architecture="x86_64",
        kernel="6.1.0-18-amd64",
    )
    return Node(
        f"10.0.0.{number}",
        f"0x{number:040x}",
        offer,
        f"worker-{number}",
        addresses=(f"10.0.0.{number}", f"2001:db8::{number:x}"),
        port=8443,
        hostname=f"worker-{number}.example",
        os_version="Debian GNU/Linux 12 (bookworm)",
        agent_version="0.1.0",
        tags={"zone": "eu-1", "rack": str(number), "team": "ml"},
        health=NodeHealth(1.5, 40.0, 50.0, at),
        reputation=3.42,
        registered_at=at,
    )


def main(say: Say = print) -> None:
    """Measure a page of 20."""
    page = {"nodes": [node_to_plain(a_node(number)) for number in range(1, NODES + 1)], "next": None}
    body = msgspec.json.encode(page)

    def quickly() -> object:
        return [decode_node(bytes(text)) for text in msgspec.json.decode(body, type=_Page).nodes]

    def slowly() -> object:
        return [node_from_plain(plain) for plain in msgspec.json.decode(body)["nodes"]]

    transport = httpx.MockTransport(lambda _request: httpx.Response(200, content=body))
    query = NodeQuery(limit=NODES)
    with RemoteRegistry("http://127.0.0.1:1", transport=transport) as registry:
        whole = _microseconds(lambda: registry.find_nodes(query))
    ours, slow, plain = _microseconds(quickly), _microseconds(slowly), _microseconds(lambda: msgspec.json.decode(body))
    say(f"  a page of {NODES} ({len(body) / 1024:.1f} KiB): {ours:.0f} µs (target {TARGET_MICROSECONDS})")
    say(f"  by constructors {slow:.0f} µs = {slow / ours:.1f} ×; plain maps only {plain:.0f} µs = {plain / ours:.2f} ×")
    say(f"  a whole find_nodes, httpx with a transport that answers at once: {whole:.0f} µs")


def _microseconds(work: Callable[[], Any], times: int = 300) -> float:
    """Processor time of a call: the fastest of some rounds, which another process disturbs least."""
    best = float("inf")
    for _ in range(5):
        started = time.thread_time()
        for _ in range(times // 5):
            work()
        best = min(best, (time.thread_time() - started) / (times // 5) * 1e6)
    return best


if __name__ == "__main__":
    main()
