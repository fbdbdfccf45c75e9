"""Web pages of others, in a browser near a coordinator: by a name that is made to lead to it, or by sending only."""

from __future__ import annotations

import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from duxnet.coordinator.access.browsers import HostNames
from duxnet.coordinator.errors import Refused
from tests.support.coordinators import Running
from tests.support.processes import until
from tests.support.requirements import need_program
from tests.system.coordinator.test_admission import REQUEST
from tests.system.coordinator.test_hostile import problem, spoken
from tests.system.coordinator.test_identity import Signer, kind

EVIL = {"Host": "attacker.example:8410"}
READS = (
    "/v1/nodes",
    "/v1/count",
    "/metrics",
    "/v1/events?since=0",
    "/",
    "/openapi.json",
    "/v1/sd/prometheus",
    "/nothing",
)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    settings: dict[str, Any] = {"hosts": ["registry.example", "*.pods.example"]}
    with Running(tmp_path_factory.mktemp("browsers") / "state", **settings) as coordinator:
        yield coordinator


@pytest.mark.parametrize("path", READS)
def test_a_name_that_is_not_the_coordinator_s_reads_nothing(running: Running, path: str) -> None:
    assert kind(running.call("GET", path, headers=EVIL)) == "foreign-host"
    assert running.call("GET", path, headers={"Host": "attacker.example"})[0] == 421


@pytest.mark.parametrize(
    "host",
    [
        *(
            "localhost",
            "LOCALHOST:1",
            "localhost.",
            "127.0.0.1",
            "127.0.0.1:99",
            "192.0.2.7:8410",
            "[::1]",
            "[::1]:8410",
        ),
        *("[2001:db8::7]:8410", "registry.example", "Registry.Example:443", "a.pods.example"),
    ],
)
def test_addresses_and_its_own_names_read(running: Running, host: str) -> None:
    for path in ("/v1/count", "/v1/nodes", "/metrics", "/openapi.json"):
        assert running.call("GET", path, headers={"Host": host})[0] == 200, path


@pytest.mark.parametrize(
    "host",
    [
        *(
            "registry.example.attacker.example",
            "attackerregistry.example",
            "pods.example",
            "a.b.pods.example",
            "2130706433",
        ),
        *("0x7f.0.0.1", "127.1", "localhost.attacker.example", "127.0.0.1.attacker.example", "xregistry.example"),
    ],
)
def test_what_only_looks_like_one_of_them_does_not(running: Running, host: str) -> None:
    assert running.call("GET", "/v1/count", headers={"Host": host})[0] == 421


@pytest.mark.parametrize("host", ["", "a b", "a@b", "a,b", "[::1", "a:x", "a:99999", "[fe80::1%]x", "a/b", "ä"])
def test_what_is_no_host_is_malformed(running: Running, host: str) -> None:
    raw = b"GET /v1/count HTTP/1.1\r\nConnection: close\r\nHost: " + host.encode() + b"\r\n\r\n"
    assert problem(spoken(running, raw)) == (400, "malformed")


@pytest.mark.parametrize("path", ["/v1/count", "/v1/coordinator", "/v1/nodes/a/heartbeat", "/v1/nodes/a", "/healthz"])
def test_host_missing_or_twice_is_malformed(running: Running, path: str) -> None:
    method = "PUT" if path.startswith("/v1/nodes/") else "GET"
    for hosts in ("", "Host: localhost\r\nHost: localhost\r\n", "Host: localhost\r\nHost: attacker.example\r\n"):
        raw = f"{method} {path} HTTP/1.1\r\n{hosts}Connection: close\r\nContent-Length: 0\r\n\r\n".encode()
        assert problem(spoken(running, raw)) == (400, "malformed"), hosts
    assert b" 200 " in spoken(running, b"GET /healthz HTTP/1.0\r\n\r\n")  # older than Host


def test_the_address_must_not_name_another_host_than_host_does(running: Running) -> None:
    for target, host in (("http://attacker.example/v1/count", "localhost"), ("http://localhost/v1/count", "127.0.0.1")):
        raw = f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
        assert problem(spoken(running, raw)) == (400, "malformed")
    same = b"GET http://localhost/v1/count HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert b" 200 " in spoken(running, same)


def test_the_name_is_looked_at_again_where_it_changes_on_a_connection(running: Running) -> None:
    ours = b"GET /v1/count HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with socket.create_connection(("127.0.0.1", running.port), timeout=8) as connection:
        for raw, status in ((ours, b"200"), (ours.replace(b"localhost", b"attacker.example"), b"421"), (ours, b"200")):
            connection.sendall(raw)
            assert connection.recv(65536).split()[1] == status


def test_nodes_and_callers_with_a_token_come_by_any_name(running: Running) -> None:
    """As through a published port, or a name that the operator of the coordinator does not know of."""
    signer = Signer(running)
    assert running.call("GET", "/v1/coordinator", headers=EVIL)[0] == 200  # what a node must know before it can sign
    body = signer.body(1)
    status, _, reply = signer.send(body, {**signer.headers(body), **EVIL})
    assert status == 200
    beat = {"sequence": 1}
    path = f"/v1/nodes/{signer.node_id}"
    assert running.call("PUT", f"{path}/heartbeat", beat, reply["session"], EVIL)[0] == 200
    assert running.call("POST", f"{path}/leave", token=reply["session"], headers=EVIL)[0] == 200
    for read in ("/v1/nodes", "/metrics", path):
        assert running.call("GET", read, token=running.operator_token(), headers=EVIL)[0] == 200
    for wrong in ("dux_operator_nonsense", "nonsense", reply["session"][:-1] + "!"):
        assert kind(running.call("GET", "/metrics", token=wrong, headers=EVIL)) == "foreign-host"


@pytest.mark.parametrize(
    "origin",
    ["http://attacker.example", "http://localhost.attacker.example", "null", "file://", "https://127.0.0.1:1", "x", ""],
)
def test_pages_of_others_may_not_send_whatever_they_prove(running: Running, origin: str) -> None:
    signer = Signer(running)
    body = signer.body(1)
    assert kind(signer.send(body, {**signer.headers(body), "Origin": origin})) == "foreign-origin"
    operator = running.operator_token()
    for method, path in (
        ("GET", "/v1/nodes"),
        ("PUT", f"/v1/nodes/{signer.node_id}/heartbeat"),
        ("OPTIONS", "/v1/nodes"),
    ):
        sent = {"sequence": 1} if method == "PUT" else None
        assert kind(running.call(method, path, sent, operator, {"Origin": origin})) == "foreign-origin", path


def test_a_page_that_leads_its_name_here_has_the_same_host_and_origin_and_is_refused(running: Running) -> None:
    page = {"Host": "attacker.example:8410", "Origin": "http://attacker.example:8410"}
    signer = Signer(running)
    body = signer.body(1)
    assert kind(signer.send(body, {**signer.headers(body), **page})) == "foreign-origin"
    assert kind(running.call("GET", "/v1/coordinator", headers=page)) == "foreign-origin"


def test_the_coordinator_s_own_page_may_send(running: Running) -> None:
    for host in (f"127.0.0.1:{running.port}", f"localhost:{running.port}", "registry.example"):
        own = {"Host": host, "Origin": f"http://{host}"}
        assert running.call("GET", "/openapi.json", headers=own)[0] == 200
    assert running.call("GET", "/v1/count", headers={"Host": "localhost", "Origin": "http://localhost:80"})[0] == 200
    assert running.call("GET", "/v1/count", headers={"Host": "localhost:81", "Origin": "http://localhost"})[0] == 403


def test_behind_a_named_proxy_scheme_and_port_are_the_proxy_s(tmp_path: Path) -> None:
    with Running(tmp_path / "state", proxies=["127.0.0.1"], hosts=["registry.example"]) as running:
        page = {"Host": "registry.example", "Origin": "https://registry.example"}
        assert running.call("GET", "/v1/count", headers=page)[0] == 200
        assert running.call("GET", "/v1/count", headers={**page, "Origin": "https://attacker.example"})[0] == 403
        assert running.call("GET", "/v1/count", headers={"Host": "attacker.example"})[0] == 421


def test_every_answer_has_the_headers_that_keep_browsers_in_bounds(running: Running) -> None:
    signer = Signer(running)
    registered = signer.register(1)
    session = registered[2]["session"]
    beat = f"/v1/nodes/{signer.node_id}/heartbeat"
    answers = [
        registered,
        running.call("PUT", beat, {"sequence": 1}, session),
        running.call("PUT", beat, {"sequence": 1}, "wrong"),
        running.call("DELETE", f"/v1/nodes/{signer.node_id}", token=session),
        *(running.call("GET", path, headers=headers) for path in READS for headers in ({}, EVIL)),
        running.call("OPTIONS", "/v1/nodes"),
        running.call("PATCH", "/v1/nodes"),
    ]
    for status, headers, _ in answers:
        assert "frame-ancestors 'none'" in headers["content-security-policy"], status
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
    assert registered[1]["cache-control"] == "no-store"  # it holds a session
    for raw in (
        b"nonsense\r\n\r\n",
        b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n",
    ):
        assert b"x-content-type-options: nosniff\r\n" in spoken(running, raw, seconds=1.0)


def certify(names: str, certificate: Path, key: Path) -> None:
    openssl = need_program("openssl", "openssl")
    request = REQUEST.replace("DNS:localhost", names)
    subprocess.run([openssl, *request.split(), "-keyout", key, "-out", certificate], capture_output=True, check=True)


def status_over_tls(running: Running, host: str) -> int:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", running.port), timeout=8) as plain, context.wrap_socket(plain) as tls:
        tls.sendall(f"GET /v1/count HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        return int(tls.recv(65536).split()[1])


def test_the_names_of_the_certificate_count_also_after_it_was_renewed(tmp_path: Path) -> None:
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    certify("DNS:Registry.example,DNS:*.nodes.example", certificate, key)
    with Running(tmp_path / "state", tls_certificate=str(certificate), tls_key=str(key)) as running:
        found = [
            status_over_tls(running, host) for host in ("registry.example:8410", "a.nodes.example", "nodes.example")
        ]
        assert found == [200, 200, 421]
        certify("DNS:new.example", certificate, key)
        assert running.process is not None
        running.process.send_signal(signal.SIGHUP)
        until(lambda: status_over_tls(running, "new.example") == 200, "the new name")
        assert status_over_tls(running, "registry.example") == 421


def test_a_host_that_is_none_is_refused_before_names_are_compared() -> None:
    with pytest.raises(Refused, match="is not a host name or IP address"):
        HostNames(["a"]).accepts(b"a b")
