"""Fixtures that tests of several parts share."""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

MNT_DETACH = 2

# What this shell has set is no part of what is tested: a command started here has the streams of any user's.
_NOT_FOR_TESTS = re.compile(
    "PYTHONUNBUFFERED|PYTHONDONTWRITEBYTECODE|DUXNET_(?!TEST_).*|XDG_(STATE|CONFIG)_HOME|XDG_RUNTIME_DIR|"
    "(STATE|RUNTIME|CREDENTIALS)_DIRECTORY|NOTIFY_SOCKET|WATCHDOG_.*"
)
for _name in filter(_NOT_FOR_TESTS.fullmatch, list(os.environ)):
    del os.environ[_name]

# The same examples in every run, so that what lands does not hang on a draw; HYPOTHESIS_PROFILE=search draws new ones.
# No time limit for one example: each test has its own, and a busy machine is no fault.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.register_profile("search", print_blob=True, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))


@pytest.fixture
def silent_mount(tmp_path: Path) -> Iterator[Path]:
    """A mount that never answers, for real: the kernel waits for its server's first answer."""
    try:
        device = os.open("/dev/fuse", os.O_RDWR)
    except OSError as error:
        pytest.skip(f"needs /dev/fuse: {error}")
    folder = tmp_path / "silent"
    folder.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
    if libc.mount(b"silent:/export", str(folder).encode(), b"fuse.silent", 0, options) != 0:
        os.close(device)
        pytest.skip(f"cannot mount here: {os.strerror(ctypes.get_errno())}")
    yield folder
    libc.umount2(str(folder).encode(), MNT_DETACH)
    os.close(device)  # the kernel ends what still waits
