"""A connection that ends leaves nothing behind, however it was used: no garbage collector has to look for it.

In this process, since only there it can be seen what is still referred to; the sockets are real.
"""

from __future__ import annotations

import asyncio
import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from duxnet.coordinator.app import app_of, open_coordinator
from duxnet.coordinator.server.connection import BoundedProtocol
from duxnet.coordinator.settings import CoordinatorSettings

pytestmark = pytest.mark.xdist_group("timing")  # what it measures bears no other measurement beside it


LANE = (
    b"PUT /v1/nodes/n/heartbeat HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: 2\r\n\r\n{}"
)
LONG = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
REGISTRATION = (
    b"PUT /v1/nodes/n HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
)


@pytest.mark.parametrize(
    ("said", "answers"),
    [
        (b"", 0),
        (LANE, 1),
        (LANE * 3, 3),
        (REGISTRATION, 1),
        (LONG, 1),
        (LONG * 3, 3),
        (LONG + REGISTRATION + LANE, 3),
        (LONG[:20], 0),
        (b"nonsense\r\n\r\n", 1),
        pytest.param(LONG * 3 + REGISTRATION, 0, id="gone-before-the-answer"),
        pytest.param(REGISTRATION + LONG, 0, id="gone-before-the-answer-of-a-registration"),
    ],
)
def test_a_connection_that_ended_is_gone(tmp_path: Path, said: bytes, answers: int) -> None:
    coordinator = open_coordinator(CoordinatorSettings(state_dir=str(tmp_path)))
    app = app_of(coordinator)
    seen: list[weakref.ref[BoundedProtocol]] = []

    async def connect() -> None:
        config = uvicorn.Config(app, http="httptools", ws="none", lifespan="off", log_config=None)
        config.load()
        state = ServerState()

        def protocol() -> Any:
            made = BoundedProtocol(
                config=config,
                server_state=state,
                app_state={},
                dispatcher=app,
            )
            seen.append(weakref.ref(made))
            return made

        server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        for _ in range(3):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(said)
            for _ in range(answers):
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
            writer.close()
            await writer.wait_closed()
        end = asyncio.get_running_loop().time() + 5
        while (state.connections or any(each() for each in seen)) and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(0.02)
        server.close()

    gc.collect()
    gc.disable()
    try:
        asyncio.run(connect())
        assert len(seen) == 3
        assert [each() for each in seen] == [None] * 3
    finally:
        gc.enable()
        coordinator.close()
