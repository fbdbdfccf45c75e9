"""Fixtures that tests of several parts share."""

from __future__ import annotations

import ctypes
import os
import re
import select
import struct
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

MNT_DETACH = 2

# What this shell has set is no part of what is tested: a command started here has the streams of any user's.
_NOT_FOR_TESTS = re.compile(
    "PYTHONUNBUFFERED|PYTHONDONTWRITEBYTECODE|DUXNET_(?!TEST_|EVALUATION_|MACHINE_TREES).*|XDG_(STATE|CONFIG)_HOME|XDG_RUNTIME_DIR|"
    "(STATE|RUNTIME|CREDENTIALS)_DIRECTORY|NOTIFY_SOCKET|WATCHDOG_.*"
)
for _name in filter(_NOT_FOR_TESTS.fullmatch, list(os.environ)):
    del os.environ[_name]

# The same examples in every run, so that what lands does not hang on a draw; HYPOTHESIS_PROFILE=search draws new ones.
# No time limit for one example: each test has its own, and a busy machine is no fault.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.register_profile("search", print_blob=True, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))


# Why a test may be skipped where DUXNET_TEST_SKIPS_FAIL is set, as the CI script does.
_FOR_ROOT = re.compile(r"needs root|only root can|needs the right to mount|cannot (be )?mount|needs /dev/fuse")
_FOR_OTHER_MACHINES = re.compile(
    r"needs DUXNET_EVALUATION_DATA|needs DUXNET_MACHINE_TREES|"
    r"is promised for Python 3\.11|this version of Python gives each object a dict|NO REAL BOOT WAS TRIED|"
    r"[Cc]ontrol groups cannot be made here|no cgroup hierarchy here|cannot be another machine here|"
    r"system calls cannot be traced here|no address beyond loopback|needs /etc/machine-id|has no machine-id"
    + ("|could not import 'schemathesis'" if sys.version_info < (3, 10) else "")
)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Fail what is skipped although this machine could have had it: a skip in silence would be a test that is gone."""
    outcome: Any = yield
    report: pytest.TestReport = outcome.get_result()
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("DUXNET_TEST_SKIPS_FAIL"):
        assert isinstance(report.longrepr, tuple)
        reason = report.longrepr[2]
        is_for_root = os.geteuid() != 0 and _FOR_ROOT.search(reason)
        if not is_for_root and not _FOR_OTHER_MACHINES.search(reason):
            report.outcome = "failed"
            report.longrepr = f"{item.nodeid} could run here, and was left out. {reason}"


FUSE_INIT = 26


def take_and_stall(device: int, stop: int) -> None:
    """A FUSE server that answers the kernel's greeting, takes every other request and answers none.

    A waiter for a request that was taken cannot be killed: sshfs or s3fs with a dead network behave so.
    """
    while True:
        ready, _, _ = select.select([device, stop], [], [])
        if stop in ready:
            return
        try:
            request = os.read(device, 1 << 17)
        except OSError:  # the mount is gone
            return
        operation, unique = struct.unpack("<IQ", request[4:16])
        if operation == FUSE_INIT:
            answer = struct.pack("<IIIIHHIIHHI7I", 7, 31, 1 << 16, 0, 0, 0, 1 << 16, 1, 0, 0, 0, *[0] * 7)
            os.write(device, struct.pack("<IiQ", 16 + len(answer), 0, unique) + answer)


@pytest.fixture
def silent_mount(tmp_path: Path) -> Iterator[Path]:
    """A mount that never answers, for real: its server takes the request and stalls."""
    try:
        device = os.open("/dev/fuse", os.O_RDWR | os.O_NONBLOCK)
    except OSError as error:
        pytest.skip(f"needs /dev/fuse: {error}")
    folder = tmp_path / "silent"
    folder.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
    if libc.mount(b"silent:/export", str(folder).encode(), b"fuse.silent", 0, options) != 0:
        os.close(device)
        pytest.skip(f"cannot mount here: {os.strerror(ctypes.get_errno())}")
    woken, wake = os.pipe()
    server = threading.Thread(target=take_and_stall, args=(device, woken))
    server.start()
    yield folder
    os.close(wake)
    server.join()
    os.close(woken)
    libc.umount2(str(folder).encode(), MNT_DETACH)
    os.close(device)  # the kernel ends what still waits
