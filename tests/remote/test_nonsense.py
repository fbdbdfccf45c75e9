"""What whoever answers at the coordinator's address may say: nothing of it is believed beyond its bound."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Callable

import httpx
import msgspec
import pytest
import respx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from registry_core.errors import DamagedStoreError, RefusedError, RegistryError, UnreachableError, ValidationError
from registry_core.identity.answer_signature import SignedAnswer, sign_answer
from registry_core.identity.coordinator_id import coordinator_id_of_key
from registry_core.identity.identity_files import ensure_identity
from registry_core.identity.keys import public_key_text, raw_public_key
from registry_core.identity.signatures import SignedRequest
from registry_core.models.node import Node
from registry_core.query.node_query import NodeQuery
from registry_core.remote import RemoteOptions, RemoteRegistry
from registry_core.wire.problems import KINDS, PROBLEM_MEDIA_TYPE, problem_type
from registry_core.wire.shapes import LAST_GENERATION, PROTOCOL, HeartbeatReply, RegistrationReply
from tests.remote.test_answers import FIRST, SECOND, a_problem

HEALTH: dict[str, Any] = {
    "load_average": 1.0,
    "memory_usage": 1.0,
    "disk_usage": 1.0,
    "last_heartbeat": None,
    "conditions": {},
}
BEAT = {"interval_seconds": 15.0, "health": HEALTH, "degraded": False}


def a_remote(*addresses: str, **more: Any) -> RemoteRegistry:
    return RemoteRegistry(addresses or (FIRST,), options=RemoteOptions(**more), sleep=lambda _seconds: None)


CALLS: list[Callable[[RemoteRegistry], object]] = [
    lambda remote: remote.count_nodes(),
    lambda remote: remote.get_node("a"),
    lambda remote: remote.list_nodes(),
    lambda remote: remote.get_reputation("a"),
    lambda remote: remote.explain_node("a", NodeQuery()),
    lambda remote: remote.update_node_health("a", 1.0),
    lambda remote: remote.update_node_reputation("a", True, task_id="t"),
    lambda remote: remote.register_node(Node("127.0.0.1", id="a")),
]

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.sampled_from([2**53, 10**400, -1, 1e300, 5e-324]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["nodes", "next", "count", "health", "score", "evidence", "failing", "id", "ip_address", "conditions"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(
    body=st.one_of(
        json_values.map(lambda value: json.dumps(value).encode()),
        st.binary(max_size=60),
        st.sampled_from(
            [b"[" * 100_000, b'{"a":' * 100_000, b'{"health":' + b"[" * 9000, b"9" * 9000, b'{"x":"\xff"}', b""]
        ),
    ),
    status=st.sampled_from([200, 201, 204, 299, 302, 400, 401, 403, 404, 409, 422, 429, 500, 502, 503, 507, 599]),
    media=st.sampled_from(["application/json", PROBLEM_MEDIA_TYPE, "", "text/html"]),
    call=st.sampled_from(CALLS),
)
def test_whatever_comes_back_is_a_value_or_one_of_our_errors_in_printable_words(
    body: bytes, status: int, media: str, call: Callable[[RemoteRegistry], object]
) -> None:
    with respx.mock as router, a_remote() as remote:
        router.route().mock(return_value=httpx.Response(status, headers={"content-type": media}, content=body))
        try:
            call(remote)
        except RegistryError as error:
            assert str(error).isprintable()  # noqa: PT017 - a value is as good as an error


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("interval_seconds", 1e300),
        ("interval_seconds", 901),
        ("interval_seconds", 0),
        ("interval_seconds", -5),
        ("interval_seconds", 1e-9),
        ("withheld", [{"condition": "c", "found": "f", "remedy": "r" * 1025}]),
        ("withheld", [{"condition": "c", "found": "f", "remedy": "r"}] * 65),
    ],
)
@respx.mock
def test_a_heartbeats_reply_beyond_a_limit_is_none(field: str, value: object) -> None:
    body = json.dumps({**BEAT, field: value}).encode()
    with pytest.raises(msgspec.ValidationError, match=field):
        msgspec.json.decode(body, type=HeartbeatReply)
    respx.put(f"{FIRST}/v1/nodes/a/heartbeat").mock(return_value=httpx.Response(200, content=body))
    with a_remote() as remote, pytest.raises(UnreachableError, match="does not answer like a coordinator"):
        remote.update_node_health("a", 1.0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("generation", 2**53),
        ("generation", -1),
        ("session", "two words"),
        ("session", "ü"),
        ("session", "line\nend"),
        ("session", "x" * 513),
        ("session_seconds", 1e300),
        ("session_seconds", -1),
        ("interval_seconds", 1e300),
        ("admission_reason", "x" * 1025),
    ],
)
def test_a_registrations_reply_beyond_a_limit_is_none(field: str, value: object) -> None:
    reply = {
        "node_id": "a",
        "generation": 1,
        "session": "a~1~2~seal",
        "session_seconds": 86400.0,
        "interval_seconds": 5.0,
        "admission": "approved",
        "admission_reason": "",
        "coordinator": "c1",
    }
    msgspec.json.decode(json.dumps(reply), type=RegistrationReply)
    with pytest.raises(msgspec.ValidationError, match=field):
        msgspec.json.decode(json.dumps({**reply, field: value}), type=RegistrationReply)


@pytest.mark.parametrize("cursors", [["same"], ["a", "b"]])
@respx.mock
def test_a_cursor_that_comes_again_is_an_error(cursors: list[str]) -> None:
    pages = [
        httpx.Response(200, json={"nodes": [], "next": cursors[number % len(cursors)]})
        for number in range(len(cursors) + 2)
    ]
    route = respx.get(f"{FIRST}/v1/nodes").mock(side_effect=pages)
    with a_remote() as remote, pytest.raises(UnreachableError, match="the list is endless"):
        remote.list_nodes()
    assert route.call_count == len(cursors) + 1


@respx.mock
def test_a_page_holds_no_more_nodes_than_were_wanted() -> None:
    nodes = [{"id": f"n{number}", "ip_address": "127.0.0.1"} for number in range(3)]
    respx.get(f"{FIRST}/v1/nodes").mock(return_value=httpx.Response(200, json={"nodes": nodes}))
    with a_remote() as remote:
        assert len(remote.list_nodes(limit=3)) == 3
        with pytest.raises(UnreachableError, match="nodes, but at most"):
            remote.list_nodes(limit=2)


@respx.mock
def test_a_large_error_page_of_a_proxy_is_known_by_its_status() -> None:
    respx.get(f"{FIRST}/v1/count").mock(return_value=httpx.Response(520, content=b"<html>" * 100_000))
    with a_remote() as remote, pytest.raises(UnreachableError, match="answered with status 520"):
        remote.count_nodes()


@pytest.mark.parametrize(
    ("said", "interval_seconds", "waits"),
    [("86400", 5.0, 60.0), ("999999", 5.0, 60.0), ("9" * 400, 5.0, 60.0), ("86400", 900.0, 3600.0), ("7", 5.0, 7.0)],
)
@respx.mock
def test_how_long_one_may_have_oneself_left_alone_is_bounded(said: str, interval_seconds: float, waits: float) -> None:
    respx.get(f"{FIRST}/v1/count").mock(return_value=httpx.Response(503, headers={"retry-after": said}))
    with a_remote(interval_seconds=interval_seconds) as remote:
        texts = set()
        for _ in range(3):
            with pytest.raises(UnreachableError) as raised:
                remote.count_nodes()
            assert raised.value.retry_after_seconds == pytest.approx(waits, abs=2)
            texts.add(str(raised.value))
    assert texts == {f"'{FIRST}': answered with status 503"}  # no number in it: it is logged once


@respx.mock
def test_a_wait_is_forgotten_when_told_so_and_is_no_other_addresss() -> None:
    wait = httpx.Response(503, headers={"retry-after": "3600"})
    first = respx.get(f"{FIRST}/v1/count").mock(return_value=wait)
    second = respx.get(f"{SECOND}/v1/count").mock(side_effect=httpx.ConnectError("refused"))
    with a_remote(FIRST, SECOND) as remote:
        with pytest.raises(UnreachableError):
            remote.count_nodes()
        asked = first.call_count
        second.mock(side_effect=None, return_value=httpx.Response(200, json={"count": 2}))
        assert remote.count_nodes() == 2
        assert first.call_count == asked
    with a_remote() as remote:
        with pytest.raises(UnreachableError):
            remote.count_nodes()
        first.mock(return_value=httpx.Response(200, json={"count": 1}))
        with pytest.raises(UnreachableError):
            remote.count_nodes()
        remote.forget_waits()
        assert remote.count_nodes() == 1


def a_node(folder: Path) -> Node:
    return Node("127.0.0.1", id=ensure_identity(folder).id)


def kept_generation(folder: Path) -> int:
    return int(json.loads((folder / "remote.json").read_bytes())["generation"])


class Coordinator:
    """Anybody can copy what a coordinator says in public; this one says of each registration what it is told to.

    `is_signed`: it has the coordinator's key, too.
    """

    def __init__(self, router: respx.MockRouter, answer: httpx.Response, *, is_signed: bool = False) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
        public = self._key.public_key()
        self.id = coordinator_id_of_key(raw_public_key(public))
        self._answer = answer
        info = {
            "id": self.id,
            "public_key": public_key_text(public),
            "version": "1",
            "join": "open",
            "public_network": False,
            "interval_seconds": 5.0,
            "retention_seconds": 1e5,
            "degraded": False,
            "protocol": PROTOCOL,
        }
        router.get(f"{FIRST}/v1/coordinator").mock(return_value=httpx.Response(200, json=info))
        self.route = router.put(url__startswith=f"{FIRST}/v1/nodes/")
        self.route.mock(side_effect=self._signed if is_signed else None, return_value=answer)

    def _signed(self, request: httpx.Request) -> httpx.Response:
        answer, headers = self._answer, dict(request.headers)
        asked = SignedRequest(
            "PUT", request.url.path, "", headers["content-type"], headers["duxnet-audience"], request.content
        )
        said = SignedAnswer(answer.status_code, answer.headers["content-type"], answer.content)
        proof = sign_answer(said, asked, headers, self._key, self.id, int(time.time()))
        more = [(name.encode(), value.encode()) for name, value in proof.items()]
        return httpx.Response(answer.status_code, headers=[*answer.headers.raw, *more], content=answer.content)


def stale(current: object) -> httpx.Response:
    body = {"type": problem_type("stale-generation"), "title": "t", "status": 409, "current_generation": current}
    return httpx.Response(409, headers={"content-type": PROBLEM_MEDIA_TYPE}, json=body)


@pytest.mark.parametrize("current", [LAST_GENERATION, LAST_GENERATION - 1, 2**40])
@pytest.mark.parametrize("is_signed", [True, False])
@respx.mock
def test_only_a_signed_refusal_raises_the_generation(current: int, is_signed: bool, tmp_path: Path) -> None:
    Coordinator(respx.mock, stale(current), is_signed=is_signed)
    with RemoteRegistry(FIRST, state_dir=tmp_path, sleep=lambda _seconds: None) as remote:
        with pytest.raises(RefusedError if is_signed else UnreachableError):
            remote.register_node(a_node(tmp_path))
        beyond = current + 1 if current < LAST_GENERATION else 1
        assert kept_generation(tmp_path) == (beyond if is_signed else 1)


@pytest.mark.parametrize("current", [-1, 2**53, 1e300, "x", None])
@pytest.mark.parametrize("is_signed", [True, False])
@respx.mock
def test_a_generation_that_is_none_changes_nothing(current: object, is_signed: bool, tmp_path: Path) -> None:
    Coordinator(respx.mock, stale(current), is_signed=is_signed)
    remote = RemoteRegistry(FIRST, state_dir=tmp_path, sleep=lambda _seconds: None)
    with remote, pytest.raises(RegistryError):
        remote.register_node(a_node(tmp_path))
    assert kept_generation(tmp_path) == 1


@pytest.mark.parametrize(
    "challenge", ['nonce="ü"', 'nonce="a\x80b"', 'nonce=""', 'nonce="' + "x" * 300 + '"', "nonce", 'nonce="a b"']
)
@respx.mock
def test_a_nonce_that_cannot_be_signed_is_none(challenge: str, tmp_path: Path) -> None:
    problem = a_problem("signature-time")
    headers = [*problem.headers.raw, (b"accept-signature", challenge.encode("latin-1"))]
    coordinator = Coordinator(respx.mock, httpx.Response(401, headers=headers, content=problem.content), is_signed=True)
    remote = RemoteRegistry(FIRST, state_dir=tmp_path, sleep=lambda _seconds: None)
    with remote, pytest.raises(RefusedError):
        remote.register_node(a_node(tmp_path))
    assert coordinator.route.call_count == 1


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_problems_texts_are_short_and_printable_and_hold_no_token(kind: str) -> None:
    token, session = "dux_operator_" + "s" * 43, "n1abc~12~1700000000~" + "s" * 22
    evil = f"\x1b[2J\x1b]0;owned\x07\u202e {token} {session}\nFAKE LOG LINE" + "x" * 50_000
    texts = ("title", "detail", "remedy", "field", "value", "rule")
    body = {"type": problem_type(kind), "status": KINDS[kind].status, **dict.fromkeys(texts, evil)}
    answer = httpx.Response(KINDS[kind].status, headers={"content-type": PROBLEM_MEDIA_TYPE}, json=body)
    with respx.mock as router, a_remote() as remote:
        router.route().mock(return_value=answer)
        for call in CALLS:
            try:
                call(remote)
            except RegistryError as error:
                assert str(error).isprintable()  # noqa: PT017 - a node that is not known is no error to all
                assert len(str(error)) < 5000  # noqa: PT017
                assert "ssss" not in str(error)  # noqa: PT017


def an_option(name: str, value: str) -> RemoteOptions:
    given: dict[str, Any] = {name: value}
    return RemoteOptions(**given)


@pytest.mark.parametrize("name", ["token", "join_token"])
def test_a_token_is_trimmed_and_one_that_no_header_carries_is_refused_unseen(name: str) -> None:
    good = "dux_reader_abc"
    for around in ("{}\n", "{}\r\n", " {}", "\t{} ", "{}\u2028"):
        assert getattr(an_option(name, around.format(good)), name) == good
    for bad in (f"{good}é", f"{good}\n{good}", f"{good} x", "\ufeff" + good, f"{good}\x00", good + "x" * 300):
        with pytest.raises(ValidationError, match=f"^{name}: ") as raised:
            an_option(name, bad)
        assert "dux_" not in str(raised.value)
        assert "dux_" not in repr(raised.value)


def test_a_generation_beyond_its_end_begins_anew(tmp_path: Path) -> None:
    """An agent of an earlier version may have written one down."""
    ensure_identity(tmp_path)
    with respx.mock as router:
        coordinator = Coordinator(router, stale(41), is_signed=True)
        for beyond in (LAST_GENERATION, LAST_GENERATION + 1, 2**60, -7):
            kept = {"schema": "duxnet.remote/1.0", "coordinator_id": coordinator.id, "generation": beyond}
            (tmp_path / "remote.json").write_text(json.dumps(kept))
            remote = RemoteRegistry(FIRST, state_dir=tmp_path, sleep=lambda _seconds: None)
            with remote, pytest.raises(RefusedError):
                remote.register_node(a_node(tmp_path))
            sent = [json.loads(call.request.content)["generation"] for call in coordinator.route.calls][-2:]
            assert sent == [1, 42]


WHOLE = {"schema": "duxnet.remote/1.0", "coordinator_id": "c1" + "a" * 52, "generation": 3}


@pytest.mark.parametrize(
    "kept",
    [
        *({name: value for name, value in WHOLE.items() if name != left_out} for left_out in WHOLE),
        {**WHOLE, "coordinatos_id": "c1" + "a" * 52},
        {**WHOLE, "schema": "duxnet.remote/2.0"},
        {**WHOLE, "coordinator_id": ""},
        {**WHOLE, "coordinator_id": "c1" + "A" * 52},
        {**WHOLE, "generation": "3"},
    ],
)
def test_a_file_that_would_unpin_the_coordinator_is_damaged(kept: dict[str, object], tmp_path: Path) -> None:
    ensure_identity(tmp_path)
    (tmp_path / "remote.json").write_text(json.dumps(kept))
    with pytest.raises(DamagedStoreError, match=r"remote\.json.*restore it from a backup, or remove it"):
        RemoteRegistry(FIRST, state_dir=tmp_path)


@pytest.mark.parametrize(
    "order",
    [
        lambda remote: remote.deregister_node("n1a"),
        lambda remote: remote.admin.ban("n1a", reason="x"),
        lambda remote: remote.admin.cordon("n1a", reason="x"),
        lambda remote: remote.register_node(Node("192.0.2.1", id="n1a")),
    ],
)
@respx.mock
def test_a_page_that_answers_well_to_everything_has_done_nothing(order: Callable[[RemoteRegistry], object]) -> None:
    respx.route().mock(return_value=httpx.Response(200, html="<html>Please sign in to the network"))
    with a_remote() as remote, pytest.raises(UnreachableError, match="does not answer like a coordinator"):
        order(remote)
