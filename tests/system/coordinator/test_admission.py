"""Who gets in, who may do what, and what is written down about it: against real coordinators."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import stat
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from duxnet.coordinator.access.forwarding import Forwarding
from duxnet.coordinator.access.roles import Caller
from duxnet.coordinator.admission.networks import is_counted, network_of
from duxnet.coordinator.settings import CoordinatorSettings
from registry_core.embedded.node_registry import NodeRegistry
from registry_core.identity.wallets import proof_message
from registry_core.models.node import Node
from tests.support.coordinators import Running
from tests.support.ethereum import Wallet
from tests.support.processes import command, duxnet, duxnet_process, environment, until
from tests.support.requirements import need_program
from tests.system.coordinator.test_identity import Signer, kind

REQUEST = (
    "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost "
    "-addext subjectAltName=DNS:localhost,IP:127.0.0.1"
)


@pytest.fixture(scope="module")
def open_one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(tmp_path_factory.mktemp("open") / "state") as running:
        yield running


def token(running: Running, role: str, *flags: object) -> str:
    made = duxnet("token", "create", role, "--state-dir", running.state_dir, *flags)
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


def test_a_join_token_lets_in_as_many_nodes_as_it_says_and_a_lost_answer_can_be_repeated(tmp_path: Path) -> None:
    with Running(tmp_path / "state", join="token") as running:
        first, second, third = (Signer(running) for _ in range(3))
        assert kind(first.register(1)) == "join-token"
        once = token(running, "join")
        body = first.body(2, join_token=once)
        assert first.send(body, first.headers(body))[0] == 200
        assert first.send(body, first.headers(body))[0] == 200  # the answer was lost: the same words again
        assert first.register(3, join_token=once)[0] == 200
        assert first.register(4)[0] == 200  # a node that is in needs no token
        assert kind(second.register(1, join_token=once)) == "join-token"
        twice = token(running, "join", "--uses", 2)
        assert second.register(2, join_token=twice)[0] == 200
        assert third.register(1, join_token=twice)[0] == 200
        assert kind(Signer(running).register(1, join_token=twice)) == "join-token"
        revoked = token(running, "join")
        number = json.loads(duxnet("token", "list", "--format", "json", "--state-dir", running.state_dir).stdout)[
            "tokens"
        ][-1]["id"]
        assert duxnet("token", "revoke", number, "--state-dir", running.state_dir).returncode == 0
        assert kind(Signer(running).register(1, join_token=revoked)) == "join-token"
        expired = token(running, "join", "--hours", 0.0000001)
        assert kind(Signer(running).register(1, join_token=expired)) == "join-token"
        for secret in (once, twice):
            for path in running.state_dir.iterdir():
                assert secret.encode() not in path.read_bytes(), path


def test_a_refused_registration_uses_up_no_join_token(tmp_path: Path) -> None:
    with Running(tmp_path / "state", join="token") as running:
        once = token(running, "join")
        too_large = {"extra_of_mine": ["x" * 100] * 200}  # found out where the record is made
        assert kind(Signer(running).register(1, join_token=once, node=too_large)) == "invalid"
        assert Signer(running).register(1, join_token=once)[0] == 200


def test_a_node_that_is_banned_while_it_registers_gets_no_session(open_one: Running) -> None:
    operator = open_one.operator_token()
    signer, other = Signer(open_one), Signer(open_one)
    assert signer.register(1)[0] == other.register(1)[0] == 200
    another = sqlite3.connect(open_one.state_dir / "nodes.db", isolation_level=None)
    with ThreadPoolExecutor(3) as pool, closing(another):
        another.execute("BEGIN IMMEDIATE")  # so that what is committed waits, less than the five seconds that it may
        answers = []
        for ask in (
            lambda: open_one.call("DELETE", f"/v1/nodes/{other.node_id}", token=operator),
            lambda: open_one.call("PUT", f"/v1/nodes/{signer.node_id}/admission", {"admission": "banned"}, operator),
            lambda: signer.register(2),
        ):
            answers.append(pool.submit(ask))
            time.sleep(0.3)  # the next comes after it
        another.execute("ROLLBACK")
        removed, banned, registered = (answer.result() for answer in answers)
    assert (removed[0], banned[0], kind(registered)) == (204, 200, "banned")


def test_under_approval_a_node_waits_and_an_operator_lets_it_in(tmp_path: Path) -> None:
    with Running(tmp_path / "state", join="approval") as running:
        signer = Signer(running)
        reply = signer.register()[2]
        assert (reply["admission"], reply["admission_reason"]) == ("pending", "approval")
        path = f"/v1/nodes/{signer.node_id}"
        assert running.call("GET", path)[2]["is_ready"] is False
        operator = running.operator_token()
        shown = running.call("PUT", f"{path}/admission", {"admission": "approved"}, operator)[2]
        assert (shown["admission"], shown["is_ready"]) == ("approved", True)


def test_a_banned_node_speaks_no_more_and_stays_banned_after_removal(open_one: Running) -> None:
    signer, operator = Signer(open_one), open_one.operator_token()
    session = signer.register()[2]["session"]
    path = f"/v1/nodes/{signer.node_id}"
    assert open_one.call("PUT", f"{path}/heartbeat", {"sequence": 1}, session)[0] == 200
    banned = open_one.call("PUT", f"{path}/admission", {"admission": "banned", "reason": "fake GPUs"}, operator)
    assert banned[2]["admission"] == "banned"
    assert kind(open_one.call("PUT", f"{path}/heartbeat", {"sequence": 2}, session)) == "banned"
    assert kind(signer.register(2)) == "banned"
    assert open_one.call("DELETE", path, token=operator)[0] == 204
    refused = signer.register(3)
    assert kind(refused) == "banned"
    assert refused[2]["detail"] == "fake GPUs"


def test_each_role_may_do_what_is_its_own_and_no_more(open_one: Running) -> None:
    signer, operator = Signer(open_one), open_one.operator_token()
    signer.register(1, node={"wallet_address": "0xabc"})
    path = f"/v1/nodes/{signer.node_id}"
    reader, rater = token(open_one, "reader"), token(open_one, "rater")
    own = token(open_one, "rater", "--wallet", "0xABC")
    assert "ip_address" in open_one.call("GET", path, token=reader)[2]
    assert "ip_address" not in open_one.call("GET", path)[2]
    for allowed in (rater, operator):
        assert open_one.call("POST", f"{path}/outcomes", {"success": True}, allowed)[0] == 200
    for forbidden, wanted in ((reader, "not-allowed"), (own, "not-allowed"), ("", "token-required")):
        assert kind(open_one.call("POST", f"{path}/outcomes", {"success": True}, forbidden)) == wanted
    for forbidden, wanted in ((reader, "not-allowed"), (rater, "not-allowed"), ("", "token-required")):
        assert kind(open_one.call("PUT", f"{path}/admission", {"admission": "approved"}, forbidden)) == wanted
        assert kind(open_one.call("PUT", f"{path}/cordon", {"reason": "x"}, forbidden)) == wanted
        assert kind(open_one.call("DELETE", path, token=forbidden)) == wanted
        answer = open_one.call("PUT", f"{path}/heartbeat", {"load_average": 1.0}, forbidden)
        assert kind(answer) == wanted
    for nonsense in ("dux_operator_x", "dux_" + "é", "x" * 300, operator + "x", operator[:-1]):
        assert open_one.call("GET", path, headers={"Authorization": f"Bearer {nonsense}"})[0] == 401


def test_a_rater_speaks_in_no_other_name_and_an_operator_in_any(open_one: Running) -> None:
    signer, operator = Signer(open_one), open_one.operator_token()
    signer.register(1)
    path = f"/v1/nodes/{signer.node_id}/outcomes"
    rater = token(open_one, "rater")
    listed = json.loads(duxnet("token", "list", "--format", "json", "--state-dir", open_one.state_dir).stdout)
    own = f"token:{listed['tokens'][-1]['id']}"
    for named in ("some-node", signer.node_id, own + "0", own.upper(), "token:1"):
        refused = open_one.call("POST", path, {"success": True, "rater": named}, rater)
        assert kind(refused) == "not-allowed", named
        assert own in refused[2]["detail"]
    logged = (open_one.state_dir / "audit.jsonl").read_text()
    assert signer.node_id not in [json.loads(line).get("rater") for line in logged.splitlines()]
    assert open_one.call("POST", path, {"success": True, "rater": own}, rater)[0] == 200
    assert open_one.call("POST", path, {"success": True, "rater": None}, rater)[0] == 200
    assert open_one.call("POST", path, {"success": True, "rater": "some-node"}, operator)[0] == 200


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("0xAbC1", "0xabc1", True),
        ("0XABC1", "0xabc1", True),
        ("0xabc1", "0xabc2", False),
        ("0xabcG", "0xabcg", False),
        ("bc1Q", "bc1q", False),
        ("bc1Q", "bc1Q", True),
    ],
)
def test_wallets_in_hex_are_compared_without_their_case(one: str, other: str, same: bool) -> None:
    assert Caller("rater", "token 1 (rater)", one).owns(other) is same


def test_a_rater_of_no_wallet_owns_no_node() -> None:
    assert not Caller("rater", "token 1 (rater)").owns("")


def test_a_cordon_is_given_with_its_reason_and_lifted(open_one: Running) -> None:
    signer, operator = Signer(open_one), open_one.operator_token()
    signer.register()
    path = f"/v1/nodes/{signer.node_id}"
    order = {"reason": "new disk", "until": "2099-01-01T00:00:00.000Z"}
    cordoned = open_one.call("PUT", f"{path}/cordon", order, operator)[2]
    assert (cordoned["scheduling"], cordoned["cordon"]["reason"], cordoned["is_ready"]) == (
        "cordoned",
        "new disk",
        False,
    )
    explained = open_one.call("GET", f"{path}/explain?only_healthy=true&min_cpu_cores=4")[2]
    assert {item["condition"] for item in explained["failing"]} == {"scheduling", "cpu_cores"}
    assert all(item["remedy"] for item in explained["failing"])
    assert open_one.call("DELETE", f"{path}/cordon", token=operator)[2]["is_ready"] is True
    assert open_one.call("GET", f"{path}/explain?only_healthy=true")[2] == {"selected": True, "failing": []}


def test_the_audit_log_names_who_did_what_and_no_address_or_secret(open_one: Running) -> None:
    signer, operator = Signer(open_one), open_one.operator_token()
    signer.register()
    path = f"/v1/nodes/{signer.node_id}"
    open_one.call("PUT", f"{path}/admission", {"admission": "suspended", "reason": "maintenance"}, operator)
    assert open_one.call("PUT", f"{path}/admission", {"admission": "suspended", "reason": "\x07"}, operator)[0] == 422
    open_one.call("POST", f"{path}/outcomes", {"success": False}, operator)
    assert open_one.call("POST", f"{path}/outcomes", {"success": False, "weight": 99}, operator)[0] == 422
    open_one.call("DELETE", path, token=operator)
    text = (open_one.state_dir / "audit.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    mine = [(line["actor"], line["action"]) for line in lines if line["node_id"] == signer.node_id]
    assert mine == [
        (f"node {signer.node_id}", "registered"),
        ("token 1 (operator)", "admission suspended"),
        ("token 1 (operator)", "outcome"),
        ("token 1 (operator)", "removed"),
    ]
    assert "127.0.0.1" not in text
    assert operator not in text


def test_secrets_are_for_their_owner_only(open_one: Running) -> None:
    for path in open_one.state_dir.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    assert open_one.operator_token() not in open_one.output()
    assert (open_one.state_dir / "coordinator.db").read_bytes().find(open_one.operator_token().encode()) == -1


def test_on_a_public_network_unreachable_addresses_are_refused(tmp_path: Path) -> None:
    with Running(tmp_path / "state", public_network=True) as running:
        for address in (
            "192.0.2.1",
            "10.0.0.1",
            "127.0.0.1",
            "100.64.0.1",
            "fe80::1",
            "::",
            "224.0.0.1",
            "2001:db8::1",
        ):
            answer = Signer(running).register(node={"ip_address": address})
            assert kind(answer) == "invalid", address
            assert answer[2]["field"] == "ip_address"
        assert Signer(running).register(node={"ip_address": "93.184.215.14"})[0] == 200


def test_beyond_a_quota_nodes_are_taken_but_wait(tmp_path: Path) -> None:
    settings = {"nodes_per_address": 2, "proxies": '["127.0.0.0/8"]', "join": "open"}
    with Running(tmp_path / "state", **settings) as running:  # type: ignore[arg-type]  # settings by name

        def from_address(address: str) -> str:
            signer = Signer(running)
            body = signer.body()
            reply = signer.send(body, {**signer.headers(body), "X-Forwarded-For": address})[2]
            return f"{reply['admission']} {reply['admission_reason']}".strip()

        assert [from_address("93.184.215.14") for _ in range(3)] == ["probation", "probation", "pending quota"]
        assert from_address("93.184.215.15") == "probation"
        assert [from_address("10.0.0.9") for _ in range(3)] == ["probation"] * 3  # private ones are never counted


@pytest.mark.slow
def test_a_quota_knows_after_a_restart_who_was_there_and_counts_nobody_twice(tmp_path: Path) -> None:
    settings = {"nodes_per_address": 3, "proxies": '["127.0.0.0/8"]', "join": "open"}
    running = Running(tmp_path / "state", **settings)  # type: ignore[arg-type]  # settings by name

    def register(signer: Signer, generation: int = 1) -> str:
        body = signer.body(generation)
        status, headers, reply = signer.send(body, {**signer.headers(body), "X-Forwarded-For": "93.184.215.14"})
        if status == 503:  # it counts yet
            assert headers["retry-after"].isdigit()
            return "later"
        return f"{reply['admission']} {reply['admission_reason']}".strip()

    with running:
        signers = [Signer(running) for _ in range(3)]
        assert [register(signer) for signer in signers] == ["probation"] * 3
        operator = running.operator_token()
    with running:  # the same state, another process
        for generation in (2, 3):
            assert [register(signer, generation) for signer in signers[:2]] == ["probation"] * 2
        newcomers = [Signer(running) for _ in range(2)]
        assert until(lambda: (said := register(newcomers[0])) != "later" and said, "counted") == "pending quota"
        assert running.call("DELETE", f"/v1/nodes/{newcomers[0].node_id}", token=operator)[0] == 204
        assert running.call("DELETE", f"/v1/nodes/{signers[2].node_id}", token=operator)[0] == 204
        assert register(newcomers[1]) == "probation"  # two of three


def test_beyond_its_quota_a_proven_wallet_gets_no_more_ready_nodes(tmp_path: Path) -> None:
    wallet = Wallet(31)
    with Running(tmp_path / "state", nodes_per_wallet=2) as running:
        operator = running.operator_token()

        def prove(*, approved: bool = False) -> str:
            signer = Signer(running)
            signer.register(node={"wallet_address": wallet.address})
            path = f"/v1/nodes/{signer.node_id}"
            if approved:
                running.call("PUT", f"{path}/admission", {"admission": "approved"}, operator)
            proof = {"signature": wallet.sign(proof_message(signer.node_id))}
            assert running.call("PUT", f"{path}/wallet-proof", proof, operator)[0] == 200
            node = running.call("GET", path)[2]
            return f"{node['admission']} {node['admission_reason']} {node['is_ready']}"

        assert [prove(), prove()] == ["probation  True"] * 2
        assert prove() == "pending quota False"
        assert prove(approved=True) == "approved  True"  # an operator has said so
        stranger = Signer(running).register(node={"wallet_address": wallet.address})[2]
        assert stranger["admission"] == "probation"  # who only names it is of no wallet


def test_a_quota_holds_for_many_at_once_and_for_nodes_that_move(tmp_path: Path) -> None:
    settings = {"nodes_per_address": 2, "proxies": '["127.0.0.0/8"]', "join": "open"}
    with Running(tmp_path / "state", **settings) as running:  # type: ignore[arg-type]  # settings by name

        def send(signer: Signer, generation: int, address: str) -> dict[str, str]:
            body = signer.body(generation)
            reply: dict[str, str] = signer.send(body, {**signer.headers(body), "X-Forwarded-For": address})[2]
            return reply

        signers = [Signer(running) for _ in range(12)]
        with ThreadPoolExecutor(12) as threads:
            replies = list(threads.map(lambda signer: send(signer, 1, "93.184.215.14"), signers))
        assert sorted(reply["admission"] for reply in replies) == ["pending"] * 10 + ["probation"] * 2
        mover = Signer(running)
        send(mover, 1, "93.184.216.1")
        assert send(Signer(running), 1, "93.184.217.1")["admission"] == "probation"
        moved = send(mover, 2, "93.184.217.1")
        assert running.call("DELETE", f"/v1/nodes/{mover.node_id}", token=moved["session"])[0] == 204
        assert [send(Signer(running), 1, "93.184.217.1")["admission"] for _ in range(2)] == ["probation", "pending"]


@pytest.mark.slow
def test_after_a_restart_a_node_that_is_faster_than_the_count_is_counted_once(tmp_path: Path) -> None:
    settings = {"nodes_per_address": 2, "proxies": '["127.0.0.0/8"]', "join": "open"}
    running = Running(tmp_path / "state", **settings)  # type: ignore[arg-type]  # settings by name

    def send(signer: Signer, generation: int, address: str) -> dict[str, str]:
        body = signer.body(generation)
        reply: dict[str, str] = signer.send(body, {**signer.headers(body), "X-Forwarded-For": address})[2]
        return reply

    def let_in(signer: Signer, address: str) -> dict[str, str]:
        """As a newcomer, who is asked to come again until all others are counted."""

        def asked() -> dict[str, str]:
            reply = send(signer, 1, address)
            return reply if "admission" in reply else {}

        return until(asked, "let in")

    def is_full(address: str) -> bool:
        reply = let_in(Signer(running), address)
        running.call("DELETE", f"/v1/nodes/{reply['node_id']}", token=reply["session"])
        return reply["admission"] == "pending"

    with running:
        pass
    with NodeRegistry(tmp_path / "state" / "nodes.db") as registry, registry.batch():
        for number in range(20_000):  # they are counted first, which takes a second
            registry.register_node(Node("127.0.0.1", id=f"n{number}"))
    with running:
        early = Signer(running)
        let_in(early, "93.184.216.1")
        for _ in range(2):
            let_in(Signer(running), "93.184.217.1")
    with running:
        assert send(early, 2, "93.184.216.1")["admission"] == "probation"  # who was there does not wait
        newcomer = send(Signer(running), 1, "93.184.217.1")
        assert newcomer["type"].endswith(":busy")  # how many there are from here is not known yet
        assert is_full("93.184.217.1")
        assert not is_full("93.184.216.1")


@pytest.mark.parametrize(
    ("connection", "allowed"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("10.0.0.1", True),
        ("::ffff:10.0.0.1", True),
        ("192.0.2.7", False),
        ("::ffff:192.0.2.7", False),
        ("fe80::1%eth0", False),
        ("testclient", False),
    ],
)
def test_plain_http_is_for_loopback_and_configured_proxies(connection: str, allowed: bool) -> None:
    forwarding = Forwarding(CoordinatorSettings(proxies=["10.0.0.0/8"]).proxy_networks())
    assert forwarding.may_speak_plainly(connection) is allowed


def test_a_peer_that_is_no_proxy_gets_no_answer_but_a_refusal_over_plain_http(tmp_path: Path) -> None:
    outside = own_address()
    with Running(tmp_path / "state", host="0.0.0.0", proxies=["192.0.2.1"], join="open") as running:
        operator = running.operator_token()
        local = f"http://127.0.0.1:{running.port}"
        running.address = local
        assert running.call("GET", "/v1/nodes", token=operator)[0] == 200
        running.address = f"http://{outside}:{running.port}"
        for method, path in (
            ("GET", "/v1/nodes"),
            ("GET", "/healthz"),
            ("PUT", "/v1/nodes/some/heartbeat"),
            ("PUT", "/v1/nodes/some"),
            ("POST", "/v1/nodes/some/outcomes"),
        ):
            raw = None if method == "GET" else b"{not json"
            for sent in (operator, "dux_operator_wrong"):
                headers = {"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "https"}
                answer = running.call(method, path, token=sent, raw=raw, headers=headers)
                assert answer[0] == 403, (method, path)
                assert kind(answer) == "plaintext"
                assert "https" in answer[2]["remedy"]
                assert answer[1]["content-type"] == "application/problem+json"


def own_address() -> str:
    """An address of this machine beyond loopback; no packet is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no address beyond loopback")
        address: str = probe.getsockname()[0]
        return address


def test_networks_are_counted_as_documented() -> None:
    for shared in ("127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "100.64.0.1", "::1", "fe80::1", "fd00::1"):
        assert not is_counted(shared), shared
    assert is_counted("93.184.215.14")
    assert is_counted("2606:4700::1")
    assert network_of("93.184.215.14") == "93.184.215.0/24"
    assert network_of("2606:4700:1:2::1") == "2606:4700:1::/48"
    assert network_of("2606:4700:1:2::1", quota=True) == "2606:4700:1:2::/64"


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({"DUXNET_COORDINATOR__HOST": "0.0.0.0"}, "needs TLS"),
        ({"DUXNET_COORDINATOR__TLS_KEY": "/x"}, "must be set together"),
        ({"DUXNET_COORDINATOR__PORT": "99999"}, "coordinator.port"),
        ({"DUXNET_COORDINATOR__PROXIES": '["not a network"]'}, "coordinator.proxies"),
        ({"DUXNET_COORDINATOR__JOIN": "maybe"}, "coordinator.join"),
        ({"DUXNET_COORDINATOR__PROXYS": "[]"}, "did you mean proxies?"),
        ({"DUXNET_COORDINATOR__RETENTION_HOURS": "nan"}, "coordinator.retention_hours"),
    ],
)
def test_a_bad_setting_is_one_clear_line(tmp_path: Path, environ: dict[str, str], wanted: str) -> None:
    refused = duxnet("coordinator", "--state-dir", tmp_path / "state", **environ)
    assert refused.returncode == 78, refused.stderr
    assert wanted in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / "state").exists()


@pytest.mark.slow
def test_a_port_in_use_a_missing_certificate_and_a_lost_key_are_told(tmp_path: Path, open_one: Running) -> None:
    for flags, environ, wanted in (
        (["--port", open_one.port], {}, "Address already in use"),
        (
            ["--port", 0],
            {"DUXNET_COORDINATOR__TLS_CERTIFICATE": "/nowhere", "DUXNET_COORDINATOR__TLS_KEY": "/nowhere"},
            "/nowhere",
        ),
    ):
        refused = duxnet_process("coordinator", "--state-dir", tmp_path / "state", *flags, **environ)
        assert refused.returncode == 1, refused.stderr
        assert wanted in refused.stderr
        assert "Traceback" not in refused.stderr
    with Running(tmp_path / "lost"):
        pass
    (tmp_path / "lost" / "coordinator.key").unlink()
    refused = duxnet_process("coordinator", "--state-dir", tmp_path / "lost", "--port", 0)
    assert refused.returncode == 1
    assert "nodes would not recognise this coordinator" in refused.stderr
    assert not (tmp_path / "lost" / "coordinator.key").exists()


@pytest.mark.slow
def test_over_tls_a_node_trusts_the_ca_file_and_nothing_else(tmp_path: Path) -> None:
    openssl = need_program("openssl", "openssl")
    key, certificate = tmp_path / "tls.key", tmp_path / "tls.crt"
    made = subprocess.run(
        [openssl, *REQUEST.split(), "-keyout", str(key), "-out", str(certificate)],
        capture_output=True,
    )
    assert made.returncode == 0, made.stderr
    settings = {"tls_certificate": str(certificate), "tls_key": str(key)}
    with Running(tmp_path / "state", **settings) as running:  # type: ignore[arg-type]  # settings by name
        assert running.address.startswith("https://")
        untrusted = duxnet("nodes", "list", "--registry", running.address)
        assert untrusted.returncode == 1
        assert "not trusted" in untrusted.stderr
        assert "set ca_file to the file of its CA" in untrusted.stderr
        trusted = duxnet("nodes", "list", "--registry", running.address, DUXNET_REGISTRY__CA_FILE=str(certificate))
        assert trusted.returncode == 0, trusted.stderr
        plain = duxnet("nodes", "list", "--registry", running.address.replace("https:", "http:"))
        assert "if the server uses TLS, use https://" in plain.stderr
    given = {"DUXNET_COORDINATOR__TLS_CERTIFICATE": str(certificate), "DUXNET_COORDINATOR__TLS_KEY": "/nowhere.key"}
    refused = duxnet_process("coordinator", "--state-dir", tmp_path / "state", "--port", 0, **given)
    assert "'/nowhere.key': cannot be used: No such file" in refused.stderr


def test_a_certificate_for_another_name_is_not_blamed_on_the_ca(tmp_path: Path) -> None:
    openssl = need_program("openssl", "openssl")
    key, certificate = tmp_path / "tls.key", tmp_path / "tls.crt"
    request = REQUEST.replace("DNS:localhost,IP:127.0.0.1", "DNS:elsewhere")
    subprocess.run(
        [openssl, *request.split(), "-keyout", str(key), "-out", str(certificate)], capture_output=True, check=True
    )
    settings = {"tls_certificate": str(certificate), "tls_key": str(key)}
    with Running(tmp_path / "state", **settings) as running:  # type: ignore[arg-type]  # settings by name
        asked = duxnet("nodes", "list", "--registry", running.address, DUXNET_REGISTRY__CA_FILE=str(certificate))
        assert "not valid for '127.0.0.1'); issue it for that name" in asked.stderr
        assert "ca_file" not in asked.stderr


@pytest.mark.slow
def test_a_new_certificate_and_a_moved_audit_log_are_taken_up_while_it_runs(tmp_path: Path) -> None:
    openssl = need_program("openssl", "openssl")
    key, certificate = tmp_path / "tls.key", tmp_path / "tls.crt"

    def certify() -> None:
        made = [openssl, *REQUEST.split(), "-keyout", str(key), "-out", str(certificate)]
        subprocess.run(made, capture_output=True, check=True)

    certify()
    settings = {"tls_certificate": str(certificate), "tls_key": str(key), "join": "approval"}
    with Running(tmp_path / "state", **settings) as running:  # type: ignore[arg-type]  # settings by name
        old = running.certificate()
        assert running.process is not None
        audit = tmp_path / "state" / "audit.jsonl"
        audit.rename(tmp_path / "state" / "audit.1.jsonl")
        certify()
        running.process.send_signal(signal.SIGHUP)
        until(lambda: running.certificate() != old, "the new certificate")
        until(audit.exists, "a new log")
        certificate.write_text("no certificate")
        running.process.send_signal(signal.SIGHUP)
        until(lambda: "cannot be used" in running.output(), "a refusal")
        assert duxnet("nodes", "list", "--registry", running.address).returncode == 1  # it still speaks TLS
        made = command("agent", "--once", "--state-dir", tmp_path / "agent", "--registry", running.address)
        certify()
        running.process.send_signal(signal.SIGHUP)
        trusting = environment({"DUXNET_REGISTRY__CA_FILE": str(certificate), "HOME": str(tmp_path)})
        until(lambda: subprocess.run(made, env=trusting, capture_output=True).returncode in (0, 3), "an agent gets in")
        assert '"registered"' in audit.read_text()


@pytest.mark.parametrize("spoiled", ["key of another", "no key"])
def test_a_certificate_whose_key_does_not_fit_leaves_the_old_one_in_force(tmp_path: Path, spoiled: str) -> None:
    openssl = need_program("openssl", "openssl")
    key, certificate, other = tmp_path / "tls.key", tmp_path / "tls.crt", tmp_path / "other.crt"
    for made in (other, certificate):  # the key that stays is the second one's
        made_by = [openssl, *REQUEST.split(), "-keyout", str(key), "-out", str(made)]
        subprocess.run(made_by, capture_output=True, check=True)
    settings = {"tls_certificate": str(certificate), "tls_key": str(key)}
    with Running(tmp_path / "state", **settings) as running:  # type: ignore[arg-type]  # settings by name
        old = running.certificate()
        if spoiled == "no key":
            key.write_text("no key")
        else:
            other.replace(certificate)
        assert running.process is not None
        running.process.send_signal(signal.SIGHUP)
        until(lambda: "cannot be used, so the old one stays in use" in running.output(), "a refusal")
        assert running.certificate() == old


def test_it_tells_the_service_manager_and_stops_when_asked(tmp_path: Path) -> None:
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        told = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "300000", "HOME": str(tmp_path)}
        environ = environment(told)
        process = subprocess.Popen(
            command("coordinator", "--state-dir", tmp_path / "s", "--port", 0),
            env=environ,
            stderr=subprocess.PIPE,
        )
        assert b"READY=1" in manager.recv(4096)
        for _ in range(3):
            assert manager.recv(4096) == b"WATCHDOG=1"
        os.kill(process.pid, 15)
        while (said := manager.recv(4096)) == b"WATCHDOG=1":
            pass
        assert b"STOPPING=1" in said
        assert process.wait(10) == 0
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()
        process.stderr.close()


def test_the_example_holds_every_setting_at_its_real_default() -> None:
    from duxnet.process.config_file import read_config_file

    example = read_config_file(Path(__file__).parents[3] / "config.example.toml")["coordinator"]
    assert example == CoordinatorSettings().model_dump()
