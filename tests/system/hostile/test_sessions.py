"""Sessions follow admission, whoever changes it and however; a registration that is sent again opens nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Callable

import httpx
import pytest

from duxnet.coordinator.app import create_app, listening_clock
from duxnet.coordinator.settings import CoordinatorSettings
from registry_core.embedded.node_registry import NodeRegistry
from registry_core.models.status import Admission
from tests.support.coordinators import Running
from tests.system.coordinator.test_identity import Signer, kind


class Mounted:
    """A coordinator in a host's own process, with a node that is registered, and calls with its session."""

    def __init__(self, registry: NodeRegistry, http: httpx.AsyncClient, signer: Signer, operator: str) -> None:
        self.registry, self.http, self.signer, self.operator = registry, http, signer, operator
        self.session = ""
        self.generation = self._sequence = 0

    async def register(self) -> int:
        self.generation += 1
        body = self.signer.body(self.generation)
        headers = {**self.signer.headers(body), "content-type": "application/json"}
        answer = await self.http.put(f"/v1/nodes/{self.signer.node_id}", content=body, headers=headers)
        self.session = answer.json().get("session", self.session)
        return answer.status_code

    async def speak(self) -> list[int]:
        """The statuses of a heartbeat, a leave and a removal with the session."""
        self._sequence += 1
        path, headers = f"/v1/nodes/{self.signer.node_id}", {"authorization": f"Bearer {self.session}"}
        return [
            (await self.http.put(f"{path}/heartbeat", json={"sequence": self._sequence}, headers=headers)).status_code,
            (await self.http.post(f"{path}/leave", headers=headers)).status_code,
            (await self.http.delete(path, headers=headers)).status_code,
        ]


def mounted(folder: Path, use: Callable[[Mounted], Awaitable[None]]) -> None:
    async def serve() -> None:
        settings = CoordinatorSettings()
        clock = listening_clock(settings)
        with NodeRegistry(folder / "nodes.db", heartbeat_timeout_seconds=20, clock=clock) as registry:
            app = create_app(registry, folder / "state", settings, clock)
            transport = httpx.ASGITransport(app, client=("127.0.0.1", 1))  # type: ignore[arg-type]  # its own protocol
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
                signer = Signer(None, (await http.get("/v1/coordinator")).json())  # type: ignore[arg-type]  # no process
                operator = (folder / "state" / "operator.token").read_text().strip()
                await use(Mounted(registry, http, signer, operator))

    asyncio.run(serve())


def ban_by_host(at: Mounted) -> None:
    at.registry.admin.ban(at.signer.node_id, reason="cheats", actor="host")


def ban_by_rules(at: Mounted) -> None:
    node_id = at.signer.node_id
    for _ in range(4):  # the fourth suspension is a ban
        if at.registry.get_reputation(node_id).standing is not Admission.PROBATION:
            at.registry.admin.put_on_probation(node_id)
        for _ in range(12):
            at.registry.update_node_reputation(node_id, False, weight=5.0)


@pytest.mark.parametrize("ban", [ban_by_host, ban_by_rules])
def test_a_banned_node_s_session_says_nothing_whoever_banned_it(tmp_path: Path, ban: Callable[[Mounted], None]) -> None:
    async def use(at: Mounted) -> None:
        assert await at.register() == 200
        path, headers = f"/v1/nodes/{at.signer.node_id}/heartbeat", {"authorization": f"Bearer {at.session}"}
        assert (await at.http.put(path, json={"sequence": 0}, headers=headers)).status_code == 200
        ban(at)
        assert str(at.registry.get_node(at.signer.node_id).admission) == "banned"  # type: ignore[union-attr]  # it is there
        assert await at.speak() == [403, 403, 403]
        assert await at.register() == 403
        at.registry.admin.approve(at.signer.node_id)
        assert await at.speak() == [200, 200, 204]

    mounted(tmp_path, use)


def test_a_node_that_its_host_removed_has_no_session_left(tmp_path: Path) -> None:
    async def use(at: Mounted) -> None:
        assert await at.register() == 200
        assert at.registry.deregister_node(at.signer.node_id)
        assert await at.speak() == [404, 404, 404]

    mounted(tmp_path, use)


def test_the_bytes_of_a_registration_open_no_session_after_a_restart_either(tmp_path: Path) -> None:
    with Running(tmp_path / "state") as first:
        signer = Signer(first)
        body = signer.body()
        headers = signer.headers(body, created=time.time() - 2)
        assert signer.send(body, headers)[0] == 200
        first.kill()
    with Running(tmp_path / "state", port=first.port) as second:
        assert kind(signer.send(body, headers)) == "stale-generation"
        assert signer.register(2)[2]["session"]
        assert second.call("GET", f"/v1/nodes/{signer.node_id}")[2]["liveness"] == "live"
