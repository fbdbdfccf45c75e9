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
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from benchmarks.served import Prepared, wrk
from duxnet.coordinator.admission.pipeline import RegistrationRequest
from duxnet.coordinator.app import open_coordinator
from duxnet.coordinator.settings import CoordinatorSettings
from registry_core.embedded.node_registry import NodeRegistry
from registry_core.identity.keys import public_key_text, raw_public_key
from registry_core.identity.signatures import SignatureParameters, SignedRequest, sign_request
from registry_core.models.ids import node_id_of_key
from registry_core.models.node import Node

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
    key: Ed25519PublicKey
    signature: bytes
    node: Node

    def request(self) -> RegistrationRequest:
        """As a carrier passes it on."""
        headers = [(name.encode(), value.encode()) for name, value in self.headers.items()]
        return RegistrationRequest(self.node.id, self.path.encode(), b"", headers, self.body, "127.0.0.1")


def measure_registrations(rounds: int) -> None:
    """Against verifying as many signatures and committing them in shares of 32 on one core (target ≥ 0.70)."""
    found = []
    for _ in range(rounds):  # each into an empty registry
        with tempfile.TemporaryDirectory() as folder:
            found.append(_round(Prepared(Path(folder), 100)))
    taken, bound, refused = (statistics.median(each) for each in zip(*found))
    shares = sorted(taken / bound for taken, bound, _ in found)
    print(
        f"  registrations: {taken:,.0f}/s; verification and shared commits alone: {bound:,.0f}/s; "
        f"{statistics.median(shares):.2f} ({shares[0]:.2f} to {shares[-1]:.2f})"
    )
    steps = _steps()
    told = ", ".join(f"{name} {microseconds:.0f}" for name, microseconds in steps.items())
    print(f"    processor time of one: {1e6 / taken:.0f} µs; refused unread {1e6 / refused:.0f}; without HTTP: {told}")


def _round(prepared: Prepared) -> tuple[float, float, float]:
    """Registrations taken, the bound, and registrations refused for their content type, each a second of one core."""
    nodes = _signed(COUNT, prepared.coordinator)
    path = prepared.folder / "requests"
    with path.open("w") as lines:
        for node in nodes:
            names = ("content-digest", "duxnet-audience", "signature-input", "signature")
            lines.write("\t".join([node.path, *(node.headers[name] for name in names), node.body.decode()]) + "\n")
    bound = _bound(prepared.folder / "bound.db", nodes)
    with prepared.served(8613, registrations_at_once=256) as server:
        begun = server.cpu_seconds()
        script = prepared.script(REGISTRATIONS, requests=path, content_type="application/json")
        wrk(server.address, script, 4, connections=64)
        taken = server.metric("duxnet_registrations_total") / (server.cpu_seconds() - begun)
        script = prepared.script(REGISTRATIONS, requests=path, content_type="text/plain")
        refused = server.per_core(script, 2, connections=64)["rate"]
    return taken, bound, refused


def _signed(count: int, coordinator_id: str) -> list[Signed]:
    now, signed = int(time.time()), []
    for number in range(count):
        key = Ed25519PrivateKey.generate()
        public, node_id = public_key_text(key.public_key()), node_id_of_key(raw_public_key(key.public_key()))
        plain = {"ip_address": "10.0.0.1", "id": node_id, "public_key": public, "hostname": f"node-{number}"}
        body = msgspec.json.encode({"node": plain, "generation": 1, "interval_seconds": 15.0})
        path = f"/v1/nodes/{node_id}"
        request = SignedRequest("PUT", path, "", "application/json", coordinator_id, body)
        headers = sign_request(request, SignatureParameters(now, now + 300, f"{number}", public), key)
        headers["content-type"] = "application/json"
        node = Node("10.0.0.1", id=node_id, hostname=f"node-{number}", public_key=public)
        signed.append(Signed(path, headers, body, key.public_key(), key.sign(body), node))
    return signed


def _groups(nodes: list[Signed]) -> Iterator[list[Signed]]:
    return (nodes[start : start + TOGETHER] for start in range(0, len(nodes), TOGETHER))


def _bound(path: Path, nodes: list[Signed]) -> float:
    with NodeRegistry(path) as registry:
        begun = time.process_time()
        for group in _groups(nodes):
            for each in group:
                each.key.verify(each.signature, each.body)
            with registry.batch():
                for each in group:
                    registry.register_node(each.node)
        return len(nodes) / (time.process_time() - begun)


def _steps(count: int = 4_000) -> dict[str, float]:
    """Microseconds of processor time for each step of one registration, without HTTP, as the committing thread goes."""
    spent = dict.fromkeys(("read", "prove", "keep and commit", "seal"), 0.0)

    @contextmanager
    def timed(name: str) -> Iterator[None]:
        begun = time.thread_time()
        yield
        spent[name] += 1e6 * (time.thread_time() - begun) / count

    with tempfile.TemporaryDirectory() as folder:
        coordinator = open_coordinator(CoordinatorSettings(state_dir=folder))
        read, prove, keep = coordinator.admission.steps()
        for group in _groups(_signed(count, coordinator.identity.id)):
            requests = [each.request() for each in group]
            with timed("read"):
                said = [read((request, "127.0.0.1")) for request in requests]
            with timed("prove"):
                said = [prove(each) for each in said]
            with timed("keep and commit"), coordinator.audit.commit(), coordinator.registry.batch():
                taken = [keep(each) for each in said]
                coordinator.audit.write_noted()
            with timed("seal"):
                coordinator.admission.seal(taken)
        coordinator.close()
    return spent
