"""Replacing a node's key: it stays the same node whatever happens in the middle; what fails changes nothing."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry_core.errors import DamagedStoreError, StoreError
from registry_core.identity.identity_files import ensure_identity, read_identity
from registry_core.identity.node_key import load_node_key
from registry_core.identity.replace_key import replace_key
from registry_core.identity.succession import MOST_LINKS
from tests.support.requirements import need_program

REPLACE = (
    "import sys, pathlib; from registry_core.identity.replace_key import replace_key; "
    "replace_key(pathlib.Path(sys.argv[1]))"
)
CALLS = "openat,write,fchmod,fsync,renameat,unlinkat"


def replacing(folder: Path, *before: str) -> list[str]:
    return [*before, sys.executable, "-B", "-c", REPLACE, str(folder)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    ensure_identity(tmp_path / "state")
    return tmp_path / "state"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_node_keeps_its_id_and_has_another_key(folder: Path) -> None:
    first = ensure_identity(folder)
    keys = [first.public_key, *(replace_key(folder).public_key for _ in range(2))]
    assert len(set(keys)) == 3
    assert ensure_identity(folder).id == first.id
    assert ensure_identity(folder).public_key == keys[2]
    found = load_node_key(folder)
    assert (found.node_id, found.first_public_key, found.public_key) == (first.id, keys[0], keys[2])
    assert [link.new_key for link in found.succession] == keys[1:]
    assert stat.S_IMODE((folder / "node.key").stat().st_mode) == 0o600
    assert sorted(os.listdir(folder)) == ["node.id", "node.key"]


def test_the_key_file_is_still_what_openssl_reads(folder: Path) -> None:
    made = replace_key(folder)
    openssl = need_program("openssl", "openssl")
    shown = subprocess.run(
        [openssl, "pkey", "-in", folder / "node.key", "-pubout", "-outform", "DER"], capture_output=True
    )
    assert shown.returncode == 0
    assert base64.b64encode(shown.stdout[-32:]).decode() == made.public_key


def test_a_lost_id_file_is_made_again_with_the_first_id(folder: Path) -> None:
    first = ensure_identity(folder)
    replace_key(folder)
    before = (folder / "node.id").read_bytes()
    (folder / "node.id").unlink()
    assert load_node_key(folder).node_id == first.id
    assert ensure_identity(folder).id == first.id
    assert (folder / "node.id").read_bytes() == before


def test_a_damaged_id_file_is_mended_as_its_error_says(folder: Path) -> None:
    first = ensure_identity(folder)
    made = replace_key(folder)
    (folder / "node.id").write_bytes(b"{")
    before = contents(folder)
    with pytest.raises(DamagedStoreError, match=r"node\.id.*remove only this file"):
        replace_key(folder)
    assert contents(folder) == before
    (folder / "node.id").unlink()
    mended = ensure_identity(folder)
    assert (mended.id, mended.public_key) == (first.id, made.public_key)


def calls_of_a_replacement(folder: Path, trace: Path) -> Iterator[str]:
    """`fsync:3` and so on: every call by which a replacement changes the folder, as strace injects at it."""
    strace = need_program("strace", "strace")
    command = replacing(folder, strace, "-qq", "-y", "-o", str(trace), "-e", f"trace={CALLS}")
    assert subprocess.run(command).returncode == 0
    counts: Counter[str] = Counter()
    for line in trace.read_text().splitlines():
        found = re.match(r"(\w+)\(", line)
        if found is None:
            continue
        counts[found[1]] += 1
        if str(folder) in line and (found[1] != "openat" or "O_CREAT" in line or "O_DIRECTORY" in line):
            yield f"{found[1]}:{counts[found[1]]}"


@pytest.mark.slow
def test_killed_at_any_call_it_is_the_same_node_with_one_key_or_the_other(folder: Path, tmp_path: Path) -> None:
    steps = list(calls_of_a_replacement(folder, tmp_path / "trace"))
    assert {step.partition(":")[0] for step in steps} == set(CALLS.split(","))
    assert len(steps) > 12
    first = ensure_identity(folder)
    outcomes = set()
    for step in steps:
        state = tmp_path / step
        shutil.copytree(folder, state)
        call, _, turn = step.partition(":")
        inject = ["-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={turn}"]
        strace = [need_program("strace", "strace"), "-qq", "-o", "/dev/null"]
        assert subprocess.run(replacing(state, *strace, *inject)).returncode == -signal.SIGKILL, step
        for path in state.iterdir():
            assert path.name in ("node.id", ".node.id.tmp") or stat.S_IMODE(path.stat().st_mode) == 0o600, step
        found = ensure_identity(state)
        assert found.id == first.id, step
        key = load_node_key(state)
        outcomes.add(len(key.succession))
        assert (key.public_key == first.public_key) == (len(key.succession) == 1), step
        again = replace_key(state)
        assert len(again.succession) == len(key.succession) + 1
        assert ensure_identity(state).id == first.id
        assert sorted(os.listdir(state)) == ["node.id", "node.key"], step
    assert outcomes == {1, 2}  # the trace made the first replacement


def test_two_at_once_make_two_replacements_one_after_the_other(folder: Path) -> None:
    first = ensure_identity(folder)
    running = [subprocess.Popen(replacing(folder)) for _ in range(4)]
    while any(process.poll() is None for process in running):  # starts meanwhile wait, and are the same node
        assert ensure_identity(folder).id == first.id
    assert [process.returncode for process in running] == [0] * 4
    assert len(load_node_key(folder).succession) == 4


def test_the_seventeenth_replacement_is_an_error_that_changes_nothing(folder: Path) -> None:
    first = ensure_identity(folder)
    for _ in range(MOST_LINKS):
        replace_key(folder)
    assert load_node_key(folder).node_id == first.id
    before = contents(folder)
    with pytest.raises(StoreError, match="already replaced 16 times"):
        replace_key(folder)
    assert contents(folder) == before


def test_a_folder_without_a_key_is_told_and_stays_empty(tmp_path: Path) -> None:
    for folder in (tmp_path / "none", tmp_path):
        with pytest.raises(StoreError, match=r"node\.key.*the first start of the agent makes it"):
            replace_key(folder)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("mode", [0o644, 0o640])
def test_a_key_that_others_may_read_is_refused_with_the_command_that_mends_it(folder: Path, mode: int) -> None:
    (folder / "node.key").chmod(mode)
    with pytest.raises(StoreError, match="chmod 600"):
        replace_key(folder)


def test_a_link_in_the_place_of_the_key_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "node.key").rename(tmp_path / "elsewhere")
    (folder / "node.key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="is a link"):
        replace_key(folder)


def test_the_key_of_another_node_is_not_replaced(folder: Path, tmp_path: Path) -> None:
    ensure_identity(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "node.key", folder / "node.key")
    before = contents(folder)
    with pytest.raises(DamagedStoreError, match=r"does not match node\.id"):
        replace_key(folder)
    assert contents(folder) == before


def chain(folder: Path) -> list[dict[str, str]]:
    text = (folder / "node.key").read_text().partition("SUCCESSION-----\n")[2].partition("-----END")[0]
    links = json.loads(base64.b64decode(text))
    assert isinstance(links, list)
    return links


def with_chain(folder: Path, links: object) -> None:
    pem = (folder / "node.key").read_text().partition("-----BEGIN DUXNET")[0]
    block = base64.b64encode(json.dumps(links).encode()).decode()
    name = "DUXNET KEY SUCCESSION-----"
    (folder / "node.key").write_text(f"{pem}-----BEGIN {name}\n{block}\n-----END {name}\n")


@pytest.mark.parametrize("damage", ["cut", "no list", "no link", "numbers", "a link left out", "forged", "not ascii"])
def test_a_damaged_chain_is_named_and_never_taken_for_another_node(folder: Path, damage: str) -> None:
    replace_key(folder)
    replace_key(folder)
    links = chain(folder)
    content = (folder / "node.key").read_bytes()
    with_chain(folder, links)
    assert len(load_node_key(folder).succession) == 2  # so a damaged one fails for its damage
    spoilt: dict[str, object] = {
        "no list": 5,
        "no link": [5],
        "numbers": [dict.fromkeys(links[0], 5)],
        "a link left out": links[:1],
        "forged": [links[0], {**links[1], "old_signature": links[0]["old_signature"]}],
        "not ascii": [links[0], {**links[1], "new_key": "é" * 44}],
    }
    if damage == "cut":
        (folder / "node.key").write_bytes(content[: len(content) // 2])
    else:
        with_chain(folder, spoilt[damage])
    (folder / "node.id").unlink()
    before = contents(folder)
    for attempt in (ensure_identity, replace_key):
        with pytest.raises(DamagedStoreError, match=r"node\.key.*records of replaced keys are invalid"):
            attempt(folder)
    assert contents(folder) == before


def need_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")


def test_root_leaves_the_files_to_the_one_whose_they_are(folder: Path) -> None:
    need_root()
    for path in (folder, *folder.iterdir()):
        os.chown(path, 4711, 4712)
    replace_key(folder)
    assert {(path.stat().st_uid, path.stat().st_gid) for path in folder.iterdir()} == {(4711, 4712)}


def test_another_user_is_told_whose_the_key_is() -> None:
    need_root()
    with tempfile.TemporaryDirectory() as name:  # tmp_path lies below a folder that only root enters
        folder = Path(name)
        ensure_identity(folder)
        folder.chmod(0o755)
        os.chown(folder / "node.key", 4711, 4712)
        code = REPLACE.replace("; replace_key(", "; import os; os.setgid(4713); os.setuid(4713); replace_key(")
        done = subprocess.run([sys.executable, "-B", "-c", code, name], capture_output=True, text=True)
    assert "belongs to user id 4711; run as that user" in done.stderr


@pytest.mark.parametrize("options", ["ro", "size=12k", "size=16k"])
def test_a_disk_that_takes_nothing_leaves_the_old_key_in_force(tmp_path: Path, options: str) -> None:
    """With 12 kB not even the first draft has room; with 16 kB the first has, and the second has not."""
    need_root()
    small = tmp_path / "small"
    small.mkdir()
    size = "size=1m" if options == "ro" else options
    if subprocess.run(["mount", "-t", "tmpfs", "-o", size, "none", small]).returncode != 0:
        pytest.skip("needs the right to mount a small tmpfs")
    try:
        first = ensure_identity(small / "state")
        if options == "ro":
            subprocess.run(["mount", "-o", "remount,ro", small], check=True)
        else:
            (small / "ballast").write_bytes(b"x" * 4096)
        before = contents(small / "state")
        with pytest.raises(StoreError, match=r"cannot be written: (No space left|Read-only)"):
            replace_key(small / "state")
        assert contents(small / "state") == before
        assert read_identity(small / "state") == first
    finally:
        subprocess.run(["umount", "-l", small], check=False)


def test_a_rename_that_fails_in_the_middle_leaves_a_whole_pair(folder: Path) -> None:
    need_root()
    before = contents(folder)
    if subprocess.run(["mount", "--bind", folder / "node.key", folder / "node.key"]).returncode != 0:
        pytest.skip("needs the right to mount")
    try:  # a mount point cannot be renamed over, whoever asks
        with pytest.raises(StoreError, match=r"node\.key.*cannot be written: Device or resource busy"):
            replace_key(folder)
    finally:
        subprocess.run(["umount", "-l", folder / "node.key"], check=True)
    assert contents(folder) == before
