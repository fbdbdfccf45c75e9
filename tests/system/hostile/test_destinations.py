"""Where others are sent: no list leads back to the one who reads it, to a cloud's secrets, or to a stranger."""

from __future__ import annotations

import ipaddress
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from duxnet.coordinator.admission.networks import refuse_unreachable
from registry_core.errors import ValidationError
from registry_core.models.addresses import WITHHELD_ADDRESS, is_destination, is_public
from registry_core.models.node import Node
from tests.support.coordinators import Running
from tests.support.processes import until

PUBLIC = ["8.8.8.8", "93.184.216.34", "2606:4700::1", "64:ff9b::808:808", "2002:808:808::1"]
PRIVATE = ["10.0.0.1", "192.168.1.2", "172.16.9.9", "100.64.0.1", "fd00::1", "2002:c0a8:1::1", "192.0.2.7"]
NOWHERE = [
    *("127.0.0.1", "127.9.9.9", "0.0.0.1", "169.254.169.254", "169.254.1.1", "224.0.0.1", "239.1.1.1", "240.0.0.1"),
    *("255.255.255.255", "0.0.0.0", "100.100.100.200"),
    *("::1", "::", "fe80::1", "fec0::1", "ff02::1", "100::", "fd00:ec2::254"),
    *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "::ffff:0:7f00:1"),
    *("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2002:a9fe:a9fe::1", "2002:e000:1::"),
    *("2001:0:7f00:1::1", "2001:0:808:808:0:0:8000:fffe", "2606:4700::5efe:7f00:1", "fd00::200:5efe:a9fe:a9fe"),
]


@pytest.mark.parametrize("address", PUBLIC + PRIVATE)
def test_a_machine_s_own_address_is_a_destination(address: str) -> None:
    assert is_destination(str(ipaddress.ip_address(address)))
    assert is_public(address) == (address in PUBLIC)


@pytest.mark.parametrize("address", NOWHERE)
def test_what_leads_to_no_other_machine_is_none_in_any_disguise(address: str) -> None:
    assert not is_destination(str(ipaddress.ip_address(address)))
    assert not is_public(str(ipaddress.ip_address(address)))
    try:
        node = Node(address)
    except ValidationError:  # no address of a machine at all
        return
    with pytest.raises(ValidationError):
        refuse_unreachable(node)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    settings: dict[str, Any] = {"join": "approval", "shortest_interval_seconds": 0.1}
    with Running(tmp_path_factory.mktemp("destinations") / "state", **settings) as coordinator:
        until(lambda: coordinator.call("GET", "/readyz")[0] == 200, "ready")
        yield coordinator


def put(running: Running, node_id: str, admission: str = "approved", **fields: Any) -> None:
    operator = running.operator_token()
    said = {"node": {"id": node_id, "ip_address": "192.0.2.7", "port": 9100, **fields}}
    assert running.call("PUT", f"/v1/nodes/{node_id}", said, operator)[0] == 200
    decided = {"admission": admission, "reason": "a reason"}
    if admission == "probation":  # as it comes
        return
    assert running.call("PUT", f"/v1/nodes/{node_id}/admission", decided, operator)[0] == 200


def targets(running: Running, query: str = "") -> dict[str, dict[str, str]]:
    status, _, found = running.call("GET", f"/v1/sd/prometheus{query}", token=running.operator_token())
    assert status == 200, found
    return {each["targets"][0]: each["labels"] for each in found}


def test_only_nodes_that_may_be_given_work_are_targets(running: Running) -> None:
    for number, admission in enumerate(("approved", "probation", "suspended", "banned")):
        put(running, admission, admission, ip_address=f"192.0.2.{number + 1}")
    put(running, "cordoned", ip_address="192.0.2.9")
    running.call("PUT", "/v1/nodes/cordoned/cordon", {"reason": "new disk"}, running.operator_token())
    assert set(targets(running)) >= {"192.0.2.1:9100", "192.0.2.2:9100"}
    assert not {"192.0.2.3:9100", "192.0.2.4:9100", "192.0.2.9:9100"} & set(targets(running, "?scrape_port=9100"))
    listed = {node["id"] for node in running.call("GET", "/v1/nodes", token=running.operator_token())[2]["nodes"]}
    assert listed >= {"approved", "probation", "suspended", "banned", "cordoned"}  # a list keeps every node


@pytest.mark.parametrize("address", [each for each in NOWHERE if each != WITHHELD_ADDRESS])
def test_no_list_sends_anybody_there(running: Running, address: str) -> None:
    try:
        kept = Node(address).ip_address
    except ValidationError:
        return  # it is refused as the address of a node
    put(running, "liar", ip_address=address, addresses=[address, "192.0.2.77"])
    operator = running.operator_token()
    for query in ("", "?scrape_port=9100"):
        assert not [target for target in targets(running, query) if kept in target]
        assert "liar" not in [labels["__meta_duxnet_node_id"] for labels in targets(running, query).values()]
    for path in ("/v1/nodes", "/v1/nodes/liar", "/v1/events?since=0"):
        assert f'"{kept}"' not in json.dumps(running.call("GET", path, token=operator)[2]), path
    shown = running.call("GET", "/v1/nodes/liar", token=operator)[2]
    assert shown["addresses"] == ["192.0.2.77"]


def test_ports_below_1024_are_targets_where_the_operator_says_so_only(running: Running) -> None:
    put(running, "low", ip_address="192.0.2.50", port=22)
    assert "192.0.2.50:22" not in targets(running)
    assert "192.0.2.50:80" in targets(running, "?scrape_port=80")


def test_the_settings_can_say_so(tmp_path_factory: pytest.TempPathFactory) -> None:
    state = tmp_path_factory.mktemp("low") / "state"
    with Running(state, low_ports=True, shortest_interval_seconds=0.1) as running:
        until(lambda: running.call("GET", "/readyz")[0] == 200, "ready")
        put(running, "low", ip_address="192.0.2.50", port=22)
        assert "192.0.2.50:22" in targets(running)


def test_tags_that_become_one_label_do_not_replace_the_one_that_has_the_name(running: Running) -> None:
    put(running, "tags", ip_address="192.0.2.60", tags={"a_b": "honest", "a-b": "x", "a.b": "y"})
    assert targets(running)["192.0.2.60:9100"]["__meta_duxnet_tag_a_b"] == "honest"


def test_judging_an_address_costs_a_list_little() -> None:
    begun = time.perf_counter()
    for _ in range(10_000):
        is_destination("192.0.2.7")
    assert time.perf_counter() - begun < 0.5
