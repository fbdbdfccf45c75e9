"""What a coordinator on a hostile network must survive: against a real process, over real sockets."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from registry_core.embedded.node_registry import NodeRegistry
from registry_core.models.node import Node
from tests.support.coordinators import Running
from tests.support.processes import until
from tests.support.requirements import need_program
from tests.system.coordinator.test_admission import REQUEST
from tests.system.coordinator.test_identity import Signer, kind

pytestmark = pytest.mark.xdist_group("timing")  # what it measures bears no other measurement beside it


HELD = b"GET /v1/events?wait_seconds=%d HTTP/1.1\r\nHost: localhost\r\n\r\n"
"""A request whose answer comes so many seconds later."""
SHORT = b"GET /v1/count HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(tmp_path_factory.mktemp("hostile") / "state", registrations_at_once=8) as coordinator:
        yield coordinator
        assert coordinator.call("GET", "/healthz")[0] == 200  # whatever was done to it, it answers
        assert "Traceback" not in coordinator.output()
        assert "\x1b" not in coordinator.output()


def spoken(running: Running, *parts: bytes, seconds: float = 8.0) -> bytes:
    """Send bytes as they are and return all that comes until the other side closes."""
    with socket.create_connection(("127.0.0.1", running.port), timeout=seconds) as connection:
        try:
            for part in parts:
                connection.sendall(part)
        except (BrokenPipeError, ConnectionResetError):
            pass
        answer = b""
        try:
            while chunk := connection.recv(65536):
                answer += chunk
        except (ConnectionResetError, socket.timeout):
            pass
        return answer


def problem(answer: bytes) -> tuple[int, str]:
    """The status and kind of a raw answer, which must be a problem."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head, answer[:300]
    told = json.loads(body)
    return int(head.split()[1]), str(told["type"]).rpartition(":")[2]


def resident_mib(running: Running) -> float:
    assert running.process is not None
    text = Path(f"/proc/{running.process.pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+)", text)[0]) / 1024


def test_what_cannot_be_read_fills_no_log(running: Running) -> None:
    before = running.output()
    for nonsense in (b"\x16\x03\x01", b"GET / HTTP/9\r\n\r\n", b"PUT / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"):
        for _ in range(5):
            assert problem(spoken(running, nonsense)) == (400, "malformed")
    websocket = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n"
    assert b" 200 " in spoken(running, websocket, seconds=1.0)
    assert running.output() == before


def test_a_body_of_a_gigabyte_is_refused_before_it_is_read(running: Running) -> None:
    for path, method in (("/v1/nodes/a", b"PUT"), ("/v1/nodes/a/heartbeat", b"PUT"), ("/v1/nodes/a/outcomes", b"POST")):
        head = b"%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n" % (
            method,
            path.encode(),
        )
        declared = head + b"Content-Length: 1000000000\r\n\r\n"
        before = resident_mib(running)
        answer = spoken(running, declared, *[b"x" * 65536] * 40)
        assert problem(answer) == (413, "too-large"), path
        chunked = head + b"Transfer-Encoding: chunked\r\n\r\n"
        answer = spoken(running, chunked, *[b"10000\r\n" + b"x" * 65536 + b"\r\n"] * 40)
        assert problem(answer) == (413, "too-large"), path
        assert resident_mib(running) < before + 32


@pytest.mark.parametrize(
    "body",
    [b"[" * 60_000, b'{"node":' * 8_000, b"{" * 4_000, b'{"node":{"a":"\xff"}}', b"\x00", b"", b"nul"],
    ids=["lists", "maps", "braces", "not UTF-8", "NUL", "nothing", "half a word"],
)
def test_deep_or_broken_json_is_a_problem_and_no_failure(running: Running, body: bytes) -> None:
    signer = Signer(running)
    answer = signer.send(body, signer.headers(body))
    assert answer[0] in (400, 413, 422), answer
    assert kind(answer) in ("malformed", "invalid", "too-large")
    if b"\xff" in body:  # in a heartbeat that field is unknown, hence not looked at
        return
    session = signer.register()[2]["session"]
    answer = running.call("PUT", f"/v1/nodes/{signer.node_id}/heartbeat", raw=body[:4000], token=session)
    assert kind(answer) in ("malformed", "invalid")


def test_deep_json_inside_a_node_is_refused_with_its_limit(running: Running) -> None:
    signer = Signer(running)
    deep: Any = 1
    for _ in range(400):
        deep = [deep]
    body = signer.body(node={"extra_of_mine": deep})
    assert signer.send(body, signer.headers(body))[0] in (200, 422)
    body = signer.body(node={"extra_of_mine": "x" * 20_000})
    assert kind(signer.send(body, signer.headers(body))) == "invalid"


def test_floods_of_headers_are_cut_off(running: Running) -> None:
    many = b"".join(b"x-%d: y\r\n" % number for number in range(200))
    for flood in (
        b"GET / HTTP/1.1\r\n" + many + b"\r\n",
        b"GET / HTTP/1.1\r\nx: " + b"y" * 20_000 + b"\r\n\r\n",
        b"GET /" + b"y" * 20_000 + b" HTTP/1.1\r\n\r\n",
    ):
        assert problem(spoken(running, flood)) == (431, "headers-too-large")
    endless = spoken(running, b"GET / HTTP/1.1\r\nx: ", *[b"y" * 10_000] * 200)
    assert not endless or problem(endless) == (431, "headers-too-large")


@pytest.mark.parametrize("path", ["/v1/nodes/a/heartbeat", "/v1/nodes/a"])
def test_trailers_are_cut_off_as_headers_are(running: Running, path: str) -> None:
    begun = (
        f"PUT {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
        "2\r\n{}\r\n0\r\n"
    )
    for line in (b"y" * 65536, b"\r\nx: " + b"y" * 65536):
        with socket.create_connection(("127.0.0.1", running.port), timeout=8) as connection:
            connection.sendall(begun.encode() + b"x: ")
            with pytest.raises((BrokenPipeError, ConnectionResetError)):
                connection.sendall(line * 400)  # far more than the system's buffers hold


def test_a_trailer_is_no_header(running: Running) -> None:
    head = "PUT /v1/nodes/a HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
    bearer = f"Authorization: Bearer {running.operator_token()}\r\n"
    body = b'{"node": {"id": "a", "ip_address": "127.0.0.1"}, "generation": 1}'
    request = f"{head}Transfer-Encoding: chunked\r\n\r\n{len(body):x}\r\n{body.decode()}\r\n0\r\n{bearer}\r\n"
    assert problem(spoken(running, request.encode()))[0] == 401


def test_what_is_not_http_is_told_so(running: Running) -> None:
    tls = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 10
    for noise in (tls, b"SSH-2.0-x\r\n\r\n", b"GET\r\n\r\n", b"\x00" * 500):
        assert problem(spoken(running, noise)) == (400, "malformed")
    doubled = b"PUT /v1/nodes/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello"
    assert problem(spoken(running, doubled))[0] == 400
    smuggled = doubled[: doubled.rindex(b"Content")] + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    assert problem(spoken(running, smuggled))[0] in (400, 415)


def test_requests_that_wait_for_others_are_few(running: Running) -> None:
    before, rows = resident_mib(running), SHORT * 6000
    with ExitStack() as held:
        for _ in range(10):
            connection = held.enter_context(socket.create_connection(("127.0.0.1", running.port), timeout=8))
            connection.setblocking(False)
            with suppress(BlockingIOError):
                connection.send(HELD % 20 + rows)
        assert resident_mib(running) < before + 30
        assert running.call("GET", "/healthz")[0] == 200
        assert resident_mib(running) < before + 30
    few = spoken(running, SHORT * 30 + SHORT.replace(b"Host", b"Connection: close\r\nHost"))
    assert few.count(b"HTTP/1.1 200 OK") == 31


def test_other_content_types_are_refused(running: Running) -> None:
    forms = ("text/plain", "application/x-www-form-urlencoded", "application/xml")
    for content_type in (*forms, "", "application/json; charset=utf-16"):
        for path in ("/v1/nodes/a", "/v1/nodes/a/heartbeat"):
            headers = {"Content-Type": content_type}
            assert kind(running.call("PUT", path, raw=b"{}", headers=headers)) == "wrong-content-type", content_type
    answer = running.call("POST", "/v1/nodes/a/outcomes", raw=b"{}", headers={"Content-Type": "text/plain"})
    assert kind(answer) == "wrong-content-type"


def test_unknown_places_and_methods_answer_in_the_same_shape(running: Running) -> None:
    nowhere = ("/nope", "/v1", "/v1/nodes/a/b/c", "/v1/nodes//heartbeat", "/.openapi/x", "/.openapi", "/%00")
    for path in (*nowhere, "/v1/nodes/%2e%2e"):
        assert kind(running.call("GET", path)) in ("unknown-address", "unknown-node", "method-not-allowed"), path
    body = {"node": {"id": "a", "ip_address": "127.0.0.1"}, "generation": 1, "sequence": 1}
    for path in ("//v1/nodes/a", "/v1//nodes/a", "/v1/nodes/a/", "/v1/nodes/a/heartbeat/", "/v1/nodes/a//heartbeat"):
        assert kind(running.call("PUT", path, body, running.operator_token())) == "unknown-address", path
    for method in ("DELETE", "PATCH", "TRACE", "BREW"):
        answer = running.call(method, "/v1/nodes")
        assert kind(answer) in ("method-not-allowed", "wrong-content-type", "malformed")


def test_head_answers_as_get_without_the_body(running: Running) -> None:
    paths = ("/", "/openapi.json", "/healthz", "/metrics", "/v1/nodes?limit=1", "/v1/coordinator", "/v1/nodes/nobody")
    for path in paths:
        got, head = running.call("GET", path), running.call("HEAD", path)
        assert head[0] == got[0], path
        assert head[2] == ""
        assert head[1]["content-type"] == got[1]["content-type"]
    stream = running.call("HEAD", "/v1/events", headers={"Accept": "text/event-stream"})
    assert stream[0] == 200
    assert running.call("HEAD", "/v1/nodes/a/heartbeat")[0] == 405


def test_names_that_would_write_to_a_terminal_are_refused(running: Running) -> None:
    for evil in ("\x1b[2J", "a\nb", "\u202eevil", "\x9b31m", "x\x00"):
        for field in ("hostname", "os_version", "wallet_address"):
            answer = Signer(running).register(node={field: evil})
            assert kind(answer) == "invalid"
            assert evil not in json.dumps(answer[2], ensure_ascii=False)
        assert kind(Signer(running).register(node={"tags": {"k": evil}})) == "invalid"


def test_a_registration_recorded_elsewhere_is_no_use_here(running: Running, tmp_path: Path) -> None:
    with Running(tmp_path / "other") as other:
        signer = Signer(running)
        body = signer.body()
        headers = signer.headers(body)
        assert signer.send(body, headers)[0] == 200
        stolen = other.call("PUT", f"/v1/nodes/{signer.node_id}", raw=body, headers=headers)
        assert kind(stolen) == "bad-signature"
        session = signer.register(2)[2]["session"]
        beat = other.call("PUT", f"/v1/nodes/{signer.node_id}/heartbeat", {"sequence": 1}, session)
        assert kind(beat) == "session-expired"


def test_too_many_registrations_at_once_are_asked_to_come_again(running: Running) -> None:
    signers = [Signer(running) for _ in range(120)]
    waits: list[str] = []
    statuses: list[int] = []

    def register(some: list[Signer]) -> None:
        for signer in some:
            body = signer.body()
            connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=20)
            headers = {**signer.headers(body), "Content-Type": "application/json"}
            connection.request("PUT", f"/v1/nodes/{signer.node_id}", body, headers)
            answer = connection.getresponse()
            statuses.append(answer.status)
            if answer.status == 503:
                waits.append(answer.headers["Retry-After"])
            connection.close()

    threads = [threading.Thread(target=register, args=(signers[n::40],)) for n in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(statuses) <= {200, 503}
    assert statuses.count(200) >= 8
    assert all(1 <= int(wait) <= 10 for wait in waits)
    left_out = [signer for signer in signers if running.call("GET", f"/v1/nodes/{signer.node_id}")[0] == 404]
    assert len(left_out) == statuses.count(503)  # refused means that nothing was done
    for signer in left_out:
        assert signer.register()[0] == 200


def test_connections_beyond_the_limit_of_files_are_told_to_come_again(tmp_path: Path) -> None:
    need_program("prlimit", "util-linux")
    with Running(tmp_path / "state", open_files=300) as limited:
        held = [socket.create_connection(("127.0.0.1", limited.port), timeout=10) for _ in range(44)]
        for connection in held:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(12) == b"HTTP/1.1 200"
        status, what = problem(spoken(limited, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"))
        assert (status, what) == (503, "busy")
        for connection in held:
            connection.close()
        until(lambda: limited.call("GET", "/healthz")[0] == 200, "room again")


@pytest.mark.slow
def test_where_it_gets_crowded_idle_connections_make_room(tmp_path: Path) -> None:
    need_program("prlimit", "util-linux")
    with Running(tmp_path / "state", open_files=300) as limited:
        held = [socket.create_connection(("127.0.0.1", limited.port), timeout=10) for _ in range(40)]
        for connection in held:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(12) == b"HTTP/1.1 200"
        for connection in held:
            while connection.recv(4096):  # until it is closed, long before its 75 seconds are over
                pass
            connection.close()


def unread(limited: Running, request: bytes) -> socket.socket:
    """A connection on which the answer to `request` is asked for and never read. Over TLS nothing is checked."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", limited.port))
    if limited.address.startswith("https"):
        blind = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        blind.check_hostname, blind.verify_mode = False, ssl.CERT_NONE
        connection = blind.wrap_socket(connection)
    connection.sendall(request)
    return connection


def wait_for_the_earlier(limited: Running) -> None:
    """Until all connections that were opened before are known to the other side."""
    with unread(limited, SHORT) as last:
        assert last.recv(1)


def sockets_of(running: Running) -> int:
    """How many the process has open. That one was closed shows to nobody who does not read from the other end."""
    assert running.process is not None
    count = 0
    for each in Path(f"/proc/{running.process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            count += os.readlink(each).startswith("socket:")
    return count


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "TLS"])
def test_answers_that_nobody_reads_fill_no_memory_and_are_given_up(tmp_path: Path, encrypted: bool) -> None:
    settings = {}
    if encrypted:
        made = [
            need_program("openssl", "openssl"),
            *REQUEST.split(),
            "-keyout",
            str(tmp_path / "key"),
            "-out",
            str(tmp_path / "crt"),
        ]
        subprocess.run(made, capture_output=True, check=True)
        settings = {"tls_certificate": str(tmp_path / "crt"), "tls_key": str(tmp_path / "key")}
    with Running(tmp_path / "state", **settings):  # type: ignore[arg-type]  # settings by name
        pass
    with NodeRegistry(tmp_path / "state" / "nodes.db") as registry, registry.batch():
        for number in range(1000):
            registry.register_node(Node("127.0.0.1", id=f"n{number}", extra={"of_mine": "x" * 10_000}))
    with Running(tmp_path / "state", **settings) as large, ExitStack() as held:  # type: ignore[arg-type]
        before, memory = sockets_of(large), resident_mib(large)
        page = b"GET /v1/nodes?limit=1000 HTTP/1.1\r\nHost: localhost\r\n\r\n"
        until(lambda: sockets_of(large) == before, "all is quiet")
        with unread(large, page + page):
            until(lambda: sockets_of(large) > before, "it is there")
            wait_for_the_earlier(large)
        until(lambda: sockets_of(large) == before, "it is gone")
        held.enter_context(unread(large, page + b"x" * 20_000))  # refused, and closed by us
        for _ in range(60):
            held.enter_context(unread(large, page))
        wait_for_the_earlier(large)
        until(lambda: sockets_of(large) <= before + 40, "all but what 256 MiB hold are given up", 25)  # 8 MB each
        assert sockets_of(large) > before + 15  # and no more than that
        assert resident_mib(large) < memory + 900  # as much as comes in until it is seen
        until(lambda: sockets_of(large) == before, "the others have had their time", 60)
        assert "Traceback" not in large.output()


@pytest.mark.slow
def test_a_request_that_is_being_answered_is_not_idle_where_it_gets_crowded(tmp_path: Path) -> None:
    need_program("prlimit", "util-linux")
    with Running(tmp_path / "state", open_files=300) as limited, ExitStack() as held:
        for _ in range(40):
            held.enter_context(socket.create_connection(("127.0.0.1", limited.port), timeout=10))
        said = spoken(limited, SHORT + HELD % 6)
        assert said.count(b"HTTP/1.1 200 OK") == 2  # and then it was closed: it rested


@pytest.mark.slow
def test_a_line_s_end_after_a_request_keeps_no_connection(tmp_path: Path) -> None:
    need_program("prlimit", "util-linux")
    with Running(tmp_path / "state", open_files=300) as limited, ExitStack() as held:
        for _ in range(40):
            held.enter_context(socket.create_connection(("127.0.0.1", limited.port), timeout=10))
        with socket.create_connection(("127.0.0.1", limited.port), timeout=10) as connection:
            connection.sendall(SHORT)
            assert connection.recv(12) == b"HTTP/1.1 200"
            connection.sendall(b"\r\n")
            while connection.recv(4096):
                pass


@pytest.mark.slow
@pytest.mark.parametrize("behind", [b"GE", b"\x00"])
def test_a_bad_request_behind_another_gets_no_answer_that_would_be_taken_for_the_other_s(
    running: Running, behind: bytes
) -> None:
    assert spoken(running, HELD % 20 + behind, seconds=18.0) == b""


@pytest.mark.slow
def test_a_request_is_not_late_while_nobody_listens_to_it(running: Running) -> None:
    with socket.create_connection(("127.0.0.1", running.port), timeout=30) as connection:
        connection.sendall(HELD % 15 + SHORT + SHORT[:5])
        stream = connection.makefile("rb")
        assert b" 200 " in stream.readline()
        connection.sendall(SHORT[5:] + SHORT.replace(b"Host", b"Connection: close\r\nHost"))
        assert stream.read().count(b" 200 OK") == 3


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(folder)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("a file system cannot be mounted here (needs root)")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_on_a_full_disk_heartbeats_go_on_and_durable_changes_fail_whole(small_disk: Path, tmp_path: Path) -> None:
    with Running(small_disk / "state") as running:
        signer, operator = Signer(running), running.operator_token()
        session = signer.register()[2]["session"]
        ballast = small_disk / "ballast"
        with ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"x" * 4096)
            except OSError:
                pass
        left_out = {}
        for _ in range(200):  # a log that was given its space beforehand takes some
            other = Signer(running)
            answer = other.register(node={"os_version": "x" * 100})
            if answer[0] != 200:
                left_out[other.node_id] = answer
            if len(left_out) == 5:
                break
        assert len(left_out) == 5
        refused = answer
        assert kind(refused) in ("disk-full", "store-failed")
        assert refused[0] in (503, 507)
        assert not [node_id for node_id in left_out if node_id in (small_disk / "state" / "audit.jsonl").read_text()]
        assert str(small_disk) not in json.dumps(refused[2])
        assert running.output().count("cannot be stored, heartbeats still can") == 1  # logged once
        assert running.call("GET", f"/v1/nodes/{other.node_id}")[0] == 404
        path = f"/v1/nodes/{signer.node_id}"
        beat = running.call("PUT", f"{path}/heartbeat", {"sequence": 1, "load_average": 1.5}, session)
        assert (beat[0], beat[2]["health"]["load_average"]) == (200, 1.5)
        outcome = running.call("POST", f"{path}/outcomes", {"success": True}, operator)
        assert outcome[0] in (503, 507)
        assert running.call("GET", path)[2]["reputation"] == 0.25
        ballast.unlink()
        time.sleep(0.1)
        assert running.call("POST", f"{path}/outcomes", {"success": True}, operator)[0] == 200
        assert other.register(node={"os_version": "x" * 100})[0] == 200
        assert "registrations and operators' changes are stored again" in running.output()


@pytest.mark.slow
@pytest.mark.timeout(150)
def test_who_speaks_slowly_is_cut_off_and_others_are_served(running: Running) -> None:
    slow = [socket.create_connection(("127.0.0.1", running.port), timeout=30) for _ in range(200)]
    for number, connection in enumerate(slow):
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n" if number % 2 else b"")
    begun = time.monotonic()
    while time.monotonic() - begun < 6:
        assert running.call("GET", "/healthz")[0] == 200
        for connection in slow[1::2]:
            connection.sendall(b"x: y\r\n")
        time.sleep(0.5)
    for connection in slow:
        answer = b""
        try:
            while chunk := connection.recv(4096):
                answer += chunk
        except ConnectionResetError:
            pass
        connection.close()
        assert b"408" in answer
    assert time.monotonic() - begun < 20
