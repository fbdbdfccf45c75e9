"""Answers that drip, never end, or come by a proxy: on real sockets, each call ends in its time and memory."""

from __future__ import annotations

import gzip
import resource
import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path
from typing import Callable

import httpx
import pytest

from registry_core.errors import RegistryError, StoreError, UnreachableError, ValidationError
from registry_core.identity.identity_files import ensure_identity
from registry_core.models.node import Node
from registry_core.remote import RemoteOptions, RemoteRegistry
from tests.support.requirements import need_program
from tests.support.servers import (
    Answering,
    drip_body,
    drip_head,
    drip_informational,
    drip_status,
    endless_body,
    served,
    whole,
)

INTERVAL = 2.5  # a call has 2 s
LATE = 4.0
COUNT = b'{"count": 7}'


def a_remote(*addresses: str, **more: object) -> RemoteRegistry:
    return RemoteRegistry(addresses, options=RemoteOptions(interval_seconds=INTERVAL, **more))  # type: ignore[arg-type]


@pytest.mark.parametrize("drip", [drip_head, drip_status, drip_body, drip_informational])
def test_an_answer_that_drips_ends_the_call_in_its_time(drip: Answering) -> None:
    with served(drip) as (address, _), a_remote(address) as remote:
        begun = time.monotonic()
        with pytest.raises(UnreachableError, match="did not answer in time"):
            remote.count_nodes()
        assert time.monotonic() - begun < LATE


@pytest.mark.parametrize("drip", [drip_head, drip_body])
def test_an_address_that_drips_leaves_time_for_the_next_one(drip: Answering) -> None:
    with served(drip) as (bad, _), served(whole(COUNT)) as (good, _), a_remote(bad, good) as remote:
        begun = time.monotonic()
        assert remote.count_nodes() == 7
        assert time.monotonic() - begun < LATE
        begun = time.monotonic()
        assert remote.count_nodes() == 7  # by the good one, at once
        assert time.monotonic() - begun < 0.5


def test_a_registration_that_drips_at_every_step_is_one_call(tmp_path: Path) -> None:
    ensure_identity(tmp_path)
    with served(drip_head) as (address, _):
        options = RemoteOptions(interval_seconds=INTERVAL)
        with RemoteRegistry(address, state_dir=tmp_path, options=options) as remote:
            begun = time.monotonic()
            with pytest.raises(UnreachableError):
                remote.register_node(Node("127.0.0.1", id=ensure_identity(tmp_path).id))
            assert time.monotonic() - begun < LATE


def test_a_server_that_takes_no_bytes_ends_the_call_in_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The body is larger than what the sockets' buffers hold, and the peer reads a few bytes of it at a time."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        from registry_core.remote.sender import Sender

        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        sender = Sender((address,), RemoteOptions(interval_seconds=INTERVAL))
        begun = time.monotonic()
        with pytest.raises(UnreachableError, match="in time"):
            sender.send("PUT", "/v1/nodes/a", largest_bytes=1000, body=b"x" * 20_000_000)
        assert time.monotonic() - begun < LATE
        sender.close()


def test_a_handshake_that_drips_ends_the_call_in_its_time() -> None:
    def drip_tls(connection: socket.socket) -> None:
        connection.sendall(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc")  # the head of a long record, then a byte at a time
        while True:
            connection.sendall(b"\x00")
            time.sleep(0.05)

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            try:
                while True:
                    connection, _ = listener.accept()
                    threading.Thread(target=quietly, args=(connection,), daemon=True).start()
            except OSError:
                return

        def quietly(connection: socket.socket) -> None:
            with connection:
                try:
                    drip_tls(connection)
                except OSError:
                    return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        with a_remote(f"https://127.0.0.1:{listener.getsockname()[1]}") as remote:
            begun = time.monotonic()
            with pytest.raises(UnreachableError, match="in time"):
                remote.count_nodes()
            assert time.monotonic() - begun < LATE
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


@pytest.mark.parametrize(
    "call",
    [
        lambda remote: remote.count_nodes(),
        lambda remote: remote.get_node("a"),
        lambda remote: remote.list_nodes(),
        lambda remote: remote.get_reputation("a"),
        lambda remote: remote.update_node_health("a", 1.0),
        lambda remote: remote.deregister_node("a"),
        lambda remote: remote.admin.approve("a"),
    ],
)
def test_an_answer_without_end_is_given_up_at_its_bound(call: Callable[[RemoteRegistry], object]) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with (
        served(endless_body) as (address, _),
        a_remote(address) as remote,
        pytest.raises(UnreachableError, match=r"more than \d+ bytes"),
    ):
        call(remote)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024  # KiB


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "zstd", "gzip, gzip"])
def test_an_answer_that_is_compressed_all_the_same_is_not_unpacked(encoding: str) -> None:
    bomb = gzip.compress(b"\0" * 100_000_000, 9)
    with (
        served(whole(bomb, "200 OK", f"content-encoding: {encoding}")) as (address, heads),
        a_remote(address) as remote,
        pytest.raises(UnreachableError, match=f"answered in the encoding '{encoding}'"),
    ):
        remote.count_nodes()
    assert b"accept-encoding: identity" in heads[0].lower()


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, str]:
    """A server's context for registry.example, and the file of its CA."""
    folder = tmp_path_factory.mktemp("certified")
    key, certificate = folder / "tls.key", folder / "tls.crt"
    request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=registry.example"
    names = ["-addext", "subjectAltName=DNS:registry.example,IP:127.0.0.1"]
    made = [need_program("openssl", "openssl"), *request.split(), *names, "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(made, capture_output=True, check=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context, str(certificate)


def a_tunnel(target: str) -> Answering:
    """A proxy: CONNECT to anywhere leads to `target`, whatever the name."""

    def answering(connection: socket.socket, head: bytes) -> None:
        assert head.startswith(b"CONNECT registry.example:443 ")
        host, _, port = target.rpartition("//")[2].partition(":")
        upstream = socket.create_connection((host, int(port)))
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")

        def back() -> None:
            with upstream:
                while piece := upstream.recv(65536):
                    connection.sendall(piece)

        threading.Thread(target=back, daemon=True).start()
        while piece := connection.recv(65536):
            upstream.sendall(piece)

    return answering


def test_a_proxy_that_is_set_gets_the_name_and_nothing_of_what_is_said(
    certified: tuple[ssl.SSLContext, str],
) -> None:
    context, ca_file = certified
    with served(whole(COUNT), context) as (target, inside), served(a_tunnel(target)) as (proxy, seen):
        options = {"proxy": proxy.replace("//", "//user:pass%40word@"), "ca_file": ca_file, "token": "dux_operator_x"}
        with a_remote("https://registry.example", **options) as remote:
            assert remote.count_nodes() == 7
    assert b"Bearer dux_operator_x" in inside[0]
    assert b"dux_" not in seen[0]
    assert b"proxy-authorization: basic dxnlcjpwyxnzqhdvcmq=" in seen[0].lower()  # user:pass@word


def test_a_proxy_that_does_not_answer_is_named_without_its_password() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    remote = a_remote("https://registry.example", proxy=f"http://user:secret@127.0.0.1:{port}")
    with remote, pytest.raises(UnreachableError, match=rf"\(through the proxy http://127.0.0.1:{port}\)") as raised:
        remote.count_nodes()
    assert "secret" not in str(raised.value)


def test_what_is_on_this_machine_goes_through_no_proxy() -> None:
    with served(whole(COUNT)) as (address, _), served(whole(COUNT, "502 no")) as (proxy, seen):
        for host in ("127.0.0.1", "localhost"):
            with a_remote(address.replace("127.0.0.1", host), proxy=proxy, token="dux_operator_x") as remote:
                assert remote.count_nodes() == 7
    assert seen == []


def test_a_token_never_goes_through_a_proxy_in_clear(tmp_path: Path) -> None:
    plain = {"allow_plaintext": True, "proxy": "http://192.0.2.9:3128"}
    for secret in ({"token": "dux_reader_x"}, {"join_token": "dux_join_x"}):
        with pytest.raises(ValidationError, match="must be https:// when a proxy is set"):
            a_remote("http://192.0.2.1", **plain, **secret)
    ensure_identity(tmp_path)
    with pytest.raises(ValidationError, match="must be https:// when a proxy is set"):
        RemoteRegistry("http://192.0.2.1", state_dir=tmp_path, options=RemoteOptions(**plain))  # type: ignore[arg-type]
    a_remote("http://192.0.2.1", **plain).close()  # who reads without a token has none to lose


@pytest.mark.parametrize(
    "proxy",
    [
        "socks5://127.0.0.1:1",
        "https://127.0.0.1:1",
        "127.0.0.1:3128",
        "http://",
        "http://host",
        "http://host:0",
        "http://host:x",
        "http://host:99999",
        "http://ho st:1",
        "http://host:1/path",
        "http://host:1?x",
        "http://[::1:1",
        "http://ü:1",
    ],
)
def test_a_proxy_that_is_none_is_refused_without_its_password(proxy: str) -> None:
    with pytest.raises(ValidationError, match=r"proxy: .* is not accepted: must be http://HOST:PORT"):
        RemoteOptions(proxy=proxy)
    with pytest.raises(ValidationError, match="proxy") as raised:
        RemoteOptions(proxy="ftp://user:hunter2@host:1")
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY"])
@pytest.mark.parametrize("value", ["http://127.0.0.1:1", "socks5://127.0.0.1:1", "http://[::1"])
def test_proxies_of_the_environment_do_not_count(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    monkeypatch.setenv("NO_PROXY", "::1/128,[::1],fe80::/10")
    with served(whole(COUNT)) as (address, _), a_remote(address) as remote:
        assert remote.count_nodes() == 7


def test_certificates_and_key_logs_of_the_environment_do_not_count(
    certified: tuple[ssl.SSLContext, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, ca_file = certified
    monkeypatch.setenv("SSL_CERT_FILE", ca_file)
    monkeypatch.setenv("SSL_CERT_DIR", str(Path(ca_file).parent))
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    with served(whole(COUNT), context) as (address, _):
        with (
            a_remote(address) as remote,
            pytest.raises(UnreachableError, match=r"set ca_file .*SSL_CERT_FILE is not used"),
        ):
            remote.count_nodes()
        with a_remote(address, ca_file=ca_file) as remote:
            assert remote.count_nodes() == 7
    assert not (tmp_path / "keys").exists()


@pytest.mark.parametrize("is_folder", [False, True])
def test_the_systems_certificates_are_trusted_from_where_openssl_was_built_to_look(
    is_folder: bool, certified: tuple[ssl.SSLContext, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, ca_file = certified
    hashed = subprocess.run(["openssl", "x509", "-hash", "-noout", "-in", ca_file], capture_output=True, text=True)
    (tmp_path / f"{hashed.stdout.strip()}.0").write_bytes(Path(ca_file).read_bytes())
    built_in = {
        "openssl_cafile": "/nonexistent" if is_folder else ca_file,
        "openssl_capath": str(tmp_path) if is_folder else "/nonexistent",
    }
    places = ssl.get_default_verify_paths()._replace(cafile="/elsewhere", capath="/elsewhere", **built_in)
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: places)
    with served(whole(COUNT), context) as (address, _), a_remote(address) as remote:
        assert remote.count_nodes() == 7


def test_a_ca_file_that_is_none_is_told() -> None:
    with pytest.raises(StoreError, match="'/nonexistent': cannot be used as a CA file"):
        a_remote("https://127.0.0.1:1", ca_file="/nonexistent")


def test_a_redirect_is_not_followed_and_says_where_it_leads() -> None:
    with served(whole(COUNT)) as (elsewhere, seen):
        answer = whole(b"", "308 Permanent Redirect", f"location: {elsewhere}/v1/count")
        with (
            served(answer) as (address, _),
            a_remote(address, token="dux_operator_x") as remote,
            pytest.raises(UnreachableError, match=f"a redirect to '{elsewhere}/v1/count', which is not followed"),
        ):
            remote.count_nodes()
    assert seen == []


def test_no_error_holds_a_token_that_a_server_sends_back() -> None:
    token = "dux_operator_" + "s" * 43

    def echo(connection: socket.socket, head: bytes) -> None:
        whole(b"", "302 Found", f"location: https://login.example/?{head.decode()[-400:]!r}")(connection, head)

    with (
        served(echo) as (address, _),
        a_remote(address, token=token) as remote,
        pytest.raises(RegistryError, match=r"login\.example") as raised,
    ):
        remote.count_nodes()
    assert "ssss" not in str(raised.value)


def test_a_header_that_http_does_not_carry_is_told_without_it() -> None:
    with served(whole(COUNT)) as (address, _):
        from registry_core.remote.sender import Sender

        sender = Sender((address,), RemoteOptions(interval_seconds=INTERVAL))
        with pytest.raises(UnreachableError, match="cannot be sent") as raised:
            sender.send("GET", "/v1/count", largest_bytes=100, headers=lambda: {"authorization": "Bearer se\ncret"})
        assert "cret" not in str(raised.value)
        sender.close()


def test_httpx_reads_nothing_of_the_environment() -> None:
    with a_remote("http://127.0.0.1:1") as remote:
        client: httpx.Client = remote._sender._client
        assert not client.trust_env
