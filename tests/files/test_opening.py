"""What another user of the machine has prepared is not used, not followed and not waited for; the error names it.

Real files, as root and as an ordinary user where the tests run as root; else as whoever runs them.
"""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Callable, Optional

import pytest

from agent.reporter import GAP_FILE, Reporter
from agent.state_dir import StateDir, holder_of
from agent.status_file import StatusFile, find_status
from duxnet.coordinator.access.audit_log import AUDIT_FILE, AuditLog
from duxnet.coordinator.access.own_identity import ensure_coordinator_identity, ensure_operator_token
from duxnet.coordinator.access.token_store import COORDINATOR_DB, TokenStore
from duxnet.process.config_file import read_config_file
from duxnet.process.errors import ConfigurationError
from registry_core import NodeRegistry, StoreError
from registry_core.clock import SystemClock
from registry_core.errors import RegistryError
from registry_core.files.atomic import replace_file
from registry_core.files.locks import locked_folder
from registry_core.identity.identity_files import ensure_identity
from registry_core.identity.make_key import make
from registry_core.identity.node_key import load_node_key
from registry_core.remote.node_session import Registrar
from registry_core.remote.options import RemoteOptions
from registry_core.storage.key_sources import read_key_file, write_key_file
from registry_core.storage.maintenance.verify import verify
from registry_core.storage.sealing import KeyRing, SealingKey
from tests.agent.test_status_file import some_status
from tests.support.builders import a_node

ROOT, USER, STRANGER = 0, 4711, 65534
IS_ROOT = os.geteuid() == ROOT


@contextmanager
def acting_as(uid: int) -> Iterator[None]:
    """This process as another user; what it does not own it may only do what others may."""
    before = os.geteuid()
    _become(uid)
    try:
        yield
    finally:
        _become(before)


def _become(uid: int) -> None:
    if uid != os.geteuid():
        os.seteuid(os.getuid())
        os.setegid(uid)
        os.seteuid(uid)


@pytest.fixture(params=[ROOT, USER] if IS_ROOT else [os.geteuid()])
def me(request: pytest.FixtureRequest) -> Iterator[int]:
    """The user that the code under test runs as."""
    with acting_as(request.param):
        yield request.param


@pytest.fixture
def place(me: int) -> Iterator[Path]:
    """A folder of this user (0755), below /tmp: pytest's own folder is closed to other users."""
    folder = Path(tempfile.mkdtemp()).resolve()
    folder.chmod(0o755)
    yield folder
    with as_tests_do():
        shutil.rmtree(folder)


@contextmanager
def as_tests_do() -> Iterator[None]:
    """As the user who started the tests: root can lay what it wants."""
    with acting_as(os.getuid()):
        yield


def open_registry(name: str) -> Callable[[Path], None]:
    def opened(folder: Path) -> None:
        with NodeRegistry(folder / name) as registry:
            registry.register_node(a_node())

    return opened


def start_agent(folder: Path) -> None:
    """Every file of an agent's state directory, opened as the agent does."""
    with closing(StateDir(folder)) as state:
        if not os.path.lexists(folder / "node.id"):
            make(folder)  # what the child does; no child could be started as an ordinary user here
        ensure_identity(folder)
        state.moved_from("somewhere")
        StatusFile(folder, {}).write(some_status(folder))
        open_registry("nodes.json")(folder)
        with NodeRegistry() as registry:
            Reporter(registry, gap_file=folder / GAP_FILE)
        Registrar(folder, RemoteOptions(), None)  # type: ignore[arg-type]  # nothing is sent


def start_coordinator(folder: Path) -> None:
    """Every file of a coordinator's state directory, opened as the coordinator does."""
    with ExitStack() as stack:
        ensure_coordinator_identity(folder)
        open_registry("nodes.db")(folder)
        tokens = stack.enter_context(closing(TokenStore(folder / COORDINATOR_DB)))
        ensure_operator_token(folder, tokens, 1e9)
        audit = stack.enter_context(closing(AuditLog(folder / AUDIT_FILE, SystemClock().now)))
        with audit.commit():
            audit.note("x", "y", "z")
            audit.write_noted()


STARTS: dict[str, Callable[[Path], None]] = {
    "agent": start_agent,
    "coordinator": start_coordinator,
    "json": open_registry("nodes.json"),
    "sqlite": open_registry("nodes.db"),
}
READ = {
    "agent": ["agent.lock", "node.key", "node.id", "remote.json", "nodes.json", "nodes.json.lock"],
    "coordinator": [
        *("coordinator.key", "coordinator.db", "coordinator.db-wal", "coordinator.db-shm", "coordinator.db-journal"),
        *("nodes.db", "nodes.db.lock", "nodes.db-wal", "nodes.db-shm", "nodes.db-journal", "audit.jsonl"),
    ],
    "json": ["nodes.json", "nodes.json.lock"],
    "sqlite": ["nodes.db", "nodes.db.lock", "nodes.db-wal", "nodes.db-shm", "nodes.db-journal"],
}
"""What is opened where it lies: must be refused by name."""
REPLACED = {
    "agent": ["agent.json", "machine.json", "outage.json", ".nodes.json.tmp", ".agent.json.tmp", ".node.id.tmp"],
    "coordinator": ["operator.token", ".operator.token.tmp", ".coordinator.key.tmp"],
    "json": [".nodes.json.tmp"],
    "sqlite": [],
}
"""What is replaced in one step, or passed over: what lies there must not be changed or waited for."""


class Laid:
    """Something that was put in a file's place, and a victim elsewhere that it may lead to."""

    def __init__(self, folder: Path) -> None:
        self.victim = folder.parent / "victim"
        self.victim.write_bytes(b"precious\n")
        self.victim.chmod(0o600)
        self.device = folder.parent / "zero"
        if not os.path.lexists(self.device) and IS_ROOT:
            _make_device(self.device)

    def lay(self, kind: str, path: Path) -> None:
        path.unlink(missing_ok=True)
        if kind == "link":
            path.symlink_to(self.victim)
        elif kind == "dangling link":
            path.symlink_to(self.victim.with_name("made"))
        elif kind == "hard link":
            os.link(self.victim, path)
        elif kind == "pipe":
            os.mkfifo(path, 0o600)
        elif kind == "socket":
            with socket.socket(socket.AF_UNIX) as end:
                end.bind(str(path))
        elif kind == "folder":
            path.mkdir()
        elif kind == "device":
            _make_device(path)
        elif kind == "link to a device":
            path.symlink_to(self.device)
        else:
            raise AssertionError(kind)

    def is_untouched(self) -> bool:
        found = self.victim.stat()
        return (
            self.victim.read_bytes() == b"precious\n"
            and stat.S_IMODE(found.st_mode) == 0o600
            and not os.path.lexists(self.victim.with_name("made"))
            and not os.path.lexists(self.device.with_name("zero.lock"))
        )


def _make_device(path: Path) -> None:
    """Another /dev/zero, which belongs to this test alone."""
    owner = path.parent.stat().st_uid
    with as_tests_do():
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))
        os.chown(path, owner, -1)


KINDS = ["link", "dangling link", "hard link", "pipe", "socket", "folder"]
if IS_ROOT:
    KINDS += ["device", "link to a device"]
LINKS_OF_ONES_OWN = {("nodes.json", "link"), ("nodes.json", "dangling link"), ("nodes.db", "link")}
"""A registry may lie behind a link that is one's own: its target is what is opened then, and must be a registry."""


@pytest.fixture(params=list(STARTS))
def start(request: pytest.FixtureRequest) -> str:
    assert isinstance(request.param, str)
    return request.param


@pytest.fixture
def used(start: str, place: Path) -> Path:
    """A state directory as a first start left it."""
    folder = place / "state"
    STARTS[start](folder)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_plain_file_is_refused_by_name_and_leads_nowhere(start: str, used: Path, kind: str) -> None:
    laid = Laid(used)
    aside = used.with_name("aside")
    for name in READ[start]:
        if name.startswith("nodes.") and name.endswith((".json", ".db")) and kind == "dangling link":
            continue  # one's own link to where the registry is to be: tests/storage/test_file_places.py
        shutil.copytree(used, aside)
        laid.lay(kind, used / name)
        with pytest.raises(RegistryError) as refused:
            STARTS[start](used)
        expected = "zero" if kind == "link to a device" and name in ("nodes.json", "nodes.db") else name
        if (name, kind) in LINKS_OF_ONES_OWN:
            expected = ""  # the victim is no registry
        assert expected in str(refused.value), name
        assert laid.is_untouched(), name
        shutil.rmtree(used)
        aside.rename(used)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_replaced_in_one_step_leads_nowhere_and_is_not_waited_for(start: str, used: Path, kind: str) -> None:
    laid = Laid(used)
    for name in REPLACED[start]:
        if start == "coordinator":  # it writes these files once, at the very first start
            shutil.rmtree(used)
            used.mkdir(0o700)
        (used / "node.id").unlink(missing_ok=True)  # made again from the key
        laid.lay(kind, used / name)
        refused = kind == "folder" or name == "operator.token"  # cannot be replaced, or never is
        with suppress(StoreError) if refused else nullcontext():
            STARTS[start](used)
            if kind != "folder" and not name.startswith("."):
                assert (used / name).is_file() or name == GAP_FILE
        assert laid.is_untouched(), name
        path = used / name
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)


@pytest.mark.skipif(not IS_ROOT, reason="only root can lay files of another user")
def test_a_file_of_another_user_is_refused_by_name(start: str, used: Path) -> None:
    for name in READ[start]:
        path, absent = used / name, not (used / name).exists()
        with as_tests_do():
            if absent:
                path.touch(0o600)
            before = path.stat()
            os.chown(path, STRANGER, STRANGER)
        with pytest.raises(RegistryError, match=rf"{name}.*(belongs to user id {STRANGER}|cannot be)"):
            STARTS[start](used)
        with as_tests_do():
            os.chown(path, before.st_uid, before.st_gid)
            if absent:
                path.unlink()
    STARTS[start](used)


@pytest.mark.skipif(not IS_ROOT, reason="only root can lay files of another user")
def test_a_file_of_root_is_used(start: str, used: Path) -> None:
    """A backup that root restored into a service's folder; readable to it, as systemd makes it."""
    for path in used.iterdir():
        if path.name in ("nodes.json", "node.id"):
            with as_tests_do():
                os.chown(path, ROOT, ROOT)
                path.chmod(0o644)
    STARTS[start](used)


@pytest.mark.parametrize("mode", [0o777, 0o757, 0o1777])
def test_a_state_directory_that_others_may_write_is_refused_with_the_remedy(used: Path, start: str, mode: int) -> None:
    used.chmod(mode)
    if mode & stat.S_ISVTX and start in ("json", "sqlite"):
        STARTS[start](used)  # nobody else can replace what lies in it: see the next tests
        return
    with pytest.raises(StoreError, match=rf"state.*other users \(mode {mode:04o}\).*mkdir -m 700"):
        STARTS[start](used)
    used.chmod(0o755)
    STARTS[start](used)


def test_in_a_sticky_folder_the_names_that_sqlite_believes_are_taken_before_it_looks(place: Path) -> None:
    place.chmod(0o1777)
    with NodeRegistry(place / "nodes.db") as registry:
        registry.register_node(a_node())
        held = {path.name: path.stat().st_uid for path in place.iterdir()}
        assert {"nodes.db-wal", "nodes.db-shm", "nodes.db-journal"} <= set(held)
        assert set(held.values()) == {os.geteuid()}
        with NodeRegistry(place / "nodes.db", read_only=True) as reader:
            assert reader.count_nodes() == 1
    assert (place / "nodes.db-journal").read_bytes() == b""  # stays: nobody can lay one that would be rolled back
    with NodeRegistry(place / "nodes.db") as registry:
        assert registry.count_nodes() == 1
    assert verify(place / "nodes.db").is_whole


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o700, 0o711])
def test_an_ordinary_folder_of_ones_own_is_used(used: Path, start: str, mode: int) -> None:
    used.chmod(mode)
    STARTS[start](used)


@pytest.mark.parametrize("mode", [0o775, 0o770, 0o2775])
def test_a_folder_that_a_group_may_write_is_used_only_where_nobody_else_is_in_it(
    used: Path, start: str, mode: int
) -> None:
    if not IS_ROOT:
        pytest.skip("only root can give a folder to a group of others")
    with as_tests_do():
        os.chown(used, used.stat().st_uid, os.geteuid() or 4711)  # a group without a name, as in a container
        used.chmod(mode)
    STARTS[start](used)
    with as_tests_do():
        os.chown(used, used.stat().st_uid, STRANGER)  # nogroup: nobody's primary group
        used.chmod(mode)
    with pytest.raises(StoreError, match="other users"):
        STARTS[start](used)


@pytest.mark.skipif(not IS_ROOT, reason="only root can make folders of another user")
@pytest.mark.parametrize("mode", [0o777, 0o755])
def test_a_folder_of_another_user_is_refused(start: str, place: Path, mode: int, me: int) -> None:
    folder = place / "state"
    with as_tests_do():
        folder.mkdir()
        os.chown(folder, STRANGER, STRANGER)
        folder.chmod(mode)
    with pytest.raises(StoreError, match=r"state.*(belongs to user id 65534|other users)"):
        STARTS[start](folder)
    with as_tests_do():
        assert list(folder.iterdir()) == []


@pytest.mark.skipif(not IS_ROOT, reason="only root can make folders of another user")
def test_a_folder_above_that_another_user_could_exchange_is_refused(start: str, place: Path) -> None:
    with as_tests_do():
        (place / "theirs").mkdir()
        os.chown(place / "theirs", STRANGER, STRANGER)
        (place / "theirs").chmod(0o755)
        (place / "theirs/state").mkdir()
        os.chown(place / "theirs/state", place.stat().st_uid, -1)
    for folder in (place / "theirs/state", place / "theirs/state/deeper/still", place / "theirs/new"):
        with pytest.raises(StoreError, match=r"theirs.*can replace it"):
            STARTS[start](folder)
    with as_tests_do():
        assert [path.name for path in (place / "theirs").rglob("*")] == ["state"]


def test_a_folder_above_that_others_may_write_is_refused_unless_it_is_sticky(start: str, place: Path) -> None:
    above = place / "above"
    above.mkdir()
    above.chmod(0o777)
    with pytest.raises(StoreError, match=r"above.*other users"):
        STARTS[start](above / "state")
    assert list(above.iterdir()) == []
    above.chmod(0o1777)
    STARTS[start](above / "state")
    assert stat.S_IMODE((above / "state").stat().st_mode) == 0o700


@pytest.mark.skipif(not IS_ROOT, reason="only root can make links of another user")
def test_a_link_of_another_user_on_the_way_is_refused_and_ones_own_is_followed(start: str, place: Path) -> None:
    real, link = place / "real", place / "link"
    real.mkdir(mode=0o700)
    link.symlink_to("real")
    STARTS[start](link)
    assert len(list(real.iterdir())) > 0
    with as_tests_do():
        os.chown(link, STRANGER, STRANGER, follow_symlinks=False)
    with pytest.raises(StoreError, match=r"link.*can replace it"):
        STARTS[start](link)


@pytest.mark.skipif(not IS_ROOT, reason="only root can make links of another user")
@pytest.mark.parametrize("name", ["nodes.json", "nodes.db"])
def test_a_link_of_another_user_in_the_place_of_a_registry_is_refused(place: Path, name: str) -> None:
    place.chmod(0o1777)
    with as_tests_do():
        (place / name).symlink_to(place / "elsewhere" / name)
        os.chown(place / name, STRANGER, STRANGER, follow_symlinks=False)
    with pytest.raises(StoreError, match=rf"{name}.*is a symbolic link of user id {STRANGER}"):
        NodeRegistry(place / name)
    assert not (place / "elsewhere").exists()


def test_links_in_a_circle_end(place: Path) -> None:
    (place / "a").symlink_to("b")
    (place / "b").symlink_to("a")
    (place / "nodes.json").symlink_to("nodes.json")
    for path in (place / "a" / "nodes.json", place / "nodes.json"):
        with pytest.raises(StoreError):
            NodeRegistry(path)


@pytest.mark.skipif(not IS_ROOT, reason="only root can make a device")
@pytest.mark.parametrize("suffix", [".json", ".db"])
def test_nothing_is_made_beside_a_device(place: Path, suffix: str) -> None:
    laid = Laid(place / "x")
    laid.lay("link to a device", place / f"nodes{suffix}")
    with pytest.raises(StoreError, match=r"zero.*is a character device"):
        NodeRegistry(place / f"nodes{suffix}")
    assert {path.name for path in place.iterdir()} == {"victim", "zero", f"nodes{suffix}"}


@pytest.mark.parametrize("name", ["nodes.json", "nodes.db", "nodes.db-wal", "nodes.db-journal"])
def test_a_reader_does_not_wait_for_a_pipe_either(place: Path, name: str) -> None:
    path = place / name.partition("-")[0]
    open_registry(path.name)(place)
    (place / name).unlink(missing_ok=True)
    os.mkfifo(place / name)
    with pytest.raises(StoreError, match=rf"{name}.*named pipe"):
        NodeRegistry(path, read_only=True)
    if not name.endswith("-journal"):  # which verify does not read
        with pytest.raises(StoreError, match=rf"{name}.*named pipe"):
            verify(path)


@pytest.mark.parametrize("kind", ["link", "pipe", "socket", "folder", "hard link"])
def test_looking_at_an_agent_that_another_prepared_finds_none(place: Path, kind: str) -> None:
    laid = Laid(place / "state")
    (place / "state").mkdir()
    for name in ("agent.lock", "agent.json"):
        laid.lay(kind, place / "state" / name)
    assert holder_of(place / "state") is None
    assert find_status(place / "state", {}) is None
    assert laid.is_untouched()


@pytest.mark.parametrize("kind", ["pipe", "socket", "folder"])
def test_a_sealing_key_that_is_no_file_is_refused_at_once(place: Path, kind: str) -> None:
    Laid(place / "x").lay(kind, place / "key")
    with pytest.raises(StoreError, match=r"key.*not a regular file"):
        read_key_file(place / "key")


def test_a_written_key_replaces_a_link_and_does_not_follow_it(place: Path) -> None:
    laid = Laid(place / "x")
    laid.lay("link", place / "key")
    laid.lay("link", place / ".key.tmp")
    write_key_file(place / "key", KeyRing((SealingKey(bytes(32)),)))
    assert laid.is_untouched()
    assert stat.S_IMODE((place / "key").lstat().st_mode) == 0o600


@pytest.mark.skipif(not IS_ROOT, reason="needs root: only root works on the folder of a service")
def test_root_may_look_after_the_folder_of_a_service_and_is_led_nowhere(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "state"
        start_agent(folder)
        for path in (folder, *folder.iterdir()):
            os.chown(path, USER, USER)
        with locked_folder(folder):
            assert load_node_key(folder).node_id == ensure_identity_of(folder)
        assert verify(folder / "nodes.json").is_whole
        with pytest.raises(StoreError, match="belongs to user id 4711, and this process runs as root"):
            StateDir(folder)
        laid = Laid(folder)
        for kind in ("link", "hard link"):
            laid.lay(kind, folder / "node.key")
            with pytest.raises(StoreError, match=r"node\.key.*(is a link|2 hard links)"):
                load_node_key(folder)
        laid.lay("link", folder / ".machine.json.tmp")
        replace_file(folder / "machine.json", b"{}")
        assert laid.is_untouched()


def ensure_identity_of(folder: Path) -> str:
    from registry_core.identity.identity_files import read_identity

    return read_identity(folder).id


CONFIGURATIONS: dict[str, tuple[int, int, int, Optional[str]]] = {  # owner, mode, mode of the folder, what is said
    "root's own": (ROOT, 0o644, 0o755, None),
    "for root only": (ROOT, 0o600, 0o700, None),
    "anybody may write": (ROOT, 0o666, 0o755, "other users"),
    "a group of others may write": (ROOT, 0o664, 0o755, "other users"),
    "another user's": (STRANGER, 0o644, 0o755, "belongs to user id 65534"),
    "in a folder that anybody may write": (ROOT, 0o644, 0o777, "other users"),
    "in a sticky folder": (ROOT, 0o644, 0o1777, None),
}


@pytest.mark.skipif(not IS_ROOT, reason="needs root: only root is harmed by a configuration of others")
@pytest.mark.parametrize("row", CONFIGURATIONS)
def test_a_configuration_that_others_may_write_is_refused_for_root(row: str) -> None:
    owner, mode, folder_mode, said = CONFIGURATIONS[row]
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "config.toml"
        path.write_text('[log]\nlevel = "info"\n')
        os.chown(path, owner, STRANGER)
        path.chmod(mode)
        Path(name).chmod(folder_mode)
        if said is None:
            assert read_config_file(path) == {"log": {"level": "info"}}
            return
        with pytest.raises(ConfigurationError, match=said):
            read_config_file(path)
        with acting_as(USER):  # who is not root may read what it wants
            assert read_config_file(path) == {"log": {"level": "info"}}


def test_a_configuration_that_is_a_pipe_is_not_waited_for(place: Path) -> None:
    os.mkfifo(place / "config.toml")
    with pytest.raises(ConfigurationError, match="named pipe"):
        read_config_file(place / "config.toml")


@pytest.mark.skipif(not IS_ROOT, reason="only root can mount")
def test_a_folder_that_nobody_can_write_to_is_no_danger_whatever_its_mode(tmp_path: Path) -> None:
    """As a container's configuration volume is: 0777, and mounted for reading only."""
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0777", "none", mounted], capture_output=True).returncode:
        pytest.skip("a file system cannot be mounted here")
    try:
        (mounted / "config.toml").write_text('[log]\nlevel = "info"\n')
        with pytest.raises(ConfigurationError, match="other users"):
            read_config_file(mounted / "config.toml")
        subprocess.run(["mount", "-o", "remount,ro", mounted], check=True)
        assert read_config_file(mounted / "config.toml") == {"log": {"level": "info"}}
    finally:
        subprocess.run(["umount", "-l", mounted], check=True)
