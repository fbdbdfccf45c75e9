"""What a registration costs a coordinator, whole and step by step, beside what its signature and its commit cost alone.

Catches: work that creeps into the path that every node of a network takes when it comes back.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from benchmarks.served import Prepared, wrk
from duxnet.coordinator.admission.decision import RegistrationRequest
from duxnet.coordinator.app import open_coordinator
from duxnet.coordinator.settings import CoordinatorSettings
from registry_core.embedded.node_registry import NodeRegistry
from registry_core.identity.keys import public_key_text, raw_public_key
from registry_core.identity.signatures import SignatureParameters, SignedRequest, sign_request
from registry_core.models.ids import node_id_of_key
from registry_core.models.node import Node
from registry_core.wire.shapes import PROTOCOL

__all__ = ["measure_registrations"]

COUNT = 20_000
TOGETHER = 32
"""Half of the 64 connections: the others' answers are on their way meanwhile."""

REGISTRATIONS = """
local requests, n = {}, 0
for line in io.lines("%(requests)s") do requests[#requests + 1] = line end
function request()
  n = n + 1
  local path, digest, audience, input, signature, body = requests[(n - 1) %% #requests + 1]:match(
    "^(.-)\\t(.-)\\t(.-)\\t(.-)\\t(.-)\\t(.*)$")
  return wrk.format("PUT", path, {["Content-Type"] = "%(content_type)s", ["Content-Digest"] = digest,
    ["Duxnet-Audience"] = audience, ["Signature-Input"] = input, ["Signature"] = signature}, body)
end
"""


class Signed(NamedTuple):
    """A node that registers: its request, and another signature to measure verifying by."""

    path: str
    headers: dict[str, str]
    body: bytes
    key: Ed25519PrivateKey
    signature: bytes
    node: Node

    def request(self) -> RegistrationRequest:
        """As the route passes it on."""
        return RegistrationRequest(self.node.id, self.path, "", self.headers, self.body, "127.0.0.1")


class Round(NamedTuple):
    """Registrations of new nodes, of known ones, the bound, and refused ones, each a second of one core."""

    new: float
    known: float
    bound: float
    refused: float


def measure_registrations(rounds: int) -> None:
    """Against verifying as many signatures and committing them in shares of 32 on one core (target ≥ 0.70)."""
    found = []
    for _ in range(rounds):  # each into an empty registry
        with tempfile.TemporaryDirectory() as folder:
            found.append(_round(Prepared(Path(folder), 100)))
    new, known, bound, refused = (statistics.median(each) for each in zip(*found))
    shares = sorted(each.new / each.bound for each in found)
    print(
        f"  registrations: {new:,.0f}/s; verification and shared commits alone: {bound:,.0f}/s; "
        f"{statistics.median(shares):.2f} ({shares[0]:.2f} to {shares[-1]:.2f})"
    )
    steps = _steps()
    told = ", ".join(f"{name} {microseconds:.0f}" for name, microseconds in steps.items())
    print(
        f"    processor time of a new node's: {1e6 / new:.0f} µs, of a known node's: {1e6 / known:.0f}; "
        f"refused unread {1e6 / refused:.0f}; without HTTP: {told}"
    )


def _round(prepared: Prepared) -> Round:
    nodes = _signed(COUNT, prepared.coordinator)
    bound = _bound(prepared.folder / "bound.db", nodes)
    first, second = (prepared.folder / name for name in ("first", "second"))
    _write_requests(first, nodes)
    with prepared.served(8613, registrations_at_once=256) as server:

        def taken_per_core(path: Path, seconds: float) -> float:
            begun, before = server.cpu_seconds(), server.metric("duxnet_registrations_total")
            script = prepared.script(REGISTRATIONS, requests=path, content_type="application/json")
            wrk(server.address, script, seconds, connections=64)
            return (server.metric("duxnet_registrations_total") - before) / (server.cpu_seconds() - begun)

        new = taken_per_core(first, 4)
        registered = int(server.metric("duxnet_registrations_total"))
        _write_requests(second, _signed_again(nodes[: registered - 64], prepared.coordinator))  # all of them are known
        known = taken_per_core(second, 2)
        script = prepared.script(REGISTRATIONS, requests=first, content_type="text/plain")
        refused = server.per_core(script, 2, connections=64)["rate"]
    return Round(new, known, bound, refused)


def _write_requests(path: Path, nodes: list[Signed]) -> None:
    names = ("content-digest", "duxnet-audience", "signature-input", "signature")
    with path.open("w") as lines:
        for node in nodes:
            lines.write("\t".join([node.path, *(node.headers[name] for name in names), node.body.decode()]) + "\n")


def _signed(count: int, coordinator_id: str) -> list[Signed]:
    signed = []
    for number in range(count):
        key = Ed25519PrivateKey.generate()
        public, node_id = public_key_text(key.public_key()), node_id_of_key(raw_public_key(key.public_key()))
        node = Node("10.0.0.1", id=node_id, hostname=f"node-{number}", public_key=public)
        signed.append(_signed_one(node, key, 1, coordinator_id))
    return signed


def _signed_again(nodes: list[Signed], coordinator_id: str) -> list[Signed]:
    return [_signed_one(each.node, each.key, 2, coordinator_id) for each in nodes]


def _signed_one(node: Node, key: Ed25519PrivateKey, generation: int, coordinator_id: str) -> Signed:
    now = int(time.time())
    plain = {"ip_address": "10.0.0.1", "id": node.id, "public_key": node.public_key, "hostname": node.hostname}
    said = {"node": plain, "generation": generation, "interval_seconds": 15.0, "protocol": PROTOCOL}
    body, path = msgspec.json.encode(said), f"/v1/nodes/{node.id}"
    request = SignedRequest("PUT", path, "", "application/json", coordinator_id, body)
    headers = sign_request(request, SignatureParameters(now, now + 300, node.hostname, node.public_key), key)
    headers["content-type"] = "application/json"
    return Signed(path, headers, body, key, key.sign(body), node)


def _groups(nodes: list[Signed]) -> Iterator[list[Signed]]:
    return (nodes[start : start + TOGETHER] for start in range(0, len(nodes), TOGETHER))


def _bound(path: Path, nodes: list[Signed]) -> float:
    with NodeRegistry(path) as registry:
        begun = time.process_time()
        for group in _groups(nodes):
            for each in group:
                each.key.public_key().verify(each.signature, each.body)
            with registry.batch():
                for each in group:
                    registry.register_node(each.node)
        return len(nodes) / (time.process_time() - begun)


def _steps(count: int = 4_000) -> dict[str, float]:
    """Microseconds of processor time for each step of one registration, without HTTP, as the committing thread goes."""
    spent = dict.fromkeys(("prepare", "keep, sign and commit"), 0.0)

    @contextmanager
    def timed(name: str) -> Iterator[None]:
        begun = time.thread_time()
        yield
        spent[name] += 1e6 * (time.thread_time() - begun) / count

    with tempfile.TemporaryDirectory() as folder:
        coordinator = open_coordinator(CoordinatorSettings(state_dir=folder))
        for group in _groups(_signed(count, coordinator.identity.id)):
            requests = [each.request() for each in group]
            with timed("prepare"):
                changes = [coordinator.admission.prepare(request) for request in requests]
            with timed("keep, sign and commit"), coordinator.audit.commit(), coordinator.registry.batch():
                for change in changes:
                    change()
                coordinator.audit.write_noted()
        coordinator.close()
    return spent
