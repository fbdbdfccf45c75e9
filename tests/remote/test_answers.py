"""What the client makes of answers that no real coordinator gives on demand: busy, broken, foreign, or none."""

from __future__ import annotations

from typing import Any

import httpx
import msgspec
import pytest
import respx

from registry_core.errors import (
    EventsCompacted,
    NotSupportedError,
    RefusedError,
    RegistryError,
    StoreError,
    UnknownNodeError,
    UnreachableError,
    ValidationError,
)
from registry_core.remote import RemoteOptions, RemoteRegistry
from registry_core.remote.answers import Answer, raise_for
from registry_core.wire.problems import KINDS, PROBLEM_MEDIA_TYPE, Problem, problem_type

FIRST, SECOND = "http://127.0.0.1:1001", "http://127.0.0.1:1002"

EXPECTED: dict[str, type[RegistryError]] = {
    "unknown-node": UnknownNodeError,
    "invalid": ValidationError,
    "malformed": ValidationError,
    "too-large": ValidationError,
    "wrong-content-type": ValidationError,
    "headers-too-large": ValidationError,
    "busy": UnreachableError,
    "warming-up": UnreachableError,
    "too-many-requests": UnreachableError,
    "internal": UnreachableError,
    "store-failed": StoreError,
    "disk-full": StoreError,
    "events-compacted": EventsCompacted,
    "not-supported": NotSupportedError,
    "unknown-parameter": NotSupportedError,
    "unknown-address": NotSupportedError,
    "method-not-allowed": NotSupportedError,
}


def a_problem(name: str, **headers: str) -> httpx.Response:
    kind = KINDS[name]
    body = msgspec.json.encode(Problem(problem_type(name), kind.title, kind.status, "the detail", kind.remedy))
    return httpx.Response(kind.status, headers={"content-type": PROBLEM_MEDIA_TYPE, **headers}, content=body)


def a_remote(*addresses: str, interval_seconds: float = 15.0) -> tuple[RemoteRegistry, list[float]]:
    slept: list[float] = []
    options = RemoteOptions(token="dux_operator_x", interval_seconds=interval_seconds)
    return RemoteRegistry(addresses or (FIRST,), options=options, sleep=slept.append), slept


@pytest.mark.parametrize("name", sorted(KINDS))
def test_every_kind_of_problem_becomes_its_own_error(name: str) -> None:
    response = a_problem(name)
    answer = Answer(FIRST, response.status_code, PROBLEM_MEDIA_TYPE, None, "", response.content)
    with pytest.raises(EXPECTED.get(name, RefusedError)) as raised:
        raise_for(answer, "a")
    assert raised.type is EXPECTED.get(name, RefusedError)
    if raised.type is RefusedError:
        assert KINDS[name].remedy in str(raised.value)


@pytest.mark.parametrize(
    ("response", "error"),
    [
        (httpx.Response(502, text="<html>Bad Gateway"), UnreachableError),
        (httpx.Response(403, text="<html>Forbidden"), RefusedError),
        (httpx.Response(401, json={"error": "login"}), RefusedError),
        (httpx.Response(302, headers={"location": "https://login.example"}), UnreachableError),
        (httpx.Response(200, text="hello"), UnreachableError),
        (httpx.Response(200, json={"nodes": "?"}), UnreachableError),
        (httpx.Response(404, headers={"content-type": PROBLEM_MEDIA_TYPE}, text="{"), UnreachableError),
    ],
)
@respx.mock
def test_what_is_no_coordinator_is_told_apart(response: httpx.Response, error: type[RegistryError]) -> None:
    respx.get(f"{FIRST}/v1/nodes").mock(return_value=response)
    remote, _ = a_remote()
    with pytest.raises(error):
        remote.list_nodes()


@respx.mock
def test_a_condition_that_an_older_coordinator_does_not_know_is_told_so() -> None:
    respx.get(f"{FIRST}/v1/nodes").mock(return_value=a_problem("unknown-parameter"))
    remote, slept = a_remote()
    with pytest.raises(NotSupportedError, match="the coordinator is older than this client"):
        remote.list_nodes(min_uptime_probability=0.5)
    assert slept == []


@respx.mock
def test_a_busy_coordinator_is_asked_again_when_it_said() -> None:
    route = respx.get(f"{FIRST}/v1/count")
    route.mock(side_effect=[a_problem("busy", **{"retry-after": "3"}), httpx.Response(200, json={"count": 7})])
    remote, slept = a_remote()
    assert remote.count_nodes() == 7
    assert slept[0] >= 3


@respx.mock
def test_a_wait_longer_than_the_interval_is_handed_to_the_caller_and_kept() -> None:
    route = respx.get(f"{FIRST}/v1/count").mock(return_value=a_problem("too-many-requests", **{"retry-after": "600"}))
    remote, slept = a_remote()
    for _ in range(2):
        with pytest.raises(UnreachableError) as raised:
            remote.count_nodes()
        assert raised.value.retry_after_seconds == pytest.approx(60, abs=5)
    assert slept == []
    assert route.call_count == 1  # it asked to be left alone


@respx.mock
def test_several_addresses_are_tried_in_order_and_the_one_that_answers_is_kept() -> None:
    first = respx.get(f"{FIRST}/v1/count").mock(side_effect=httpx.ConnectError("refused"))
    second = respx.get(f"{SECOND}/v1/count").mock(return_value=httpx.Response(200, json={"count": 1}))
    remote, slept = a_remote(FIRST, SECOND)
    assert remote.count_nodes() == remote.count_nodes() == 1
    assert (first.call_count, second.call_count) == (1, 2)
    assert slept == []


@pytest.mark.parametrize("status", [502, 504])
@respx.mock
def test_a_proxy_that_does_not_reach_the_coordinator_is_passed_over_as_an_address_that_is_silent(status: int) -> None:
    first = respx.get(f"{FIRST}/v1/count").mock(return_value=httpx.Response(status, text="<html>Bad Gateway"))
    second = respx.get(f"{SECOND}/v1/count").mock(return_value=httpx.Response(200, json={"count": 1}))
    remote, slept = a_remote(FIRST, SECOND)
    assert remote.count_nodes() == remote.count_nodes() == 1
    assert (first.call_count, second.call_count) == (1, 2)
    assert slept == []


@respx.mock
def test_pauses_between_attempts_are_drawn_and_end() -> None:
    route = respx.get(f"{FIRST}/v1/count").mock(side_effect=httpx.ConnectError("refused"))
    remote, slept = a_remote()
    with pytest.raises(UnreachableError, match="cannot be reached"):
        remote.count_nodes()
    assert route.call_count == 3
    assert all(0 <= pause <= 2 for pause in slept)


@pytest.mark.parametrize(
    ("came", "said"),
    [
        ({"side_effect": httpx.ReadTimeout("slow")}, "did not answer in time"),
        ({"return_value": httpx.Response(504, text="<html>Gateway Time-out")}, "status 504"),
    ],
    ids=["nothing", "a proxy's word"],
)
@respx.mock
def test_an_outcome_that_may_have_been_counted_is_not_told_twice(came: dict[str, Any], said: str) -> None:
    route = respx.post(f"{FIRST}/v1/nodes/a/outcomes").mock(**came)
    remote, _ = a_remote()
    with pytest.raises(UnreachableError, match=said):
        remote.update_node_reputation("a", True)
    assert route.call_count == 1


@pytest.mark.parametrize(
    "addresses",
    [
        "",
        "ftp://x",
        "http://",
        "http://u:p@127.0.0.1",
        "http://127.0.0.1:0",
        "http://127.0.0.1/?x",
        "http://x y",
        "http://ü",
    ],
)
def test_an_address_that_is_none_is_refused(addresses: Any) -> None:
    with pytest.raises(ValidationError, match="registry"):
        RemoteRegistry(addresses)


def test_plain_http_beyond_this_machine_must_be_allowed() -> None:
    for address in ("http://192.0.2.1", "http://registry.example"):
        with pytest.raises(ValidationError, match="https://"):
            RemoteRegistry(address)
        RemoteRegistry(address, options=RemoteOptions(allow_plaintext=True)).close()
    for address in ("http://localhost:8410", "http://[::1]:8410", "http://127.0.0.2", "https://registry.example"):
        RemoteRegistry(address).close()


def test_tokens_do_not_stand_in_what_is_printed() -> None:
    assert "dux_" not in repr(RemoteOptions(token="dux_operator_x", join_token="dux_join_y"))
