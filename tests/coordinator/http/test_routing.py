"""The table of routes: what lies where, that its description is true, and that reads answer alike by every way."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from duxnet.coordinator.app import app_of, open_coordinator
from duxnet.coordinator.coordinator import Coordinator
from duxnet.coordinator.front import Dispatcher
from duxnet.coordinator.http.openapi import NodeView, openapi_document
from duxnet.coordinator.http.routing import Route, Router
from duxnet.coordinator.routes.table import route_table
from duxnet.coordinator.settings import CoordinatorSettings
from registry_core.models.encoding import node_to_plain
from registry_core.models.node import Node
from tests.coordinator.server.test_connection import _answer
from tests.support.coordinators import Running
from tests.support.processes import until
from tests.system.coordinator.test_identity import Signer


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(tmp_path_factory.mktemp("routes") / "state") as coordinator:
        for number in range(120):
            body = {"node": {"id": f"n{number}", "ip_address": "192.0.2.1", "hostname": "h" * 60}, "generation": 1}
            assert coordinator.call("PUT", f"/v1/nodes/n{number}", body, coordinator.operator_token())[0] == 200
        yield coordinator
        assert "Traceback" not in coordinator.output()


@pytest.fixture
def coordinator(tmp_path: Path) -> Iterator[Coordinator]:
    opened = open_coordinator(CoordinatorSettings(state_dir=str(tmp_path)))
    yield opened
    opened.close()


def table_of(coordinator: Coordinator) -> list[Route]:
    app = app_of(coordinator)
    return route_table(app.heartbeats, app.registrations)


def nothing() -> None:
    """A handler."""


def test_a_path_is_taken_as_it_is_documented() -> None:
    found = Router([Route(*row, nothing, "") for row in (("GET", "/a/{x}/b"), ("PUT", "/a/{x}"), ("GET", "/a/c/b"))])
    for path, parts, methods in (
        ("/a/1/b", {"x": "1"}, {"GET"}),
        ("/a/ü %/b", {"x": "ü %"}, {"GET"}),
        ("/a/1", {"x": "1"}, {"PUT"}),
        ("/a/c/b", {}, {"GET"}),
    ):
        match = found.find(path)
        assert match is not None, path
        assert (dict(match.parts), set(match.by_method)) == (parts, methods)
    for path in ("", "/", "a/1", "/a", "/a/", "/a//b", "//a/1", "/a/1/", "/a/1/b/", "/a/1/b/c", "/a/1/c", "/b/1"):
        assert found.find(path) is None, path


def test_two_rows_for_one_place_are_refused() -> None:
    rows = [Route("GET", "/a/{x}", nothing, ""), Route("GET", "/a/{x}", nothing, "")]
    with pytest.raises(ValueError, match="twice"):
        Router(rows)


def test_a_handler_s_parts_are_those_of_its_path_and_only_reads_are_made_at_once(coordinator: Coordinator) -> None:
    for row in table_of(coordinator):
        in_path = set(re.findall(r"{(\w+)}", row.path))
        if not row.is_asgi:
            assert row.parameters - {"request", "coordinator", "caller", "query", "body"} == in_path, row.path
        assert row.waits or row.method == "GET", row.path


def test_what_is_said_of_a_body_is_true_and_its_example_is_one(coordinator: Coordinator) -> None:
    for row in table_of(coordinator):
        assert (row.body is not None) == (row.example is not None), row.path
        if row.body is not None:
            msgspec.convert(row.example, row.body)


def test_the_document_refers_to_what_it_holds_and_names_each_operation_once(coordinator: Coordinator) -> None:
    document = openapi_document(table_of(coordinator))
    text = json.dumps(document)
    for reference in set(re.findall(r'"\$ref": "#/([^"]+)"', text)):
        place: Any = document
        for step in reference.split("/"):
            place = place[step]
        assert place
    operations = [operation for item in document["paths"].values() for operation in item.values()]
    assert len(operations) == 20
    assert len({operation["operationId"] for operation in operations}) == 20
    assert all(operation["description"] and operation["tags"] for operation in operations)
    secured = {operation["operationId"] for operation in operations if operation.get("security") == [{"token": []}]}
    assert secured == {"report_outcome", "change_admission", "cordon", "uncordon", "attach_wallet"}


def test_the_shape_of_a_node_is_what_is_written_of_one(coordinator: Coordinator) -> None:
    written = node_to_plain(Node("192.0.2.1", id="a"))
    assert set(NodeView.__struct_fields__) == {*written, "extra", "last_gap"}
    schemas = openapi_document(table_of(coordinator))["components"]["schemas"]
    for name, part in (("NodeCapabilities", "capabilities"), ("NodeHealth", "health")):
        assert set(schemas[name]["properties"]) == set(schemas[name]["required"]) == set(written[part]), name
    assert set(written) - set(schemas["NodeView"]["required"]) == {"ip_address", "addresses"}


def speak(running: Running, *requests: bytes) -> list[tuple[int, dict[str, str], bytes]]:
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as connection:
        connection.sendall(b"".join(requests))
        stream = connection.makefile("rb")
        return [_answer(stream) for _ in requests]


def get(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/v1/nodes?limit=3", (), 200),
        ("/v1/nodes?limit=1000", (), 200),  # longer than what is written at once
        ("/v1/nodes?limit=3&min_uptime_probability=0.0001", (), 200),  # answered by another thread
        ("/v1/nodes?limit=3&tag=a%3Db", (), 200),
        ("/v1/nodes?limit=0", (), 422),
        ("/v1/nodes?wrong=0", (), 422),
        ("/v1/nodes?limit=3", ("Authorization: Bearer dux_wrong",), 401),
        ("/v1/count", (), 200),
        ("/v1/count", ("If-None-Match: *",), 304),
        ("/v1/nodes/n1", (), 200),
        ("/v1/nodes/n1/reputation", (), 200),
        ("/v1/nodes/n1/explain?min_cpu_cores=9", (), 200),
        ("/v1/nodes/nobody", (), 404),
        ("/v1/coordinator", (), 200),
        ("/openapi.json", (), 200),
        ("/", (), 200),
    ],
)
def test_a_read_is_answered_alike_at_once_and_by_asgi(
    running: Running, path: str, headers: tuple[str, ...], status: int
) -> None:
    # A body, even an empty one, makes it unusual; what waits for an earlier answer goes that way too.
    waiting = get("/v1/events?wait_seconds=0.1")
    (at_once,) = speak(running, get(path, *headers))
    (unusual,) = speak(running, get(path, *headers, "Content-Length: 0"))
    behind = speak(running, waiting, get(path, *headers))[1]
    assert at_once == unusual == behind
    assert at_once[0] == status
    assert ("etag" in at_once[1]) == (status in (200, 304) and path.startswith("/v1/"))


def test_reads_on_one_connection_come_in_order_and_it_ends_when_that_is_asked(running: Running) -> None:
    paths = ("/v1/count", "/v1/nodes?limit=1000", "/v1/coordinator", "/nope", "/v1/nodes/n5")
    answers = speak(running, *(get(path) for path in paths))
    assert [answer[0] for answer in answers] == [200, 200, 200, 404, 200]
    assert len(json.loads(answers[1][2])["nodes"]) == 120
    for request in (get("/v1/count", "Connection: close"), get("/v1/count").replace(b"HTTP/1.1", b"HTTP/1.0")):
        with socket.create_connection(("127.0.0.1", running.port), timeout=10) as connection:
            connection.sendall(request)
            said = b""
            while chunk := connection.recv(4096):
                said += chunk
        assert b"connection: close" in said.lower()
        assert said.endswith(b'{"count":120}')


def test_a_tag_changes_with_the_list_and_with_who_asks(running: Running) -> None:
    def tag(path: str, token: str = "") -> str:
        return str(running.call("GET", path, token=token)[1]["etag"])

    first = tag("/v1/nodes?limit=3")
    assert first == tag("/v1/nodes?limit=3")
    assert len({first, tag("/v1/nodes?limit=4"), tag("/v1/nodes?limit=3", running.operator_token())}) == 3
    assert running.call("GET", "/v1/nodes?limit=3", headers={"If-None-Match": first})[0] == 304
    operator = running.operator_token()
    assert running.call("PUT", "/v1/nodes/n0/cordon", {"reason": "a"}, operator)[0] == 200
    assert tag("/v1/nodes?limit=3") != first
    for method in ("PUT", "DELETE"):  # a change is never "not modified"
        body = {"reason": "b"} if method == "PUT" else None
        answer = running.call(method, "/v1/nodes/n0/cordon", body, operator, headers={"If-None-Match": "*"})
        assert answer[0] == 200


def test_methods_that_are_not_there_are_answered_with_those_that_are(running: Running) -> None:
    for path, allowed in (
        ("/v1/nodes", "GET, HEAD, OPTIONS"),
        ("/v1/nodes/a", "DELETE, GET, HEAD, OPTIONS, PUT"),
        ("/v1/nodes/a/heartbeat", "OPTIONS, PUT"),
    ):
        status, headers, _ = running.call("OPTIONS", path)
        assert (status, headers["allow"]) == (204, allowed)
        status, headers, problem = running.call("PATCH", path, {})
        assert (status, headers["allow"]) == (405, allowed)
        assert problem["type"] == "urn:duxnet:problem:method-not-allowed"
    assert running.call("OPTIONS", "/nope")[0] == 404


def test_who_may_not_do_it_learns_nothing_about_the_body(running: Running) -> None:
    for body in (b"{}", b"nonsense", b'{"admission": "approved"}'):
        assert running.call("PUT", "/v1/nodes/n1/admission", raw=body)[0] == 401
        assert running.call("PUT", "/v1/nodes/n1/admission", raw=body, token="dux_wrong")[0] == 401


def test_a_follower_that_goes_is_forgotten(tmp_path: Path) -> None:
    coordinator = open_coordinator(CoordinatorSettings(state_dir=str(tmp_path)))
    app = app_of(coordinator)

    async def follow() -> None:
        scope = {
            "type": "http",
            "method": "GET",
            "scheme": "http",
            "path": "/v1/events",
            "query_string": b"",
            "headers": [(b"host", b"localhost"), (b"accept", b"text/event-stream")],
            "client": ("127.0.0.1", 1),
        }
        gone, sent = asyncio.Event(), []

        async def receive() -> dict[str, Any]:
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        following = asyncio.ensure_future(app(scope, receive, send))
        while len(sent) < 2:
            await asyncio.sleep(0)
        assert sent[1]["body"] == b"retry: 3000\n\n"
        assert coordinator.followers == 1
        gone.set()
        await asyncio.wait_for(following, 5)
        assert coordinator.followers == 0

    try:
        asyncio.run(follow())
    finally:
        coordinator.close()


def test_followers_that_hang_up_are_forgotten_by_the_server_too(running: Running) -> None:
    start = running.call("GET", "/v1/events")[2]["last"]
    for _ in range(3):
        request = urllib.request.Request(f"{running.address}/v1/events", headers={"Accept": "text/event-stream"})
        with urllib.request.urlopen(request, timeout=10) as stream:
            assert stream.readline() == b"retry: 3000\n"
    Signer(running).register()
    until(lambda: running.call("GET", f"/v1/events?since={start}")[2]["events"], "it goes on")


def test_a_start_that_fails_says_so_to_the_server(coordinator: Coordinator) -> None:
    class Fails:
        async def __aenter__(self) -> None:
            raise OSError("no")

        async def __aexit__(self, *_: object) -> None:
            raise AssertionError("it never began")

    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "lifespan.startup"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def live() -> None:
        with suppress(OSError):
            await Dispatcher(coordinator, Fails)({"type": "lifespan"}, receive, send)

    asyncio.run(live())
    assert sent == [{"type": "lifespan.startup.failed", "message": "no"}]


def test_handlers_read_what_they_name(coordinator: Coordinator) -> None:
    for row in table_of(coordinator):
        if not row.is_asgi:
            assert set(inspect.signature(row.handler).parameters) == row.parameters
