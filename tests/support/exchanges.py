"""Recorded exchanges between a node and a coordinator: a node's whole life in one file for each protocol.

`python -m tests.support.exchanges FILE` records them with the client and the coordinator of this checkout. A file is
written once, when its protocol is new, and never again: `test_golden` shows that a coordinator of today still takes
what that node sent, and answers what that node expects.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from duxnet.coordinator.app import app_of, open_coordinator
from duxnet.coordinator.settings import CoordinatorSettings
from registry_core.identity.identity_files import ensure_identity
from registry_core.identity.keys import private_key_pem
from registry_core.models.node import Node
from registry_core.remote import RemoteOptions, RemoteRegistry

GOLDEN = Path(__file__).parents[1] / "wire" / "golden"
NOW = 1_900_000_000
KEY = bytes(range(1, 33))
"""The coordinator's secret key: what it signs and seals at one instant is the same in every run."""

Plain = dict[str, Any]


@contextmanager
def a_coordinator(state_dir: Path) -> Iterator[Any]:
    """The ASGI application of a coordinator with the recorded key, at the recorded time."""
    key_file = state_dir / "coordinator.key"
    state_dir.mkdir(parents=True, exist_ok=True)
    key_file.write_bytes(private_key_pem(Ed25519PrivateKey.from_private_bytes(KEY)))
    key_file.chmod(0o600)
    with mock.patch.object(time, "time", return_value=float(NOW)):
        coordinator = open_coordinator(CoordinatorSettings(state_dir=str(state_dir)))
        try:
            yield app_of(coordinator)
        finally:
            coordinator.close()


def answer_of(app: Any, request: Plain) -> Plain:
    """The answer to a request, both as they stand in a file."""
    parts = urlsplit(request["path"])
    body = request["body"].encode("utf-8")
    headers = [
        (b"host", b"127.0.0.1"),
        *((name.encode("ascii"), value.encode("latin-1")) for name, value in request["headers"].items()),
    ]
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": request["method"],
        "scheme": "http",
        "path": parts.path,
        "raw_path": parts.path.encode("ascii"),
        "query_string": parts.query.encode("ascii"),
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8410),
    }
    sent: list[Plain] = []

    async def receive() -> Plain:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Plain) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    named = {name.decode("ascii"): value.decode("latin-1") for name, value in sent[0]["headers"]}
    return {
        "status": sent[0]["status"],
        "headers": named,
        "body": b"".join(message.get("body", b"") for message in sent[1:]).decode("utf-8"),
    }


class _Recorder(httpx.BaseTransport):
    def __init__(self, app: Any) -> None:
        self._app = app
        self.exchanges: list[Plain] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        kept = ("content-type", "content-digest", "signature", "signature-input", "authorization", "duxnet-audience")
        made = {
            "method": request.method,
            "path": request.url.raw_path.decode("ascii"),
            "headers": {name: request.headers[name] for name in kept if name in request.headers},
            "body": request.read().decode("utf-8"),
        }
        answer = answer_of(self._app, made)
        self.exchanges.append({"request": made, "answer": answer})
        return httpx.Response(answer["status"], headers=answer["headers"], content=answer["body"].encode("utf-8"))


def record() -> Plain:
    """A node's life: it registers, reports, changes, comes back from an old backup and with a wrong clock, leaves."""
    with tempfile.TemporaryDirectory() as folder, a_coordinator(Path(folder) / "coordinator") as app:
        place = Path(folder) / "node"
        identity = ensure_identity(place)
        node = Node("192.0.2.7", id=identity.id, public_key=identity.public_key, hostname="first")
        recorder = _Recorder(app)
        options = RemoteOptions(machine_hint="machine-1", boot_id="boot-1")
        with RemoteRegistry("http://127.0.0.1:8410", state_dir=place, options=options, transport=recorder) as remote:
            _set_clock(remote, NOW)
            remote.register_node(node)
            backup = (place / "remote.json").read_bytes()
            remote.update_node_health(node.id, 0.5, 20.0, 30.0)
            remote.update_node_health(node.id, 0.6, 21.0, 31.0)
            remote.register_node(Node("192.0.2.7", id=node.id, public_key=node.public_key, hostname="second"))
        (place / "remote.json").write_bytes(backup)
        with RemoteRegistry("http://127.0.0.1:8410", state_dir=place, options=options, transport=recorder) as remote:
            _set_clock(remote, NOW)
            remote.register_node(node)
            _set_clock(remote, NOW - 86_400)
            remote.register_node(node)
            remote.leave(node.id)
            remote.deregister_node(node.id)
            last = recorder.exchanges[-3]["request"]
        copied = {**last, "body": last["body"].replace("first", "other")}
        recorder.exchanges.append({"request": copied, "answer": answer_of(app, copied)})
        recorder.exchanges.append({"request": last, "answer": answer_of(app, last)})  # replayed after the removal
    return {"now": NOW, "coordinator_key": base64.b64encode(KEY).decode("ascii"), "exchanges": recorder.exchanges}


def _set_clock(remote: RemoteRegistry, now: int) -> None:
    assert remote._registrar is not None
    remote._registrar._wall = lambda: float(now)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(record(), indent=1, ensure_ascii=False) + "\n")
