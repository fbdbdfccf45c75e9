"""A real nginx before a real coordinator, configured by what docs/coordinator.md shows."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Optional
from urllib.parse import urljoin, urlsplit

import pytest

from tests.support.coordinators import Running
from tests.support.processes import RunningAgent, duxnet, duxnet_process, until
from tests.support.requirements import need_program
from tests.system.coordinator.test_admission import REQUEST, token
from tests.system.coordinator.test_identity import Signer

pytestmark = pytest.mark.xdist_group("timing")  # what it measures bears no other measurement beside it


PAGE = Path(__file__).parents[3] / "docs" / "coordinator.md"
SITE, BELOW_A_PATH = re.findall(r"```nginx\n(.*?)```", PAGE.read_text(), re.DOTALL)
AT_THE_TOP = "    location / {\n        proxy_pass http://duxnet;\n    }\n"
INTERVAL = 0.25

AROUND = """
daemon off;
%(user)s
pid %(folder)s/nginx.pid;
error_log %(folder)s/error.log;
events { worker_connections 512; }
http {
    access_log %(folder)s/access.log;
    client_body_temp_path %(folder)s/body;
    proxy_temp_path %(folder)s/proxy;
    fastcgi_temp_path %(folder)s/fastcgi;
    uwsgi_temp_path %(folder)s/uwsgi;
    scgi_temp_path %(folder)s/scgi;
    %(site)s
}
"""
"""What a distribution's nginx.conf has around a site, with files that are the test's own."""


class Proxied:
    """A coordinator and the nginx before it. `address` is what nodes are told."""

    def __init__(self, folder: Path, path: str, **settings: Any) -> None:
        self.folder = folder
        self.certificate = folder / "tls.crt"
        named: dict[str, Any] = {
            "proxies": ["127.0.0.1", "127.0.0.9"],
            "shortest_interval_seconds": INTERVAL,
            **settings,
        }
        self.coordinator = Running(folder / "coordinator", **named)
        with closing(socket.create_server(("127.0.0.1", 0))) as unused:
            self.port = unused.getsockname()[1]
        self.address = f"https://127.0.0.1:{self.port}{path.rstrip('/')}"
        self._path = path
        self._process: Optional[subprocess.Popen[bytes]] = None

    def __enter__(self) -> Proxied:
        nginx = need_program("nginx", "nginx-light")
        key = self.folder / "tls.key"
        openssl = need_program("openssl", "openssl")
        made = [openssl, *REQUEST.split(), "-keyout", str(key), "-out", str(self.certificate)]
        subprocess.run(made, capture_output=True, check=True)
        self.coordinator.start()
        site = SITE
        if self._path != "/":
            site = _replaced(site, AT_THE_TOP, BELOW_A_PATH)
        site = _replaced(site, "listen 443 ssl", f"listen 127.0.0.1:{self.port} ssl")
        site = _replaced(site, "127.0.0.1:8410", f"127.0.0.1:{self.coordinator.port}")
        site = _replaced(site, "/etc/duxnet/tls.crt", str(self.certificate))
        site = _replaced(site, "/etc/duxnet/tls.key", str(key))
        user = "user root root;" if os.geteuid() == 0 else ""  # else its worker could not write to the folder
        configuration = self.folder / "nginx.conf"
        configuration.write_text(AROUND % {"folder": self.folder, "site": site, "user": user})
        self._process = subprocess.Popen(
            [nginx, "-p", str(self.folder), "-e", str(self.folder / "error.log"), "-c", str(configuration)]
        )
        until(self._listens, "nginx listens")
        return self

    def __exit__(self, *_error: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)
        self.coordinator.__exit__()

    def _listens(self) -> bool:
        with closing(socket.socket()) as trying:
            return trying.connect_ex(("127.0.0.1", self.port)) == 0

    def trust(self) -> dict[str, str]:
        """What makes `duxnet` take its certificate."""
        return {"DUXNET_REGISTRY__CA_FILE": str(self.certificate)}

    def connect(self, source: str = "127.0.0.1") -> http.client.HTTPSConnection:
        """A connection to nginx that comes from `source`."""
        context = ssl.create_default_context(cafile=str(self.certificate))
        return http.client.HTTPSConnection(
            "127.0.0.1", self.port, timeout=20, source_address=(source, 0), context=context
        )

    def call(self, method: str, path: str, source: str = "127.0.0.1", **said: Any) -> tuple[int, dict[str, str], bytes]:
        """One request through nginx: status, headers, body."""
        with closing(self.connect(source)) as connection:
            connection.request(method, urlsplit(self.address).path + path, **said)
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


def _replaced(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1, old
    return text.replace(old, new)


@pytest.fixture(scope="module", params=["/", "/duxnet/"], ids=["top", "path"])
def proxied(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    with Proxied(tmp_path_factory.mktemp("nginx"), request.param) as proxied:
        yield proxied
        assert "Traceback" not in proxied.coordinator.output()


@pytest.mark.slow
def test_an_agent_joins_through_it_as_documented(proxied: Proxied, tmp_path: Path) -> None:
    refused = duxnet_process(
        "agent", "--once", "--state-dir", tmp_path, "--registry", proxied.address, **proxied.trust()
    )
    assert "join token" in refused.stderr  # which is the rule behind a proxy
    joins = {"DUXNET_REGISTRY__JOIN_TOKEN": token(proxied.coordinator, "join"), **proxied.trust()}
    once = duxnet_process("agent", "--once", "--state-dir", tmp_path, "--registry", proxied.address, **joins)
    assert once.returncode in (0, 3), once.stderr  # 3: something of this machine could not be measured
    listed = duxnet("nodes", "list", "--registry", proxied.address, "--format", "json", **proxied.trust())
    assert listed.returncode == 0, listed.stderr
    ids = [node["id"] for node in json.loads(listed.stdout)["nodes"]]
    assert json.loads((tmp_path / "node.id").read_text())["id"] in ids
    asked = duxnet("doctor", "--state-dir", tmp_path, DUXNET_REGISTRY__TARGET=proxied.address, **proxied.trust())
    assert f"{proxied.address} answers" in asked.stdout


@pytest.mark.slow
def test_an_agent_reports_and_goes_on_after_a_restart_behind_it(tmp_path: Path) -> None:
    with Proxied(tmp_path, "/", join="open") as proxied:
        flags = ("--registry", proxied.address)
        with RunningAgent(tmp_path / "agent", *flags, interval=INTERVAL, environ=proxied.trust()) as agent:
            node_id = agent.wait_for_reports(3)["node_id"]
            assert proxied.coordinator.stop() == 0
            assert proxied.call("GET", "/healthz")[0] == 502
            status = until(lambda: (s := agent.status())["problem"] and s, "a failed report")
            assert "the proxy there cannot reach the coordinator" in status["problem"]
            proxied.coordinator.start()
            agent.wait_for_log("reporting again")
            agent.wait_for_reports(2)
            assert agent.status()["problem"] is None
            shown = json.loads(proxied.call("GET", f"/v1/nodes/{node_id}")[2])
            assert shown["liveness"] == "live"


def test_events_come_through_as_they_happen(proxied: Proxied) -> None:
    with closing(proxied.connect()) as connection:
        path = urlsplit(proxied.address).path
        connection.request("GET", f"{path}/v1/events", headers={"Accept": "text/event-stream"})
        stream = connection.getresponse()
        assert stream.status == 200
        assert stream.headers["content-type"].startswith("text/event-stream")
        begun = time.monotonic()
        assert stream.readline() == b"retry: 3000\n"
        operator = proxied.coordinator.operator_token()
        headers = {"Authorization": f"Bearer {operator}", "Content-Type": "application/json"}
        body = json.dumps({"node": {"id": "seen", "ip_address": "127.0.0.1"}, "generation": 1})
        assert proxied.call("PUT", "/v1/nodes/seen", body=body, headers=headers)[0] == 200
        line = b""
        while not line.startswith(b"data:"):
            line = stream.readline()
        assert json.loads(line[5:])["node_id"] == "seen"
        assert time.monotonic() - begun < 5
        assert proxied.call("DELETE", "/v1/nodes/seen", headers=headers)[0] == 204


def test_quotas_count_the_address_that_spoke_to_it_and_no_forged_one(tmp_path: Path) -> None:
    with Proxied(tmp_path, "/", join="open", nodes_per_address=2) as proxied:

        def join(source: str, forwarded: str) -> str:
            signer = Signer(proxied.coordinator)
            body = signer.body()
            headers = {**signer.headers(body), "Content-Type": "application/json", "X-Forwarded-For": forwarded}
            answer = proxied.call("PUT", f"/v1/nodes/{signer.node_id}", source, body=body, headers=headers)
            assert answer[0] == 200, answer
            return str(json.loads(answer[2])["admission"])

        balancer, stranger = "127.0.0.9", "127.0.0.5"  # the first is one of the proxies too
        assert [join(balancer, "93.184.215.14") for _ in range(3)] == ["probation", "probation", "pending"]
        assert [join(stranger, "93.184.215.15") for _ in range(3)] == ["probation"] * 3  # who is not counted: loopback
        assert [join(balancer, f"93.184.215.16, {stranger}") for _ in range(3)] == ["probation"] * 3


def test_pages_and_links_lead_on_from_where_they_are_served(proxied: Proxied) -> None:
    page = proxied.call("GET", "/")[2].decode()
    named = set(re.findall(r'href="([^":]+)"', page)) | set(re.findall(r'fetch\("([^"]+)"\)', page))
    assert len(named) == 6
    base = urlsplit(proxied.address).path
    for each in named:
        path = urljoin(f"{base}/", each)
        assert path.startswith(f"{base}/")
        assert proxied.call("GET", path.removeprefix(base))[0] == 200, each
    bearer = {"Authorization": f"Bearer {proxied.coordinator.operator_token()}", "Content-Type": "application/json"}
    for name in ("one", "two"):
        body = json.dumps({"node": {"id": name, "ip_address": "127.0.0.1"}, "generation": 1})
        assert proxied.call("PUT", f"/v1/nodes/{name}", body=body, headers=bearer)[0] == 200
    first = proxied.call("GET", "/v1/nodes?limit=1")
    link = re.findall(r"<(.*?)>", first[1]["link"])[0]
    following = urljoin(f"{base}/v1/nodes?limit=1", link)
    assert following.startswith(f"{base}/v1/nodes?")
    second = proxied.call("GET", following.removeprefix(base))
    assert json.loads(first[2])["nodes"] != json.loads(second[2])["nodes"]
    for name in ("one", "two"):
        assert proxied.call("DELETE", f"/v1/nodes/{name}", headers=bearer)[0] == 204
