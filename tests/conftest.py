"""Fixtures that tests of several parts share."""

from __future__ import annotations

import ctypes
import os
import select
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

MNT_DETACH = 2

# The same examples in every run, so that what lands does not hang on a draw; HYPOTHESIS_PROFILE=search draws new ones.
# No time limit for one example: each test has its own, and a busy machine is no fault.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.register_profile("search", print_blob=True, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))


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
