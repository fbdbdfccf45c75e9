"""The desk: lists, filters and changes on a registry in a file, and what is refused."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from agent.sampler import Sample
from agent.status_file import AgentStatus, StatusFile
from duxnet.cli import main
from duxnet.cli.node_output import state_text
from duxnet.cli.output import print_table
from registry_core.embedded.node_registry import NodeRegistry
from registry_core.models.node import Node, NodeCapabilities
from registry_core.models.status import Admission, Condition, Conditions, Liveness, NodeHealth, Scheduling


@pytest.fixture(autouse=True)
def nobody_elses_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg-state"))
    for name in ("DUXNET_CONFIG", "DUXNET_REGISTRY", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "RUNTIME_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "nodes.json"
    with NodeRegistry(path) as registry:
        for name, cpus, gpu, tasks in (("small", 2, False, 0), ("large", 32, True, 20), ("middle", 8, False, 5)):
            node = Node(
                ip_address="192.0.2.1",
                id=f"{name}-node",
                wallet_address=f"wallet-{name}",
                hostname=name,
                tags={"zone": "a"} if name == "small" else {},
                capabilities=NodeCapabilities(cpu_cores=cpus, memory_gb=cpus * 4.0, storage_gb=100.0, gpu_enabled=gpu),
            )
            registry.register_node(node)
            for _ in range(tasks):
                registry.update_node_reputation(node.id, True)
        registry.admin.cordon("small-node", reason="disk is swapped", actor="ops")
    return str(path)


class RegistryClient:
    """Runs `duxnet nodes …` and keeps what it said."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.error = ""

    def __call__(self, *arguments: object, code: int = 0) -> str:
        returned = main(["nodes", *map(str, arguments)])
        captured = self._capsys.readouterr()
        self.error = captured.err
        assert returned == code, captured.err
        assert "Traceback" not in captured.err
        return captured.out

    def names(self, *arguments: object) -> list[str]:
        plain = json.loads(self("list", *arguments, "--format", "json"))
        assert list(plain) == ["schema", "nodes", "next"]
        return [node["hostname"] for node in plain["nodes"]]


@pytest.fixture
def client(capsys: pytest.CaptureFixture[str]) -> RegistryClient:
    return RegistryClient(capsys)


def test_the_list_is_ordered_by_reputation_and_says_what_matters(client: RegistryClient, file: str) -> None:
    lines = client("list", "--registry", file).splitlines()
    assert lines[0].split()[:3] == ["ID", "HOST", "ADDRESS"]
    assert [line.split()[1] for line in lines[1:]] == ["large", "middle", "small"]
    assert "ready" in lines[1]
    assert "cordoned" in lines[3]


@pytest.mark.parametrize(
    ("filters", "wanted"),
    [
        ([], ["large", "middle", "small"]),
        (["--min-reputation", 3], ["large", "middle"]),
        (["--healthy"], ["large", "middle"]),
        (["--min-cpu-cores", 8], ["large", "middle"]),
        (["--min-memory-gb", "32.5"], ["large"]),
        (["--min-storage-gb", 100], ["large", "middle", "small"]),
        (["--min-storage-gb", 101], []),
        (["--gpu"], ["large"]),
        (["--wallet", "wallet-middle"], ["middle"]),
        (["--limit", 1], ["large"]),
        (["--limit", 0], []),
        (["--healthy", "--min-cpu-cores", 4, "--limit", 5], ["large", "middle"]),
        (["--tag", "zone=a"], ["small"]),
        (["--tag", "zone=a", "--tag", "rack=2"], []),
        (["--exclude", "large-node", "--exclude", "small-node"], ["middle"]),
        (["--gpu-count", 2], []),
        (["--order", "random", "--seed", 3, "--exclude", "large-node", "--min-cpu-cores", 8], ["middle"]),
    ],
)
def test_filters_are_those_of_the_registry(
    filters: list[Any], wanted: list[str], client: RegistryClient, file: str
) -> None:
    assert client.names("--registry", file, *filters) == wanted


def test_a_local_node_in_bad_health_takes_no_other_s_place_within_a_limit(client: RegistryClient, file: str) -> None:
    folder = Path(file).parent
    status = AgentStatus(
        "running", "large-node", "large", "", file, str(folder), 60.0, {},
        sample=Sample(1.0, 99.5, 10.0),
        conditions={"load": "ok", "memory": "critical", "disk": "ok"},
    )  # fmt: skip
    StatusFile(folder, {}).write(status)
    assert client.names("--registry", file, "--healthy", "--limit", 1) == ["middle"]
    assert client.names("--registry", file, "--healthy") == ["middle"]
    assert client.names("--registry", file, "--limit", 1) == ["large"]


def test_a_long_list_is_read_page_by_page(client: RegistryClient, file: str) -> None:
    names, cursor = [], None
    for _ in range(4):
        after: list[object] = ["--after", cursor] if cursor else []
        plain = json.loads(client("list", "--registry", file, "--limit", 1, "--format", "json", *after))
        names += [node["hostname"] for node in plain["nodes"]]
        cursor = plain["next"]
        if cursor is None:
            break
    assert names == ["large", "middle", "small"]
    client("list", "--registry", file, "--after", "nonsense", code=2)
    assert "after: 'nonsense' is not accepted" in client.error


def test_a_node_is_shown_whole_by_id_or_by_its_beginning(client: RegistryClient, file: str) -> None:
    plain = json.loads(client("show", "large-node", "--registry", file, "--format", "json"))
    assert plain["node"]["capabilities"]["cpu_cores"] == 32
    assert plain["reputation"]["score"] == pytest.approx(plain["node"]["reputation"], abs=0.01)
    text = client("show", "larg", "--registry", file)
    assert "large-node" in text
    assert "wallet-large" in text
    client("show", "nobody", "--registry", file, code=1)
    assert "no node is registered under the id 'nobody'" in client.error


def test_a_beginning_that_fits_two_nodes_is_refused(client: RegistryClient, file: str) -> None:
    client("register", "--id", "large-other", "--ip-address", "192.0.2.9", "--registry", file)
    client("show", "large", "--registry", file, code=2)
    assert "2 ids begin with it" in client.error


def test_a_registered_node_is_what_the_options_said(client: RegistryClient, file: str) -> None:
    node_id = client(
        "register", "--registry", file, "--ip-address", "192.0.2.44", "--wallet", "w", "--hostname", "new", "--port", 1,
        "--cpu-cores", 3, "--memory-gb", "1.5", "--storage-gb", 2, "--gpu", "--tag", "zone=a", "--tag", "empty=",
    ).strip()  # fmt: skip
    node = json.loads(client("show", node_id, "--registry", file, "--format", "json"))["node"]
    assert (node["wallet_address"], node["hostname"], node["port"]) == ("w", "new", 1)
    assert node["tags"] == {"zone": "a", "empty": ""}
    assert node["capabilities"]["gpu_enabled"] is True
    assert node["capabilities"]["memory_gb"] == 1.5


def test_what_is_shown_can_be_registered_elsewhere(
    client: RegistryClient, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = client("show", "large-node", "--registry", file, "--format", "json")
    (tmp_path / "node.json").write_text(shown)
    other = tmp_path / "other.json"
    assert client("register", "--from", tmp_path / "node.json", "--registry", other) == "large-node\n"
    assert client.names("--registry", other) == ["large"]
    with_stdin = io.TextIOWrapper(io.BytesIO(b'{"ip_address": "192.0.2.8", "hostname": "piped"}'))
    monkeypatch.setattr("sys.stdin", with_stdin)
    client("register", "--from", "-", "--registry", other)
    assert "piped" in client.names("--registry", other)


def test_health_and_reputation_are_written_and_last(client: RegistryClient, file: str) -> None:
    said = client("update-health", "middle-node", "--load-average", 1, "--disk-usage", 95, "--registry", file)
    assert said == "middle-node: load ok, memory unknown, disk critical\n"
    node = json.loads(client("show", "middle-node", "--registry", file, "--format", "json"))["node"]
    assert node["health"]["disk_usage"] == 95
    assert "reputation" in client("update-reputation", "middle-node", "--failure", "--registry", file)
    client("update-reputation", "middle-node", "--success", "--task-id", "job-1", "--weight", 2, "--registry", file)
    explained = client("explain", "middle-node", "--registry", file)
    assert "correctness  " in explained
    assert "weighted task outcomes succeeded" in explained
    assert client("update-reputation", "middle-node", "--success", "--task-id", "job-1", "--registry", file)
    assert client("explain", "middle-node", "--registry", file) == explained
    plain = json.loads(client("explain", "middle-node", "--registry", file, "--format", "json"))
    assert plain["reputation"]["standing"] == "probation"
    assert client("remove", "middle-node", "--registry", file) == "middle-node: removed\n"
    client("remove", "middle-node", "--registry", file, code=1)


def test_which_conditions_of_a_list_a_node_fails_is_told_with_what_mends_it(client: RegistryClient, file: str) -> None:
    text = client("explain", "smal", "--healthy", "--min-cpu-cores", 8, "--tag", "zone=b", "--registry", file)
    header, *lines = text.splitlines()
    assert header.split() == ["FAILS", "WANTED", "FOUND", "REMEDY"]
    assert [line.split("  ")[0] for line in lines] == ["scheduling", "cpu_cores", "tag zone"]
    assert "cordoned (disk is swapped)" in lines[0]
    assert lines[0].endswith("an operator must uncordon the node")
    asked = ("explain", "small-node", "--registry", file, "--format", "json")
    assert json.loads(client(*asked, "--min-memory-gb", 9)) == {
        "schema": "duxnet.explanation/1.0",
        "id": "small-node",
        "selected": False,
        "failing": [
            {"condition": "memory_gb", "wanted": "at least 9", "found": "8", "remedy": "use a larger node"},
        ],
    }
    plain = json.loads(client(*asked, "--min-memory-gb", 8, "--wallet", "wallet-small"))
    assert (plain["selected"], plain["failing"]) == (True, [])
    said = client("explain", "large-node", "--healthy", "--gpu", "--registry", file)
    assert said == "large-node: meets every condition\n"
    assert "standing" in client("explain", "small-node", "--registry", file)  # no condition: its reputation
    client("explain", "nobody", "--healthy", "--registry", file, code=1)
    assert "no node is registered" in client.error
    client("explain", "small-node", "--min-cpu-cores", -1, "--registry", file, code=2)
    assert "cpu_cores: -1 is not accepted" in client.error


@pytest.mark.parametrize(
    "flags",
    [["--healthy"], ["--gpu-count", 2, "--gpu-model", "H100"], ["--min-uptime-probability", "0.999"], ["--wallet", ""]],
)
def test_a_node_fails_something_exactly_where_the_list_leaves_it_out(
    flags: list[Any], client: RegistryClient, file: str
) -> None:
    listed = client.names("--registry", file, *flags)
    for name in ("small", "middle", "large"):
        plain = json.loads(client("explain", f"{name}-node", *flags, "--registry", file, "--format", "json"))
        assert plain["selected"] == (name in listed)


def test_the_local_node_s_own_agent_knows_why_it_gets_no_work(client: RegistryClient, file: str) -> None:
    folder = Path(file).parent
    status = AgentStatus(
        "running", "large-node", "large", "", file, str(folder), 60.0, {},
        sample=Sample(1.0, 99.5, 10.0),
        conditions={"load": "ok", "memory": "critical", "disk": "ok"},
    )  # fmt: skip
    StatusFile(folder, {}).write(status)
    asked = ("explain", "large-node", "--healthy", "--min-uptime-probability", "0.999", "--registry", file)
    plain = json.loads(client(*asked, "--format", "json"))
    assert [item["condition"] for item in plain["failing"]] == ["condition memory", "min_uptime_probability"]


@pytest.mark.parametrize(
    ("arguments", "code", "wanted"),
    [
        (["list", "--min-cpu-cores", "-1"], 2, "cpu_cores: -1 is not accepted"),
        (["list", "--min-memory-gb", "nan"], 2, "memory_gb: nan is not accepted"),
        (["list", "--min-storage-gb", "inf"], 2, "storage_gb: inf is not accepted"),
        (["list", "--min-reputation", "6"], 2, "min_reputation: 6.0 is not accepted"),
        (["list", "--limit", "-1"], 2, "limit: -1 is not accepted"),
        (["list", "--wallet", "\x1b[2J"], 2, "wallet"),
        (["register"], 2, "--ip-address or --from is missing"),
        (["register", "--ip-address", "example.org"], 2, "ip_address: 'example.org' is not accepted"),
        (["register", "--ip-address", "::1", "--port", "0"], 2, "port: 0 is not accepted"),
        (["register", "--ip-address", "::1", "--cpu-cores", "-2"], 2, "cpu_cores: -2 is not accepted"),
        (["register", "--ip-address", "::1", "--hostname", "a\x1bb"], 2, r"hostname: 'a\x1bb' is not accepted"),
        (["register", "--ip-address", "::1", "--id", "a b"], 2, "id: 'a b' is not accepted"),
        (["register", "--ip-address", "::1", "--tag", "novalue"], 2, "'novalue' is not KEY=VALUE"),
        (["register", "--from", "/nowhere.json"], 1, "'/nowhere.json': No such file"),
        (["register", "--from", "/dev/null"], 2, "not valid JSON"),
        (["register", "--from", "/dev/zero"], 2, "at most 1000000 bytes"),
        (["register", "--from", "x", "--gpu"], 2, "goes with no other description"),
        (["update-health", "large-node", "--load-average", "-1"], 2, "load_average: -1.0 is not accepted"),
        (["update-health", "large-node", "--memory-usage", "101"], 2, "memory_usage: 101.0 is not accepted"),
        (["update-health", "nobody"], 1, "no node is registered"),
        (["update-reputation", "large-node"], 2, "--success or --failure"),
        (["update-reputation", "nobody", "--success"], 1, "no node is registered"),
        (["remove", ""], 1, "no node is registered"),
    ],
)
def test_bad_input_is_one_line_and_changes_nothing(
    arguments: list[str], code: int, wanted: str, client: RegistryClient, file: str
) -> None:
    before = Path(file).read_bytes()
    client(*arguments, "--registry", file, code=code)
    assert wanted in client.error
    assert Path(file).read_bytes() == before


@pytest.mark.parametrize(
    ("target", "code", "wanted"),
    [
        ("http://127.0.0.1:1", 1, "cannot be reached"),
        ("ftp://x", 2, "must be a path, or an address"),
        ("", 2, "registry: '' is not accepted"),
        ("a\x00b", 2, "registry:"),
        ("/nowhere/nodes.json", 1, "does not exist"),
        ("/nowhere/nodes.xml", 2, "nodes.xml"),
        ("192.0.2.1:8410", 2, "an address begins with http:// or https://"),
        ("/proc/self/mem/nodes.json", 1, "/proc/self/mem"),
    ],
)
def test_a_registry_that_is_none_is_told(target: str, code: int, wanted: str, client: RegistryClient) -> None:
    client("list", "--registry", target, code=code)
    assert wanted in client.error


def test_a_damaged_file_is_told_and_left_alone(client: RegistryClient, file: str) -> None:
    Path(file).write_text('{"schema": "duxnet.nodes/1.0", "nodes": [{"ip_')
    client("list", "--registry", file, code=1)
    assert "the file was not changed" in client.error
    assert Path(file).read_text().endswith('"ip_')


def test_the_environment_then_the_configuration_then_the_agent_name_the_registry(
    client: RegistryClient, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client("list", code=1)
    assert "start an agent (duxnet agent), or name one with --registry" in client.error
    (tmp_path / "xdg-state" / "duxnet").mkdir(parents=True)
    local = tmp_path / "xdg-state" / "duxnet" / "nodes.json"
    client("register", "--ip-address", "192.0.2.1", "--hostname", "local", "--registry", local)
    assert client.names() == ["local"]
    (tmp_path / "c.toml").write_text(f"[registry]\ntarget = '{file}'\n")
    monkeypatch.setenv("DUXNET_CONFIG", str(tmp_path / "c.toml"))
    assert "large" in client.names()
    monkeypatch.setenv("DUXNET_REGISTRY", str(local))
    assert client.names() == ["local"]
    assert "large" in client.names("--registry", file)


def test_a_node_that_is_not_ready_says_why() -> None:
    critical = Conditions(memory=Condition.CRITICAL, disk=Condition.CRITICAL)
    node = Node(ip_address="::1", health=NodeHealth(conditions=critical))
    assert state_text(node) == "memory critical, disk critical"
    node = Node(
        ip_address="::1", admission=Admission.PENDING, admission_reason="quota", liveness=Liveness.DOWN,
        scheduling=Scheduling.CORDONED,
    )  # fmt: skip
    assert state_text(node) == "pending: quota, down, cordoned"
    assert state_text(Node(ip_address="::1")) == "ready"


def test_what_a_terminal_would_act_on_is_printed_as_an_escape(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("A", "B"), [("\x1b[2J", "x"), ("\u202e", "yy")], right=("B",))
    assert capsys.readouterr().out == "A         B\n\\x1b[2J   x\n\\u202e   yy\n"
