"""What the doctor makes of what it sees: tables of inputs and findings, and real connections to real servers."""

from __future__ import annotations

import contextlib
import datetime
import http.server
import json
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import pytest

from duxnet.doctor.comparison import compare
from duxnet.doctor.findings import NOTE, OK, PROBLEM, Finding, all_is_well, as_text, to_plain
from duxnet.doctor.reach import AllowList, check_address, clock_finding
from duxnet.doctor.sandbox import directives, readable_folder
from duxnet.doctor.unit_checks import check_state, check_watchdog
from duxnet.service.units import AGENT, gpu_text, unit_text
from registry_core.models.times import time_to_text

GPU = {"vendor": "nvidia", "model": "L4", "usable": True, "reason": ""}


def probed(errors: tuple[dict[str, str], ...] = (), limited: Optional[dict[str, str]] = None, **changed: Any) -> Any:
    """A document of `duxnet probe`, changed in some fields."""
    capabilities = {"cpu_cores": 8, "memory_gb": 16.6, "storage_gb": 500.0, "gpus": [], "kernel": "6.1", **changed}
    readings = [{"name": name, "limited_by": reason} for name, reason in (limited or {}).items()]
    return {"capabilities": capabilities, "readings": readings, "errors": list(errors)}


def test_the_same_seen_twice_is_well() -> None:
    (finding,) = compare(probed(), probed(storage_gb=500.4))
    assert (finding.state, finding.summary) == (
        OK,
        "the same as root: 8 CPUs, 16.6 GB of memory, 500.4 GB of storage, 0 usable GPUs",
    )


def test_a_figure_that_differs_is_a_problem_with_its_reason_and_a_remedy() -> None:
    (finding,) = compare(probed(), probed(cpu_cores=2, limited={"cpu_cores": "cgroup cpu.max"}))
    assert finding.state == PROBLEM
    assert finding.summary == "CPUs: the service sees 2, root 8, because of cgroup cpu.max"
    assert finding.remedy
    assert finding.details["field"] == "cpu_cores"


def test_a_gpu_that_only_root_can_use_is_a_problem_and_the_remedy_opens_it() -> None:
    hidden = {**GPU, "usable": False, "reason": "no permission for /dev/nvidiactl"}
    (finding,) = compare(probed(gpus=[GPU]), probed(gpus=[hidden]))
    assert finding.state == PROBLEM
    assert "can use 0 of 1 (no permission for /dev/nvidiactl), root 1 of 1" in finding.summary
    assert "service install --gpu" in finding.remedy


def test_what_the_service_alone_cannot_tell_is_a_problem_and_what_nobody_can_a_note() -> None:
    mine, everybodys = {"probe": "gpu", "message": "no driver"}, {"probe": "cpu", "message": "odd"}
    states = [finding.state for finding in compare(probed(errors=(everybodys,)), probed(errors=(mine, everybodys)))]
    assert states == [PROBLEM, NOTE]


def test_the_sandbox_has_the_hardening_of_the_unit_and_not_its_service() -> None:
    text = unit_text(AGENT, Path("/opt/duxnet/bin/duxnet")) + "\n# /etc/…/gpu.conf\n" + gpu_text({"video"})
    lines = list(directives(text))
    assert lines.index("PrivateDevices=yes") < lines.index("PrivateDevices=no")  # the drop-in comes last and wins
    assert {"DynamicUser=yes", "CapabilityBoundingSet=", "SystemCallFilter=~@privileged @resources"} <= set(lines)
    keys = {line.partition("=")[0] for line in lines}
    assert not keys & {"ExecStart", "ExecStartPre", "Type", "StateDirectory", "LoadCredential", "MemoryMax", "TasksMax"}
    assert not keys & {"WantedBy", "Description"}


@pytest.mark.parametrize(
    ("seconds", "state"), [(0.0, OK), (-4.9, OK), (30.0, NOTE), (-61.0, PROBLEM), (3600.0, PROBLEM)]
)
def test_a_clock_is_judged_by_how_far_it_is_off(seconds: float, state: str) -> None:
    finding = clock_finding(seconds, "the registry")
    assert finding.state == state
    if state != OK:
        assert ("ahead of" if seconds > 0 else "behind") in finding.summary


@pytest.mark.parametrize(
    ("address", "allowed"), [("127.0.0.1", True), ("10.1.2.3", True), ("203.0.113.9", False), ("2001:db8::1", False)]
)
def test_an_allow_list_is_read_from_the_units_properties(address: str, allowed: bool) -> None:
    closed = AllowList.from_properties("0.0.0.0/0 ::/0", "127.0.0.0/8 ::1/128 10.0.0.0/8")
    assert closed.allows(address) is allowed
    assert AllowList.from_properties("", "").allows(address)


ACTIVE = {"ActiveState": "active", "SubState": "running", "UnitFileState": "enabled", "NRestarts": "0"}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"ActiveState": "failed", "ExecMainStatus": "78", "Result": "exit-code"}, "duxnet config check"),
        ({"ActiveState": "activating", "ExecMainStatus": "203", "Result": "exit-code"}, "duxnet service install"),
        ({"ActiveState": "failed", "ExecMainStatus": "1", "Result": "exit-code"}, "journalctl -u duxnet-agent.service"),
        ({"UnitFileState": "disabled"}, "systemctl enable"),
    ],
)
def test_a_service_that_does_not_run_is_a_problem_with_what_to_type(changed: dict[str, str], words: str) -> None:
    (problem,) = [found for found in check_state(AGENT, {**ACTIVE, **changed}) if found.state == PROBLEM]
    assert words in problem.remedy


def test_restarts_are_a_note() -> None:
    findings = list(check_state(AGENT, {**ACTIVE, "NRestarts": "3"}))
    assert [(found.check, found.state) for found in findings] == [("service", OK), ("restarts", NOTE)]
    assert "3 times" in findings[1].summary


@pytest.mark.parametrize(("limit", "state"), [("1min 30s", OK), ("infinity", PROBLEM), ("0", PROBLEM), ("", PROBLEM)])
def test_a_service_that_nobody_watches_is_a_problem(limit: str, state: str) -> None:
    import time

    heard = str(int(time.monotonic() * 1e6))
    (found,) = check_watchdog(AGENT, {**ACTIVE, "WatchdogUSec": limit, "WatchdogTimestampMonotonic": heard})
    assert found.state == state


def test_only_a_problem_makes_all_not_well_and_json_says_the_same() -> None:
    findings = [Finding("a", OK, "fine"), Finding("b", NOTE, "hm")]
    assert all_is_well(findings)
    assert to_plain(findings)["ok"] is True
    findings.append(Finding("c", PROBLEM, "bad", "fix it"))
    assert not all_is_well(findings)
    assert to_plain(findings)["findings"][2]["remedy"] == "fix it"
    assert list(as_text(findings))[-2:] == ["        → fix it", "1 problem"]


class Coordinator(http.server.BaseHTTPRequestHandler):
    """Answers /healthz as a coordinator does, with a clock of its own."""

    behind_seconds = 0.0
    status = 200

    def do_GET(self) -> None:
        moment = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=self.behind_seconds)
        body = json.dumps({"status": "ok", "time": time_to_text(moment)}).encode()
        self.send_response_only(self.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        """Tests are quiet."""


@contextlib.contextmanager
def served(handler: type[Coordinator], context: Optional[ssl.SSLContext] = None) -> Iterator[int]:
    """The port of a server that runs meanwhile."""
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
        server.handle_error = lambda *_arguments: None  # type: ignore[method-assign] # a refused handshake is no news
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def states(findings: Iterator[Finding]) -> dict[str, str]:
    return {finding.check: finding.state for finding in findings}


def test_a_registry_that_answers_is_well_and_its_clock_is_compared() -> None:
    with served(Coordinator) as port:
        assert states(check_address(f"http://127.0.0.1:{port}", None, AllowList())) == {"registry": OK, "clock": OK}


def test_a_registry_whose_clock_is_an_hour_behind_is_a_problem() -> None:
    class Behind(Coordinator):
        behind_seconds = 3600.0

    with served(Behind) as port:
        findings = list(check_address(f"http://127.0.0.1:{port}", None, AllowList()))
    assert [finding.state for finding in findings] == [OK, PROBLEM]
    assert "3600 s ahead of that of the registry" in findings[1].summary


def test_something_else_that_answers_is_a_problem() -> None:
    class Other(Coordinator):
        status = 404

    with served(Other) as port:
        (problem, _clock) = check_address(f"http://127.0.0.1:{port}", None, AllowList())
    assert (problem.state, "with status 404" in problem.summary) == (PROBLEM, True)


def test_a_port_where_nobody_listens_is_a_problem() -> None:
    with served(Coordinator) as port:
        pass
    (problem,) = check_address(f"http://127.0.0.1:{port}", None, AllowList())
    assert (problem.state, "Connection refused" in problem.summary) == (PROBLEM, True)


def test_an_address_outside_the_allow_list_is_a_problem_with_the_flag_to_add() -> None:
    closed = AllowList.from_properties("0.0.0.0/0 ::/0", "10.0.0.0/8")
    with served(Coordinator) as port:
        findings = list(check_address(f"http://127.0.0.1:{port}", None, closed))
    assert findings[0].state == PROBLEM
    assert "--allow 127.0.0.1" in findings[0].remedy


def certificate(folder: Path, *, name: str, valid_days: float) -> tuple[Path, Path]:
    """A certificate for an IP address, signed by its own key, and that key."""
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    end = now + datetime.timedelta(days=valid_days)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(min(now, end) - datetime.timedelta(days=1))
        .not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(name))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return cert_file, key_file


@pytest.mark.parametrize(
    ("name", "valid_days", "trusted", "state", "words"),
    [
        ("127.0.0.1", 90.0, True, OK, "89 more days|90 more days"),
        ("127.0.0.1", 3.0, True, NOTE, "renew"),
        ("127.0.0.1", -2.0, True, PROBLEM, "renew the certificate, or set this machine's clock"),
        ("127.0.0.1", 90.0, False, PROBLEM, "registry.ca_file"),
        ("127.0.0.2", 90.0, True, PROBLEM, "must name 127.0.0.1"),
    ],
)
def test_tls_is_judged_as_the_agent_judges_it(
    name: str, valid_days: float, trusted: bool, state: str, words: str, tmp_path: Path
) -> None:
    import re

    cert_file, key_file = certificate(tmp_path, name=name, valid_days=valid_days)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert_file, key_file)
    with served(Coordinator, context) as port:
        url = f"https://127.0.0.1:{port}"
        findings = list(check_address(url, str(cert_file) if trusted else None, AllowList()))
    (found,) = [finding for finding in findings if finding.check == "TLS"]
    assert found.state == state, found
    assert re.search(words, f"{found.summary} {found.remedy}")


def test_the_sandbox_is_compared_at_a_folder_that_every_user_may_read(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    private = tmp_path / "private"
    (private / "agent").mkdir(parents=True)
    private.chmod(0o700)
    (private / "agent").chmod(0o700)
    link = tmp_path / "agent"
    link.symlink_to(private / "agent")
    assert readable_folder(link) == tmp_path
    assert readable_folder(tmp_path / "absent" / "deeper") == tmp_path
    assert readable_folder(Path("/")) == Path("/")
