"""Proxies between a node and a coordinator: named ones are understood or refused, others believed in nothing."""

from __future__ import annotations

import socket
from contextlib import closing
from pathlib import Path
from typing import Any, Optional

import pytest

from duxnet.coordinator.access.forwarding import FORWARDING_HEADERS, Forwarding
from duxnet.coordinator.errors import Refused
from duxnet.coordinator.settings import CoordinatorSettings
from tests.support.coordinators import Running
from tests.system.coordinator.test_identity import Signer, kind

XFF, RFC7239 = b"x-forwarded-for", b"forwarded"


def peer(client: Optional[str], *headers: tuple[bytes, str]) -> Optional[str]:
    named = CoordinatorSettings(proxies=["10.0.0.0/8", "2001:db8:1::/48"]).proxy_networks()
    return Forwarding(named).peer(client, [(name, value.encode("latin-1")) for name, value in headers])


@pytest.mark.parametrize(
    ("client", "headers", "found"),
    [
        ("203.0.113.9", [(XFF, "198.51.100.1")], "203.0.113.9"),  # no proxy of ours: what it says is not believed
        ("203.0.113.9", [(XFF, "unknown")], "203.0.113.9"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", [(XFF, "198.51.100.1")], "198.51.100.1"),
        ("10.0.0.1", [(XFF, "1.2.3.4, 198.51.100.1")], "198.51.100.1"),  # what came before our proxy may be made up
        ("10.0.0.1", [(XFF, "nonsense, 198.51.100.1")], "198.51.100.1"),
        ("10.0.0.1", [(XFF, "198.51.100.1, 10.0.0.2")], "198.51.100.1"),
        ("10.0.0.1", [(XFF, "198.51.100.1"), (XFF, "10.0.0.2")], "198.51.100.1"),
        ("10.0.0.1", [(XFF, "10.0.0.2")], "10.0.0.2"),
        ("::ffff:10.0.0.1", [(XFF, "2001:db8::5")], "2001:db8::5"),
        ("10.0.0.1", [(XFF, "11.9.9.9:5123")], "11.9.9.9"),  # Azure's gateway, IIS
        ("10.0.0.1", [(XFF, "[2001:db8::5]:5123")], "2001:db8::5"),
        ("10.0.0.1", [(XFF, "[2001:DB8::5]")], "2001:db8::5"),
        ("10.0.0.1", [(XFF, "198.51.100.1:1, 10.0.0.2:80")], "198.51.100.1"),
        ("10.0.0.1", [(RFC7239, "for=198.51.100.1")], "198.51.100.1"),
        ("10.0.0.1", [(RFC7239, 'For="[2001:db8::5]:4711";proto=https;by=203.0.113.43')], "2001:db8::5"),
        ("10.0.0.1", [(RFC7239, "for=1.2.3.4, for=198.51.100.1;by=10.0.0.1")], "198.51.100.1"),
        ("10.0.0.1", [(RFC7239, "for=198.51.100.1"), (RFC7239, "proto=https;for=10.0.0.3")], "198.51.100.1"),
        ("10.0.0.1", [(RFC7239, 'for="\\1\\9\\8.51.100.1"')], "198.51.100.1"),
        ("10.0.0.1", [(RFC7239, "for=unknown, for=198.51.100.1")], "198.51.100.1"),
        ("10.0.0.1", [(RFC7239, "for=198.51.100.1"), (XFF, "198.51.100.1")], "198.51.100.1"),
        ("10.0.0.1", [(RFC7239, "proto=https"), (XFF, "198.51.100.1")], "198.51.100.1"),
        ("2001:db8:1::9", [(XFF, "198.51.100.1")], "198.51.100.1"),
        ("fe80::1%eth0", [], "fe80::1"),
        (None, [], None),
    ],
)
def test_the_peer_is_the_connection_unless_a_named_proxy_says_otherwise(
    client: Optional[str], headers: list[tuple[bytes, str]], found: Optional[str]
) -> None:
    assert peer(client, *headers) == found


@pytest.mark.parametrize(
    "headers",
    [
        *(
            [(XFF, hop)]
            for hop in ("nonsense", "unknown", "_hidden", "", "198.51.100.1, ", "1.2.3", "1.2.3.4:99999999")
        ),
        *(
            [(XFF, hop)]
            for hop in ("[2001:db8::5", "host.example", "1.2.3.4 5.6.7.8", "0.0.0.0", "999.1.1.1", "1.2.3.4:x")
        ),
        *([(RFC7239, f"for={hop}")] for hop in ("unknown", "_gazonk", '"_x:80"', '"[::1"', '""')),
        *([(RFC7239, text)] for text in ("for", "for=1.2.3.4 x", 'for="1.2.3.4', ";=", "for=1.2.3.4;;for")),
        [(RFC7239, "for=1.2.3.4, proto=https")],
        [(RFC7239, "for=1.2.3.4"), (XFF, "198.51.100.1")],  # one of them is the client's own
        [(b"x-real-ip", "198.51.100.1")],
        [(b"via", "1.1 proxy")],
    ],
)
def test_what_a_named_proxy_says_is_understood_or_refused_and_never_nobody(headers: list[tuple[bytes, str]]) -> None:
    with pytest.raises(Refused) as refused:
        peer("10.0.0.1", *headers)
    assert refused.value.kind == "malformed"
    assert "proxy" in refused.value.detail


@pytest.mark.parametrize("header", sorted(FORWARDING_HEADERS))
def test_a_proxy_on_this_machine_that_is_not_named_lets_nobody_in(tmp_path: Path, header: bytes) -> None:
    forwarding = Forwarding(CoordinatorSettings(proxies=["10.0.0.1"]).proxy_networks())
    sent = [(b"host", b"registry.example"), (header, b"198.51.100.66")]
    for client, server in (("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("192.0.2.7", "192.0.2.7"), (None, None)):
        with pytest.raises(Refused) as refused:
            forwarding.refuse_unnamed(client, server, sent)
        assert refused.value.kind == "unnamed-proxy"
        forwarding.refuse_unnamed(client, server, sent[:1])
    forwarding.refuse_unnamed("198.51.100.9", "192.0.2.7", sent)  # a company's outgoing proxy
    forwarding.refuse_unnamed("10.0.0.1", "10.0.0.1", sent)  # named


def test_strangers_behind_an_unnamed_proxy_are_refused_on_every_route_and_told_what_to_do(tmp_path: Path) -> None:
    through = {"X-Forwarded-For": "198.51.100.66", "Via": "1.1 nginx"}
    with Running(tmp_path / "state", nodes_per_address=1) as running:
        signer = Signer(running)
        body = signer.body(1)
        answer = signer.send(body, {**signer.headers(body), **through})
        assert kind(answer) == "unnamed-proxy"
        assert 'proxies = ["127.0.0.1"]' in answer[2]["remedy"]
        session = signer.register(1)[2]["session"]
        beat = f"/v1/nodes/{signer.node_id}/heartbeat"
        assert kind(running.call("PUT", beat, {"sequence": 1}, session, through)) == "unnamed-proxy"
        for path in ("/v1/nodes", "/v1/count", "/metrics", "/v1/coordinator", "/healthz", "/"):
            assert kind(running.call("GET", path, headers=through)) == "unnamed-proxy", path
        assert running.call("PUT", beat, {"sequence": 1}, session)[0] == 200
        assert running.output().count("proxies does not name that address") == 1


def test_what_others_forward_is_ignored_and_logged_once(tmp_path: Path) -> None:
    """A peer on another address of this machine stands for a machine of its own."""
    with Running(tmp_path / "state") as running:
        heard: list[Any] = []
        named = Forwarding(())
        named.refuse_unnamed("198.51.100.9", "192.0.2.7", [(b"via", b"1.1 squid")])
        heard.append(named.peer("198.51.100.9", [(b"via", b"1.1 squid"), (XFF, b"1.2.3.4")]))
        assert heard == ["198.51.100.9"]
        with closing(socket.create_connection(("127.0.0.1", running.port), 5, ("127.0.0.2", 0))) as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nVia: 1.1 x\r\n\r\n")
            assert connection.recv(65536).split()[1] == b"403"  # all of 127/8 is this machine


def test_through_a_named_proxy_heartbeats_and_registrations_go_on_and_quotas_count(tmp_path: Path) -> None:
    with Running(tmp_path / "state", proxies=["127.0.0.1"], nodes_per_address=1, join="open") as running:
        first, second = Signer(running), Signer(running)
        admissions = []
        for signer, hop in ((first, "93.184.216.1:4711"), (second, "93.184.216.1")):
            body = signer.body(1)
            _, _, reply = signer.send(body, {**signer.headers(body), "X-Forwarded-For": hop})
            admissions.append(reply["admission"])
            through = {"X-Forwarded-For": hop, "Via": "1.1 nginx"}
            beat = f"/v1/nodes/{signer.node_id}/heartbeat"
            assert running.call("PUT", beat, {"sequence": 1}, reply["session"], through)[0] == 200
        assert admissions == ["probation", "pending"]
        third = Signer(running)
        body = third.body(1)
        assert kind(third.send(body, {**third.headers(body), "X-Forwarded-For": "unknown"})) == "malformed"
