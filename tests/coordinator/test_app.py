"""The coordinator in somebody's own ASGI service, as docs/coordinator.md shows it, below a path of that service."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry_core.remote import RemoteOptions, RemoteRegistry
from tests.support.coordinators import Running
from tests.support.processes import duxnet, environment, until
from tests.system.coordinator.test_identity import own_node

PAGE = Path(__file__).parents[2] / "docs" / "coordinator.md"
HOST = """
import socket, uvicorn
from contextlib import suppress

class Service:
    '''Somebody's service: the coordinator below /registry, its own answer elsewhere.'''

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            await app(scope, receive, send)
        elif scope["path"].startswith("/registry/"):
            await app({**scope, "root_path": "/registry"}, receive, send)
        else:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"mine"})

listener = socket.create_server(("127.0.0.1", 0))
print(f"serving on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
uvicorn.Server(uvicorn.Config(Service(), log_level="warning")).run(sockets=[listener])
registry.close()
"""


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Running]:
    (shown,) = re.findall(r"```python\n(from pathlib.*?)```", PAGE.read_text(), re.DOTALL)
    script = tmp_path / "service.py"
    scaled = shown.replace("CoordinatorSettings()", "CoordinatorSettings(shortest_interval_seconds=0.5)")
    assert scaled != shown
    script.write_text(scaled + HOST)
    process = subprocess.Popen(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env=environment({"HOME": str(tmp_path)}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("serving on "), process.communicate()[1]
    service = Running(tmp_path / "state")
    service.address = f"{line.split()[-1]}/registry"
    yield service
    process.terminate()
    _, said = process.communicate(timeout=20)
    assert "Traceback" not in said, said


def test_a_node_joins_reports_and_is_found_below_the_host_s_path(mounted: Running, tmp_path: Path) -> None:
    folder = tmp_path / "node"
    with RemoteRegistry(mounted.address, state_dir=folder, options=RemoteOptions(interval_seconds=5.0)) as registry:
        node_id = registry.register_node(own_node(folder))
        health = registry.update_node_health(node_id, load_average=0.5, memory_usage=20.0)
        assert health.load_average == 0.5
        (found,) = registry.list_nodes(only_healthy=True)
        assert found.id == node_id
        assert registry.get_node("nobody") is None
        asked = duxnet("doctor", "--state-dir", folder, DUXNET_REGISTRY__TARGET=mounted.address)
        assert f"{mounted.address} answers" in asked.stdout
        registry.leave(node_id)
    assert mounted.call("GET", f"/v1/nodes/{node_id}")[2]["liveness"] == "left"
    outcome = mounted.call("POST", f"/v1/nodes/{node_id}/outcomes", {"success": True}, mounted.operator_token())
    assert outcome[0] == 200
    assert mounted.call("DELETE", f"/v1/nodes/{node_id}", token=mounted.operator_token())[0] == 204


def test_its_errors_have_the_shape_of_every_other_and_its_time_passes(mounted: Running) -> None:
    for method, path in (("GET", "/v1/nothing"), ("PUT", "/v1/nodes/x/heartbeat"), ("GET", "/v1/nodes/x")):
        status, headers, body = mounted.call(method, path, {} if method == "PUT" else None)
        assert headers["content-type"] == "application/problem+json"
        assert body["status"] == status
    assert mounted.call("GET", "/readyz")[0] == 503  # its lifespan runs: it is warming up, and then is not
    until(lambda: mounted.call("GET", "/readyz")[0] == 200, "ready")


def test_bounds_hold_below_the_host_s_path_too(mounted: Running) -> None:
    token = mounted.operator_token()
    body = b'{"node": {"id": "a", "ip_address": "127.0.0.1"}, "generation": 1, "success": true}'
    for method, path, status in (
        ("PUT", "/v1/nodes/a", 415),
        ("POST", "/v1/nodes/a/outcomes", 415),
        ("POST", "//v1/nodes/a/outcomes", 404),  # no other spelling of the one above
    ):
        answer = mounted.call(method, path, raw=body, token=token, headers={"Content-Type": "text/plain"})
        assert answer[0] == status, path
    assert mounted.call("GET", "/v1/count")[2] == {"count": 0}
