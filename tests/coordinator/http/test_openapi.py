"""The OpenAPI document is true: schemathesis over the whole of it, and a real Prometheus against what is for it."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest

from registry_core.wire.problems import KINDS
from tests.support.coordinators import Running
from tests.support.processes import duxnet, until
from tests.support.requirements import need_program
from tests.system.coordinator.test_identity import Signer

CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance"
)


def test_every_route_is_described_with_its_problems(tmp_path: Path) -> None:
    with Running(tmp_path / "state") as running:
        status, _, document = running.call("GET", "/openapi.json")
        assert (status, document["openapi"]) == (200, "3.1.0")
        assert "/v1/nodes/{node_id}/heartbeat" in document["paths"]
        for path, item in document["paths"].items():
            for method, operation in item.items():
                assert operation["summary"], (path, method)
                problems = {int(code) for code in operation["responses"] if int(code) >= 400}
                assert problems == {kind.status for kind in KINDS.values()}
        page = running.call("GET", "/")
        assert "text/html" in page[1]["content-type"]
        assert "http://" not in page[2].replace("http://127.0.0.1", "")  # nothing is fetched from elsewhere
        assert "https://" not in page[2]


def test_a_parameter_that_comes_twice_is_refused_where_one_is_meant(tmp_path: Path) -> None:
    with Running(tmp_path / "state") as running:
        for path in ("/v1/nodes?wallet=a&wallet=b", "/v1/count?gpu=true&gpu=false"):
            status, _, answer = running.call("GET", path)
            assert (status, answer["type"]) == (422, "urn:duxnet:problem:invalid")
        assert running.call("GET", "/v1/count?tag=a=b&tag=c=d&exclude=x&exclude=y")[0] == 200


def test_a_parameter_that_is_not_known_is_refused_with_the_nearest_or_all_that_are(tmp_path: Path) -> None:
    with Running(tmp_path / "state") as running:
        signer = Signer(running)
        signer.register()
        node = signer.node_id
        for asked, wanted in (
            (
                "/v1/nodes?min_cpu_core=8",
                "'min_cpu_core' is not a parameter of this endpoint; did you mean min_cpu_cores?",
            ),
            ("/v1/nodes?only-healthy=true&limit=5", "did you mean only_healthy?"),
            ("/v1/nodes?MIN_MEMORY_GB=1", "did you mean min_memory_gb?"),
            ("/v1/count?limit=5", "the parameters are min_reputation, only_healthy, "),
            ("/v1/count?tags=a=b", "did you mean tag?"),
            (f"/v1/nodes/{node}/explain?healthy=true", "did you mean only_healthy?"),
            ("/v1/events?sinc=5", "did you mean since?"),
            ("/v1/events?=5", "'' is not a parameter of this endpoint; the parameters are since, wait_seconds"),
            (f"/v1/nodes?{'x' * 5000}=1", "the parameters are "),
        ):
            status, headers, answer = running.call("GET", asked)
            assert (status, headers["content-type"]) == (422, "application/problem+json"), asked
            assert answer["type"] == "urn:duxnet:problem:unknown-parameter"
            assert wanted in answer["detail"]
            assert len(answer["detail"]) < 500
        # where nothing can be asked, what came along is harmless: somebody keeps a cache away
        for path in ("/healthz", "/metrics", "/v1/coordinator", f"/v1/nodes/{node}", f"/v1/nodes/{node}/reputation"):
            assert running.call("GET", f"{path}?x=1")[0] == 200
        assert running.call("GET", f"/v1/nodes/{node}/explain?min_cpu_cores=0&limit=20&order=random&seed=3")[0] == 200


@pytest.mark.slow
def test_the_document_names_exactly_the_parameters_that_are_taken(tmp_path: Path) -> None:
    with Running(tmp_path / "state", show_addresses=True, shortest_interval_seconds=0.1) as running:
        signer = Signer(running)
        signer.register()
        until(lambda: running.call("GET", "/readyz")[0] == 200, "ready")
        asking = 0
        for path, item in running.call("GET", "/openapi.json")[2]["paths"].items():
            parameters = item.get("get", {}).get("parameters", ())
            names = [each["name"] for each in parameters if each["in"] == "query"]
            asking += bool(names)
            for name in names:
                for sent, refused in ((name, False), (f"{name}_", True)):
                    answer = running.call("GET", f"{path.replace('{node_id}', signer.node_id)}?{sent}=1")
                    assert ("unknown-parameter" in str(answer[2])) == refused, (path, sent)
        assert asking == 5  # list, count, explain, events, service discovery


def test_lists_are_paged_linked_and_not_sent_twice(tmp_path: Path) -> None:
    with Running(tmp_path / "state") as running:
        for _ in range(5):
            Signer(running).register()
        _, headers, first = running.call("GET", "/v1/nodes?limit=2")
        assert len(first["nodes"]) == 2
        assert headers["link"].endswith('>; rel="next"')
        seen = [node["id"] for node in first["nodes"]]
        link = headers["link"].partition("<")[2].partition(">")[0]
        while link:
            _, headers, page = running.call("GET", urljoin("/v1/nodes", link))
            seen += [node["id"] for node in page["nodes"]]
            link = headers.get("link", "").partition("<")[2].partition(">")[0]
        assert len(seen) == len(set(seen)) == 5
        tag = running.call("GET", "/v1/count")[1]["etag"]
        for asked in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            assert running.call("GET", "/v1/count", headers={"If-None-Match": asked})[0] == 304
        assert running.call("GET", "/v1/count", headers={"If-None-Match": '"other"'})[0] == 200


def test_events_stream_resume_and_say_when_they_are_compacted(tmp_path: Path) -> None:
    with Running(tmp_path / "state") as running:
        start = running.call("GET", "/v1/events")[2]["last"]
        signer = Signer(running)
        signer.register()
        signer.register(2, node={"hostname": "changed"})
        wanted = [event["index"] for event in running.call("GET", f"/v1/events?since={start}")[2]["events"]]
        assert len(wanted) == 2
        request = urllib.request.Request(
            f"{running.address}/v1/events",
            headers={"Accept": "text/event-stream", "Last-Event-ID": str(wanted[0])},
        )
        with urllib.request.urlopen(request, timeout=10) as stream:
            assert stream.headers["Content-Type"].startswith("text/event-stream")
            frame: dict[str, str] = {}
            while "data" not in frame:
                name, _, value = stream.readline().decode().rstrip("\n").partition(": ")
                frame[name] = value
            assert (frame["id"], frame["event"]) == (str(wanted[1]), "node.updated")
            assert json.loads(frame["data"])["node_id"] == signer.node_id
        assert running.call("GET", f"/v1/events?since={start + 1_000_000}")[0] == 410
        gone = running.call("GET", "/v1/events", headers={"Accept": "text/event-stream", "Last-Event-ID": "999999999"})
        assert gone[0] == 410


@pytest.mark.slow
def test_a_real_prometheus_reads_the_metrics_and_finds_the_nodes(tmp_path: Path) -> None:
    prometheus = need_program("prometheus", "prometheus")
    with Running(tmp_path / "state", shortest_interval_seconds=0.1) as running:
        Signer(running).register(
            node={"ip_address": "192.0.2.7", "port": 9100, "tags": {"zone": "eu/1"}, "hostname": "one"}
        )
        token = duxnet("token", "create", "reader", "--state-dir", running.state_dir).stdout.strip()
        until(lambda: running.call("GET", "/readyz")[0] == 200, "ready")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        host = running.address.partition("//")[2]
        config: dict[str, Any] = {
            "global": {"scrape_interval": "1s"},
            "scrape_configs": [
                {"job_name": "coordinator", "static_configs": [{"targets": [host]}]},
                {
                    "job_name": "nodes",
                    "http_sd_configs": [
                        {
                            "url": f"{running.address}/v1/sd/prometheus",
                            "refresh_interval": "1s",
                            "authorization": {"type": "Bearer", "credentials": token},
                        }
                    ],
                },
            ],
        }
        (tmp_path / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
        flags = [f"--config.file={tmp_path / 'prometheus.yml'}", f"--storage.tsdb.path={tmp_path / 'data'}"]
        with (tmp_path / "prometheus.log").open("wb") as log:
            process = subprocess.Popen(
                [prometheus, *flags, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log
            )
        try:

            def asked(path: str) -> Any:
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/{path}", timeout=5) as answer:
                        return json.loads(answer.read())["data"]
                except OSError:
                    return None

            def targets() -> Any:
                found = asked("targets?state=active") or {"activeTargets": []}
                return {target["scrapePool"]: target for target in found["activeTargets"]}

            until(lambda: targets().get("coordinator", {}).get("health") == "up", "the coordinator is scraped")
            found = until(lambda: targets().get("nodes"), "the node is found")
            assert found["discoveredLabels"]["__address__"] == "192.0.2.7:9100"
            assert found["discoveredLabels"]["__meta_duxnet_hostname"] == "one"
            assert found["discoveredLabels"]["__meta_duxnet_tag_zone"] == "eu/1"
            query = "query?query=duxnet_nodes%7Bstate=%22registered%22%7D"
            (value,) = until(lambda: (asked(query) or {}).get("result"), "the metric is there")
            assert value["value"][1] == "1"
        finally:
            process.kill()
            process.wait()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_no_answer_is_a_failure_or_outside_the_document(tmp_path: Path) -> None:
    pytest.importorskip("schemathesis")
    with Running(tmp_path / "state", shortest_interval_seconds=0.05) as running:
        signer = Signer(running)
        signer.register()
        until(lambda: running.call("GET", "/readyz")[0] == 200, "ready")
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"{running.address}/openapi.json"]
        command += ["--url", running.address, "--header", f"Authorization: Bearer {running.operator_token()}"]
        command += ["--checks", CHECKS, "--max-examples", "30", "--phases", "coverage,fuzzing", "--no-color"]
        command += ["--suppress-health-check", "all", "--request-timeout", "10", "--exclude-path", "/v1/events"]
        found = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert found.returncode == 0, found.stdout[found.stdout.find("= FAILURES =") :][:4000]
        assert running.call("GET", "/healthz")[0] == 200
        assert "Traceback" not in running.output()
