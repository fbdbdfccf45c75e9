"""What a person at the desk sees of a coordinator, with and without a token."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Optional

import pytest

from registry_core.embedded.node_registry import NodeRegistry
from registry_core.models.node import Node
from registry_core.remote import RemoteOptions, RemoteRegistry
from tests.support.coordinators import Running
from tests.support.processes import duxnet


def test_without_a_token_the_list_says_that_addresses_are_hidden(tmp_path: Path) -> None:
    with Running(tmp_path / "state") as running:
        with RemoteRegistry(running.address, options=RemoteOptions(token=running.operator_token())) as registry:
            registry.register_node(Node("192.0.2.7", hostname="worker"))
        table = duxnet("nodes", "list", "--registry", running.address)
        listed = json.loads(duxnet("nodes", "list", "--registry", running.address, "--format", "json").stdout)
    assert table.returncode == 0, table.stderr
    assert "hidden" in table.stdout
    assert "192.0.2.7" not in table.stdout
    assert listed["nodes"][0]["ip_address"] is None


@pytest.mark.slow
def test_every_filter_and_the_next_page_work_over_the_network(tmp_path: Path) -> None:
    def listed(*flags: object) -> tuple[list[str], Optional[str]]:
        answer = duxnet("nodes", "list", "--registry", running.address, "--format", "json", *flags)
        assert answer.returncode == 0, answer.stderr
        plain = json.loads(answer.stdout)
        return [node["id"] for node in plain["nodes"]], plain["next"]

    with Running(tmp_path / "state") as running:
        with RemoteRegistry(running.address, options=RemoteOptions(token=running.operator_token())) as registry:
            for name, zone in (("first", "a"), ("second", "a"), ("third", "b")):
                registry.register_node(Node("192.0.2.7", id=name, tags={"zone": zone}))
        assert listed("--tag", "zone=b") == (["third"], None)
        assert listed("--exclude", "first", "--limit", 2) == (["second", "third"], None)
        assert listed("--limit", 1, "--order", "random", "--tag", "zone=b") == (["third"], None)
        found, cursor = listed("--limit", 2)
        assert found == ["first", "second"]
        assert listed("--limit", 2, "--after", cursor) == (["third"], None)


@pytest.mark.slow
def test_why_a_node_is_in_no_list_is_told_over_the_network_too(tmp_path: Path) -> None:
    with Running(tmp_path / "state") as running:
        with RemoteRegistry(running.address, options=RemoteOptions(token=running.operator_token())) as registry:
            registry.register_node(Node("192.0.2.7", id="worker-1"))
            registry.admin.cordon("worker-1", reason="new disk")
        asked = ("nodes", "explain", "work", "--registry", running.address)
        answer = duxnet(*asked, "--healthy", "--min-cpu-cores", "4", "--format", "json")
        assert answer.returncode == 0, answer.stderr
        plain = json.loads(answer.stdout)
        assert (plain["id"], plain["selected"]) == ("worker-1", False)
        assert [item["condition"] for item in plain["failing"]] == ["scheduling", "cpu_cores"]
        assert "an operator must uncordon the node" in duxnet(*asked, "--healthy").stdout
        assert "meets every condition" in duxnet(*asked, "--wallet", "").stdout
        assert "best guess" in duxnet(*asked).stdout
        unknown = duxnet("nodes", "explain", "nobody", "--healthy", "--registry", running.address)
        assert (unknown.returncode, unknown.stdout) == (1, "")
        assert "no node is registered under the id 'nobody'" in unknown.stderr


def test_two_values_of_one_tag_are_a_question_that_no_node_answers(tmp_path: Path) -> None:
    with Running(tmp_path / "state") as running:
        status, _, problem = running.call("GET", "/v1/nodes?tag=zone=3&tag=rack=1&tag=zone=4")
        assert (status, problem["field"], problem["value"]) == (422, "tag", "'zone=4'")
        assert running.call("GET", "/v1/nodes?tag=zone=3&tag=zone=3")[0] == 200


@pytest.mark.slow
def test_an_operator_gives_orders_from_the_command_line_on_a_file_and_over_the_network(tmp_path: Path) -> None:
    path = tmp_path / "nodes.json"
    with NodeRegistry(path) as registry:
        registry.register_node(Node("192.0.2.7", id="worker-1"))
    with Running(tmp_path / "state") as running:
        token = running.operator_token()
        with RemoteRegistry(running.address, options=RemoteOptions(token=token)) as remote:
            remote.register_node(Node("192.0.2.7", id="worker-1"))
        for where, environ in ((str(path), {}), (running.address, {"DUXNET_REGISTRY__TOKEN": token})):

            def ordered(*words: str) -> str:
                answer = duxnet("nodes", words[0], "work", *words[1:], "--registry", where, **environ)  # noqa: B023 - asked in its turn
                assert answer.returncode == 0, answer.stderr
                return answer.stdout.strip()

            assert ordered("approve") == "worker-1: approved, eligible; ready for work"
            assert ordered("cordon", "--reason", "disk", "--until", "2126-01-31T12:00:00Z").endswith(
                "cordoned; gets no work"
            )
            assert "disk" in ordered("show")
            assert ordered("uncordon").endswith("eligible; ready for work")
            assert ordered("suspend", "--reason", "audit") == "worker-1: suspended, eligible; gets no work"
            assert ordered("probation") == "worker-1: probation, eligible; ready for work"
            assert ordered("ban", "--reason", "fake") == "worker-1: banned, eligible; gets no work"
            again = duxnet("nodes", "suspend", "work", "--registry", where, **environ)
            assert again.returncode == 2
            assert "banned" in again.stderr
            bad = duxnet("nodes", "cordon", "work", "--until", "tomorrow", "--registry", where, **environ)
            assert bad.returncode == 2
            assert "until" in bad.stderr
        refused = duxnet("nodes", "approve", "worker-1", "--registry", running.address)
        assert refused.returncode == 1
        assert "token" in refused.stderr
        log = (tmp_path / "state" / "audit.jsonl").read_text()
        assert '"action": "admission banned"' in log
