"""A herd of simulated nodes against a real coordinator: real keys, signatures, sessions, connections; one event loop.

They speak as `duxnet agent` does: one connection each, kept open; an answer that does not come in time is given up
and the report is sent again with a higher sequence; "later" (429, 503) is obeyed for as long as it says, with jitter.
Here: what several tests share. Not here: what they prove.
"""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import time
from collections import Counter
from collections.abc import Coroutine, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Optional, TypeVar
from urllib.parse import urlencode

from tests.support.coordinators import Running
from tests.support.processes import until
from tests.system.coordinator.test_identity import Signer

T = TypeVar("T")

LATER = (429, 503)
SIGNED_FOR_SECONDS = 50.0  # a signature is good for 60; an agent signs anew for each attempt
REPORTS_PER_INTERVAL = 1.25  # a timer that fires late is no silence


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]  # by lower-case name
    body: bytes

    @property
    def plain(self) -> Any:
        return json.loads(self.body)


class Line:
    """One connection, opened when it is needed and again after it broke. Raises ConnectionError for all that fails."""

    def __init__(self, port: int, patience_seconds: float) -> None:
        self._port = port
        self._patience_seconds = patience_seconds
        self._streams: Optional[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = None

    async def exchange(self, method: str, path: str, body: bytes = b"", headers: Iterable[str] = ()) -> Answer:
        head = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}", *headers]
        request = "\r\n".join([*head, "Content-Type: application/json", "", ""]).encode() + body
        try:
            return await asyncio.wait_for(self._exchange(request), self._patience_seconds)
        except asyncio.TimeoutError:
            self.close()
            raise ConnectionError("no answer in time") from None
        except (OSError, asyncio.IncompleteReadError) as error:
            self.close()
            raise ConnectionError(f"{type(error).__name__}: {error}") from None

    async def _exchange(self, request: bytes) -> Answer:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        writer.write(request)
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        if headers.get("connection") == "close":
            self.close()
        return Answer(int(first.split()[1]), headers, body)

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


@dataclass
class Tally:
    """What was answered and how often no answer came. `odd`: what no well-behaved node should ever be told."""

    statuses: Counter[int] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    odd: list[Answer] = field(default_factory=list)

    def note(self, answer: Answer) -> None:
        self.statuses[answer.status] += 1
        names_its_wait = answer.headers.get("retry-after", "").isdigit()
        if answer.status not in (200, *LATER) or (answer.status in LATER and not names_its_wait):
            self.odd.append(answer)


async def later(answer: Answer) -> None:
    """Wait as long as the coordinator asks for, each for another time."""
    await asyncio.sleep(int(answer.headers["retry-after"]) + random.uniform(0, 1))


class SimulatedNode:
    """One node: its key, its registration signed beforehand, its session."""

    def __init__(self, signer: Signer, **said: Any) -> None:
        self.id = signer.node_id
        self.session = ""
        self._signer = signer
        self._body = signer.body(**said)
        self._sequence = 0
        self._was_sent = False
        self._sign()

    def _sign(self) -> None:
        headers = self._signer.headers(self._body, nonce=secrets.token_hex(8))
        headers.pop("content-type", None)
        self._headers = [f"{name}: {value}" for name, value in headers.items()]
        self._signed_until = time.monotonic() + SIGNED_FOR_SECONDS

    async def try_to_register(self, line: Line, tally: Tally) -> Answer:
        """One attempt."""
        if self._was_sent or time.monotonic() > self._signed_until:
            self._sign()
        self._was_sent = True
        answer = await line.exchange("PUT", f"/v1/nodes/{self.id}", self._body, self._headers)
        tally.note(answer)
        if answer.status == 200:
            self.session = answer.plain["session"]
        return answer

    async def register(self, line: Line, tally: Tally) -> None:
        """Come again, with the same words, until it is in."""
        while not self.session:
            try:
                answer = await self.try_to_register(line, tally)
            except ConnectionError as error:
                tally.failures[str(error)] += 1
                await asyncio.sleep(random.uniform(0, 0.5))
                continue
            if answer.status in LATER:
                await later(answer)
            else:
                assert answer.status == 200, answer

    async def report(self, line: Line, tally: Tally) -> Answer:
        """One heartbeat."""
        self._sequence += 1
        body = b'{"sequence":%d,"load_average":0.5,"memory_usage":40.0,"disk_usage":30.0}' % self._sequence
        authorization = f"Authorization: Bearer {self.session}"
        answer = await line.exchange("PUT", f"/v1/nodes/{self.id}/heartbeat", body, [authorization])
        tally.note(answer)
        return answer


class Herd:
    """Registered nodes that report from a thread of their own until the end; those in `silent` do not."""

    def __init__(self, running: Running, count: int, *, interval_seconds: float, **said: Any) -> None:
        self.running = running
        self.interval_seconds = interval_seconds
        self.patience_seconds = 0.4 * max(2.0, interval_seconds)  # as long as an agent waits for an answer
        self.silent: set[str] = set()
        self.reports = Tally()
        self.registrations = Tally()
        self._said = {"interval_seconds": interval_seconds, **said}
        self._coordinator = running.call("GET", "/v1/coordinator")[2]
        self.nodes = [self.newcomer() for _ in range(count)]
        self._executor = ThreadPoolExecutor(1)
        self._life: Optional[Future[None]] = None

    def newcomer(self) -> SimulatedNode:
        """A further node, which is not registered yet and reports only when somebody lets it."""
        return SimulatedNode(Signer(self.running, self._coordinator), **self._said)

    def line(self) -> Line:
        return Line(self.running.port, self.patience_seconds)

    def approve(self, nodes: Iterable[SimulatedNode]) -> None:
        token = self.running.operator_token()
        for node in nodes:
            path = f"/v1/nodes/{node.id}/admission"
            assert self.running.call("PUT", path, {"admission": "approved"}, token)[0] == 200

    def alongside(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Let other work go on in the herd's event loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def __enter__(self) -> Herd:
        self._life = self._executor.submit(asyncio.run, self._live())
        until(lambda: all(node.session for node in self.nodes) or self._life_is_over(), "the herd is registered")
        return self

    def __exit__(self, *_: object) -> None:
        assert self._life is not None
        if not self._life.done():
            self._loop.call_soon_threadsafe(self._over.set)
        self._executor.shutdown()
        self._life.result()

    def _life_is_over(self) -> bool:
        assert self._life is not None
        if self._life.done():
            self._life.result()
        return self._life.done()

    async def _live(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        lines = [self.line() for _ in self.nodes]
        reporting = [asyncio.ensure_future(self._live_as(node, line)) for node, line in zip(self.nodes, lines)]
        over = asyncio.ensure_future(self._over.wait())
        try:
            done, _ = await asyncio.wait([over, *reporting], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()  # a node that stopped reporting by a fault of ours is no silence
        finally:
            self._over.set()
            for task in reporting:
                task.cancel()
            await asyncio.gather(*reporting, return_exceptions=True)
            for line in lines:
                line.close()

    async def _live_as(self, node: SimulatedNode, line: Line) -> None:
        await node.register(line, self.registrations)
        pause = self.interval_seconds / REPORTS_PER_INTERVAL
        await asyncio.sleep(random.uniform(0, pause))
        while not self._over.is_set():  # asked, since wait_for may swallow a cancellation
            begun = time.monotonic()
            if node.id not in self.silent:
                await self._report_once(node, line)
            await asyncio.sleep(max(0.0, pause - (time.monotonic() - begun)))

    async def _report_once(self, node: SimulatedNode, line: Line) -> None:
        while not self._over.is_set():
            try:
                answer = await node.report(line, self.reports)
            except ConnectionError as error:
                self.reports.failures[str(error)] += 1
                await asyncio.sleep(random.uniform(0, min(0.5, self.interval_seconds / 2)))
                continue
            if answer.status not in LATER:
                return
            await later(answer)

    def states(self) -> dict[str, int]:
        """How many nodes are live, suspect and down."""
        found = Counter(node["liveness"] for node in all_nodes(self.running))
        return {state: found[state] for state in ("live", "suspect", "down")}


def all_nodes(running: Running) -> list[dict[str, Any]]:
    """Every registered node, read in pages."""
    nodes: list[dict[str, Any]] = []
    after: Optional[str] = ""
    while after is not None:
        page = running.call("GET", f"/v1/nodes?{urlencode({'limit': 1000, **({'after': after} if after else {})})}")[2]
        nodes += page["nodes"]
        after = page.get("next")
    return nodes


class Followed:
    """The events of a coordinator, as somebody reads them who follows it through its restarts."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._index = int(running.call("GET", "/v1/events")[2]["last"])
        self.events: list[dict[str, Any]] = []

    def read(self) -> Followed:
        """Read what is new."""
        while True:
            status, _, page = self._running.call("GET", f"/v1/events?since={self._index}")
            if status == 410:  # a restart begins a new ring
                self._index = page["oldest_index"] - 1
                continue
            self.events += page["events"]
            self._index = page["last"]
            if not page["events"]:
                return self

    def falls(self, to: str = "down") -> list[str]:
        """The ids of nodes that became `to`, in order."""
        return [
            event["node_id"] for event in self.events if event["kind"] == "liveness" and event["details"]["to"] == to
        ]

    def removed(self) -> list[str]:
        """The ids of nodes that were removed, in order."""
        return [event["node_id"] for event in self.events if event["kind"] == "deregistered"]
