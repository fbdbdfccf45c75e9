"""Every route × every kind of token × every field and parameter of ours × odd values, against a real coordinator.

Whatever is sent: no failure of the server, a problem for each refusal, nothing done without the right, and no node that
can write what is the registry's.
"""

from __future__ import annotations

import http.client
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry_core.models.node import Node, NodeCapabilities
from registry_core.models.reputation import Evidence
from registry_core.wire import shapes
from registry_core.wire.problems import KINDS
from tests.coordinator.http.test_openapi import CHECKS
from tests.support.coordinators import Running
from tests.support.processes import duxnet, until
from tests.system.coordinator.test_identity import Signer

pytestmark = [pytest.mark.fuzz, pytest.mark.timeout(110)]

ROLES = ("join", "reader", "rater", "operator")
TOKENS = ("none", *ROLES, "revoked", "session", "stranger's", "odd")
OPERATE = {("PUT", "admission"), ("PUT", "cordon"), ("DELETE", "cordon"), ("PUT", "wallet-proof")}
STORED = [
    *(
        "sequence",
        "evidence",
        "interval_seconds",
        "host_state",
        "history",
        "unknown",
        "wallet_proof",
        "score",
        "standing",
    ),
    *(
        "verified",
        "last_gap",
        "admission",
        "admission_reason",
        "liveness",
        "last_heartbeat",
        "registered_at",
        "cordoned",
    ),
    *("extra", "health", "reputation", "generation"),
]
SHAPES = [each for each in vars(shapes).values() if isinstance(each, type) and issubclass(each, msgspec.Struct)]
OURS = sorted(
    {name for shape in SHAPES for name in shape.__struct_fields__}
    | {name for record in (Node, NodeCapabilities, Evidence) for name in record.__annotations__}
    | set(STORED)
)

ODD_TEXTS = [
    *("", " ", "\x00", "\x1b[2J\x1b]0;owned\x07", "\r\nX-Injected: 1", "\u202e", "\u200b", "\ufeff", "\U000e0041"),
    *(
        "é" * 300,
        "a" * 70_000,
        "../../etc/passwd",
        "%00",
        "%2e%2e%2f",
        "\ud7ff",
        "' OR 1=1 --",
        "{{7*7}}",
        "NaN",
        "1e999",
    ),
    *("-1", "null", "169.254.169.254", "::ffff:127.0.0.1", "0x7f.1", "1970-01-01T00:00:00Z", "9999-12-31T23:59:60Z"),
]
ODD_NUMBERS = [0, -1, 1, 2**31, 2**53, 2**63, 2**64, 10**400, -(2**63), 1e308, 5e-324, -0.0]

texts = st.one_of(st.sampled_from(ODD_TEXTS), st.text(max_size=40), st.sampled_from(OURS))
leaves = st.one_of(texts, st.sampled_from(ODD_NUMBERS), st.integers(), st.floats(), st.booleans(), st.none())
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.one_of(st.sampled_from(OURS), texts), inner, max_size=4)
    ),
    max_leaves=8,
)
bodies = st.dictionaries(st.one_of(st.sampled_from(OURS), texts), values, max_size=6)
bounded = settings(max_examples=1, suppress_health_check=list(HealthCheck))


class Target:
    """A coordinator, its routes, a token of each kind, and a node of ours that nothing may change."""

    def __init__(self, running: Running) -> None:
        self.running = running
        self.signer = Signer(running)
        status, _, reply = self.signer.register()
        assert status == 200
        self.node_id = self.signer.node_id
        operator = running.operator_token()
        self.tokens = {"none": "", "operator": operator, "session": reply["session"], "odd": "x"}
        for role in ("join", "reader", "rater"):
            self.tokens[role] = self._new_token(role)
        self.tokens["revoked"] = self._new_token("operator")
        assert duxnet("token", "revoke", 5, "--state-dir", running.state_dir).returncode == 0
        self.tokens["stranger's"] = "dux_operator_" + "x" * 43
        document = running.call("GET", "/openapi.json")[2]
        self.routes = [
            (method.upper(), path, [each["name"] for each in found.get("parameters", ()) if each["in"] == "query"])
            for path, item in document["paths"].items()
            for method, found in item.items()
        ]
        self.connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=15)

    def _new_token(self, role: str) -> str:
        done = duxnet("token", "create", role, "--state-dir", self.running.state_dir)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def send(self, method: str, path: str, body: bytes, token: str, media_type: str) -> tuple[int, Any, bytes]:
        headers = {"Content-Type": media_type}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        for _attempt in range(2):  # a refusal may close the connection
            try:
                self.connection.request(method, path, body or None, headers)
                answer = self.connection.getresponse()
                return answer.status, answer.headers, answer.read()
            except (http.client.HTTPException, ConnectionError):
                self.connection.close()
        raise AssertionError(f"no answer to {method} {path!a}")


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with Running(tmp_path_factory.mktemp("fuzz") / "state", shortest_interval_seconds=900.0) as running:
        target = Target(running)
        yield target
        target.connection.close()
        assert running.call("GET", "/healthz")[0] == 200  # whatever was sent
        output = running.output()
        assert "Traceback" not in output
        assert output.replace("\n", "").isprintable()


def check(target: Target, method: str, path: str, status: int, headers: Any, content: bytes) -> None:
    assert status < 500 or (status == 503 and headers["Retry-After"]), (method, path, status, content[:300])
    assert headers["X-Content-Type-Options"] == "nosniff", (method, path)
    assert "X-Injected" not in headers
    if status >= 400:
        assert headers["Content-Type"] == "application/problem+json", (method, path, status)
        problem = json.loads(content)
        assert problem["status"] == status
        assert str(problem["type"]).rpartition(":")[2] in KINDS
        assert len(content) < 20_000
    if "json" in (headers["Content-Type"] or ""):
        json.loads(content)
        assert not any(byte < 0x20 and byte not in b"\n\t" for byte in content)


@settings(bounded, max_examples=700)
@given(data=st.data())
def test_no_request_makes_it_fail_or_does_what_its_token_may_not(target: Target, data: st.DataObject) -> None:
    method, template, parameters = data.draw(st.sampled_from(target.routes))
    kind = data.draw(st.sampled_from(TOKENS))
    node = data.draw(st.one_of(st.just(target.node_id), st.just("nobody"), texts.filter(bool)))
    path = template.replace("{node_id}", quote(node[:300], safe="", errors="replace"))
    query = data.draw(st.lists(st.tuples(st.sampled_from([*parameters, *OURS]), texts), max_size=3))
    query = [(name, value[:200]) for name, value in query if name != "wait_seconds"]
    if query:
        path += "?" + urlencode(query, errors="replace")
    body = data.draw(st.one_of(bodies.map(encoded), values.map(encoded), st.binary(max_size=60)))
    if method == "GET":
        body = b""
    media_type = data.draw(st.sampled_from(["application/json"] * 9 + ["text/plain"]))
    if kind == "operator" and node == target.node_id and method != "GET":
        kind = "reader"  # the node of ours is to stay as it is
    if kind == "session" and template.endswith(("/leave", "{node_id}")) and method != "GET":
        kind = "rater"
    status, headers, content = target.send(method, path, body, target.tokens[kind], media_type)
    check(target, method, path, status, headers, content)
    if kind != "operator" and (method, template.rpartition("/")[2]) in OPERATE:
        assert status in (400, 401, 403, 413, 415), (method, path, kind, status, content[:300])
    if kind in ("none", "revoked", "stranger's", "odd") and method != "GET":
        assert status >= 400, (method, path, kind, content[:300])
    if kind in ("revoked", "stranger's", "odd") and method != "GET" and status not in (400, 413, 415, 404):
        assert status in (401, 403, 422), (method, path, kind, status)


def encoded(value: object) -> bytes:
    """As JSON, with what JSON has no word for (NaN), and lone surrogates."""
    return json.dumps(value).encode("utf-8", "surrogatepass")


@settings(bounded, max_examples=300)
@given(
    fields=st.dictionaries(st.one_of(st.sampled_from(OURS), texts), values, min_size=1, max_size=5),
    seed=st.integers(0, 2**32),
)
def test_no_node_writes_what_is_the_registrys(target: Target, fields: dict[str, Any], seed: int) -> None:
    """Signed by its own key, so that only the check of each field stands between it and the record."""
    signer = Signer(target.running, target.signer.coordinator)
    said = {name: value for name, value in fields.items() if name not in ("id", "public_key")}
    try:
        body = signer.body(random.Random(seed).choice([1, 2, 7]), node=said)
    except (TypeError, ValueError, UnicodeEncodeError, msgspec.MsgspecError):  # what JSON cannot carry
        return
    status, headers, answer = signer.send(body, signer.headers(body))
    assert status in (200, 201, 413, 422), (status, answer)
    if status >= 400:
        assert headers["content-type"] == "application/problem+json"
        return
    status, _, shown = target.running.call("GET", f"/v1/nodes/{signer.node_id}")
    assert status == 200, shown
    assert shown["admission"] == "probation"
    assert shown["id"] == signer.node_id
    assert shown["registered_at"] > "2020"
    for name in said:
        assert name in PLAIN or name not in shown or name in STORED, name
    status, _, judged = target.running.call("GET", f"/v1/nodes/{signer.node_id}/reputation")
    assert status == 200
    assert judged["standing"] == "probation"
    fresh = target.running.call("GET", f"/v1/nodes/{target.node_id}/reputation")[2]
    ignored = {"node_id", "first_seen", "last_task", "as_of"}
    assert {name: value for name, value in judged.items() if name not in ignored and "expected" not in name} == {
        name: value for name, value in fresh.items() if name not in ignored and "expected" not in name
    }


PLAIN = {*Node.__annotations__, *NodeCapabilities.__annotations__}


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """Of its own, past the time in which a coordinator that has just started answers 503."""
    with Running(tmp_path_factory.mktemp("ready") / "state", shortest_interval_seconds=0.05) as running:
        until(lambda: running.call("GET", "/readyz")[0] == 200, "ready")
        target = Target(running)
        yield target
        target.connection.close()
        assert "Traceback" not in running.output()


@pytest.mark.parametrize("kind", ["none", "rater", "operator"])
def test_schemathesis_finds_nothing(ready: Target, kind: str, tmp_path: Path) -> None:
    pytest.importorskip("schemathesis")
    address = ready.running.address
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{address}/openapi.json", "--seed", "7"]
    command += ["--url", address, "--checks", CHECKS, "--max-examples", "4", "--phases", "fuzzing", "--no-color"]
    command += ["--suppress-health-check", "all", "--request-timeout", "10", "--exclude-path", "/v1/events"]
    if ready.tokens[kind]:
        command += ["--header", f"Authorization: Bearer {ready.tokens[kind]}"]
    found = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert found.returncode == 0, found.stdout[found.stdout.find("= FAILURES =") :][:4000]
