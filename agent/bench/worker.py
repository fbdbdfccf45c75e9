"""One lane of a measurement, in a separate process: run by path, never imported by the agent.

    python -I worker.py cpu|memory|disk_write|disk_read|gpu ARGUMENT SECONDS

Prints `ready`, waits for a line, works for SECONDS and prints the result as one line of JSON. It is a separate process,
because lanes must not share an interpreter, and because a disk or a driver may never answer.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import random
import sys
import time
from typing import Any, Callable

__all__ = ["cpu_step", "seeded_buffer"]

BUFFER_BYTES = 256 * 1024
REPEATS = 8
HASHED_BYTES = 80 * 1024
BLOCK_BYTES = 4 * 1024 * 1024
PAGE_BYTES = 4096
MOST_WRITTEN_BYTES = 256 * 1024 * 1024
_DIRECT = getattr(os, "O_DIRECT", 0)
PAUSE_BYTES = 32 * 1024 * 1024  # written between two checks of the clock


def seeded_buffer(seed: bytes) -> bytes:
    """Data that cannot be compressed and that depends only on the seed."""
    from blake3 import blake3

    buffer: bytes = blake3(b"duxnet/cpu/buf" + seed).digest(length=BUFFER_BYTES)
    return buffer


def cpu_step(state: bytes, buffer: bytes) -> bytes:
    """One step of the CPU exam: SHA-256 of BLAKE3 of 2 MiB, keyed by the previous step, and of 80 KiB.

    A step needs the result of the previous one, so that steps per second are the rate of one lane.
    """
    from blake3 import blake3

    hasher = blake3(key=state)
    for _ in range(REPEATS):
        hasher.update(buffer)
    return hashlib.sha256(hasher.digest() + buffer[:HASHED_BYTES]).digest()


def cpu(seed: str, seconds: float) -> Callable[[], dict[str, Any]]:
    buffer = seeded_buffer(seed.encode())
    state = cpu_step(hashlib.sha256(seed.encode()).digest(), buffer)  # the first step loads the library

    def work() -> dict[str, Any]:
        last, steps, start = state, 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            last = cpu_step(last, buffer)
            steps += 1
        return {"done": steps, "seconds": time.perf_counter() - start}

    return work


def memory(size: str, seconds: float) -> Callable[[], dict[str, Any]]:
    source, target = bytearray(os.urandom(PAGE_BYTES) * (int(size) // PAGE_BYTES)), bytearray(int(size))
    view = memoryview(source)
    target[:] = view

    def work() -> dict[str, Any]:
        copied, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            target[:] = view
            copied += 2 * len(target)  # each byte is read once and written once
        return {"done": copied, "seconds": time.perf_counter() - start}

    return work


def disk_write(path: str, seconds: float) -> Callable[[], dict[str, Any]]:
    block = os.urandom(BLOCK_BYTES)

    def work() -> dict[str, Any]:
        written, start = 0, time.perf_counter()
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            while written < MOST_WRITTEN_BYTES and time.perf_counter() - start < seconds:
                for _ in range(PAUSE_BYTES // BLOCK_BYTES):
                    written += os.write(descriptor, block)
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return {"done": written, "seconds": time.perf_counter() - start}

    return work


def disk_read(path: str, seconds: float) -> Callable[[], dict[str, Any]]:
    """Reads of 4 KiB at random offsets, bypassing the page cache if the file system can."""
    page = mmap.mmap(-1, PAGE_BYTES)  # aligned, as direct reads require
    direct = bool(_DIRECT)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | _DIRECT)
        os.preadv(descriptor, [page], 0)
    except OSError:
        direct, descriptor = False, os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    pages = os.fstat(descriptor).st_size // PAGE_BYTES

    def work() -> dict[str, Any]:
        times: list[float] = []
        start = time.perf_counter()
        while time.perf_counter() - start < seconds:
            offset = random.randrange(pages) * PAGE_BYTES  # noqa: S311 - an offset, not a secret
            if not direct and hasattr(os, "posix_fadvise"):
                os.posix_fadvise(descriptor, offset, PAGE_BYTES, os.POSIX_FADV_DONTNEED)
            before = time.perf_counter()
            os.preadv(descriptor, [page], offset)
            times.append(time.perf_counter() - before)
        times.sort()
        return {
            "done": len(times),
            "seconds": time.perf_counter() - start,
            "median_us": round(1e6 * times[len(times) // 2], 1),
            "p99_us": round(1e6 * times[len(times) * 99 // 100], 1),
            "direct": direct,
        }

    return work


def gpu(_argument: str, seconds: float) -> Callable[[], dict[str, Any]]:
    """Products of 4096 × 4096 matrices in half precision on the first GPU, by torch."""
    import torch

    size = 4096
    name = torch.cuda.get_device_name(0)
    left = torch.rand(size, size, device="cuda", dtype=torch.float16)
    torch.matmul(left, left)
    torch.cuda.synchronize()

    def work() -> dict[str, Any]:
        operations, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            torch.matmul(left, left)
            torch.cuda.synchronize()
            operations += 2 * size**3
        return {"done": operations, "seconds": time.perf_counter() - start, "device": name}

    return work


_KINDS = {"cpu": cpu, "memory": memory, "disk_write": disk_write, "disk_read": disk_read, "gpu": gpu}


def main(kind: str, argument: str, seconds: float) -> None:
    """Prepare, wait for the signal to start, work, print the result."""
    try:
        work = _KINDS[kind](argument, seconds)
        print("ready", flush=True)  # noqa: T201 - the parent reads it
        sys.stdin.readline()
        result = work()
    except (OSError, ImportError, RuntimeError, AssertionError, MemoryError) as error:
        result = {"failed": f"{type(error).__name__}: {error}"}
    print(json.dumps(result), flush=True)  # noqa: T201 - the parent reads it


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
