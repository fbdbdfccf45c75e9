"""Routes for machines that watch: events, metrics, service discovery, health of the coordinator itself."""

from __future__ import annotations

import ipaddress
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from litestar import Request, Response, get
from litestar.response import Stream

from duxnet.coordinator.access.roles import Permission
from duxnet.coordinator.coordinator import Coordinator
from duxnet.coordinator.errors import Refused
from duxnet.coordinator.http.documented import ERRORS
from duxnet.coordinator.http.openapi import EventPage, ScrapeTarget, StatusView
from duxnet.coordinator.http.query_params import EventsAsked, Scraping, operation_of, parse_node_query, parse_query
from duxnet.coordinator.routes.answers import answer_json, caller_of
from duxnet.coordinator.routes.metrics import OPENMETRICS, PLAIN, metrics_text
from registry_core.errors import EventsCompacted
from registry_core.events import Event
from registry_core.models.times import time_to_text
from registry_core.query.node_query import NodeQuery
from registry_core.query.url import QueryParameters

__all__ = ["WATCH_ROUTES"]

AnyRequest = Request[Any, Any, Any]

MOST_FOLLOWERS = 1000
KEEP_ALIVE_SECONDS = 15.0
MOST_EVENTS = 1000
_AS_IT_COMES = {"cache-control": "no-cache", "x-accel-buffering": "no"}
"""A proxy keeps no stream, and nginx would hold it back until a buffer is full."""


@get(
    "/v1/events",
    responses=ERRORS,
    operation_class=operation_of(EventsAsked),
    summary="What happened, in order",
    tags=["watch"],
)
async def events(request: AnyRequest, coordinator: Coordinator) -> Response[EventPage]:
    """A page of events; with `Accept: text/event-stream` a stream that resumes by Last-Event-ID. 410 when compacted."""
    wanted = parse_query(request.scope["query_string"], EventsAsked)
    ring, since = coordinator.registry.events, wanted.since
    if "text/event-stream" in request.headers.get("accept", ""):
        last = request.headers.get("last-event-id", "")
        if last and not (last.isascii() and last.isdigit() and len(last) < 19):
            raise Refused("invalid", "Last-Event-ID must be the index of an event")
        index = int(last) if last else (ring.last_index if since is None else since)
        ring.after(index)  # 410 before the stream begins
        if coordinator.followers >= MOST_FOLLOWERS:
            raise Refused("busy", "too many follow the events", retry_after_seconds=30)
        return Stream(_frames(coordinator, index), media_type="text/event-stream", headers=_AS_IT_COMES)  # type: ignore[return-value]  # a stream of the same events
    index = ring.last_index if since is None else since
    found = ring.after(index)
    deadline = time.monotonic() + wanted.wait_seconds
    while not found and time.monotonic() < deadline:
        await coordinator.next_tick(deadline - time.monotonic())
        found = ring.after(index)
    page = found[:MOST_EVENTS]
    content = {"events": [_plain(event) for event in page], "last": page[-1].index if page else index}
    return answer_json(content, request)


async def _frames(coordinator: Coordinator, index: int) -> AsyncIterator[bytes]:
    ring = coordinator.registry.events
    coordinator.followers += 1
    try:
        yield b"retry: 3000\n\n"
        spoke = time.monotonic()
        while not coordinator.is_stopping:
            try:
                found = ring.after(index)
            except EventsCompacted as error:  # it fell behind the ring: read the list again
                yield b"event: reset\ndata: {}\n\n"
                index = error.oldest_index - 1 if error.oldest_index > 0 else ring.last_index
                continue
            for event in found[:MOST_EVENTS]:
                data = json.dumps(_plain(event))
                yield f"id: {event.index}\nevent: node.{event.kind}\ndata: {data}\n\n".encode()
                index, spoke = event.index, time.monotonic()
            if not found:
                if time.monotonic() - spoke >= KEEP_ALIVE_SECONDS:
                    yield b": still here\n\n"
                    spoke = time.monotonic()
                await coordinator.next_tick(KEEP_ALIVE_SECONDS)
    finally:
        coordinator.followers -= 1


def _plain(event: Event) -> dict[str, Any]:
    return {
        "index": event.index,
        "at": time_to_text(event.at),
        "kind": str(event.kind),
        "node_id": event.node_id,
        "details": dict(event.details),
    }


@get(
    "/metrics",
    responses=ERRORS,
    media_type="text/plain",
    summary="Figures for Prometheus",
    tags=["watch"],
)
async def metrics(request: AnyRequest, coordinator: Coordinator) -> Response[str]:
    """OpenMetrics where the asker accepts it, else Prometheus' text format."""
    openmetrics = "application/openmetrics-text" in request.headers.get("accept", "")
    text = metrics_text(coordinator, openmetrics=openmetrics)
    return Response(content=text, media_type=OPENMETRICS if openmetrics else PLAIN)


@get(
    "/v1/sd/prometheus",
    responses=ERRORS,
    operation_class=operation_of(QueryParameters, Scraping),
    summary="Targets for Prometheus' http_sd",
    tags=["watch"],
)
async def service_discovery(request: AnyRequest, coordinator: Coordinator) -> Response[list[ScrapeTarget]]:
    """Always the whole list. Shows addresses, so it needs a token unless the settings show them to all."""
    caller = caller_of(request, coordinator)
    if not coordinator.settings.show_addresses:
        caller.need(Permission.SEE_ADDRESSES)
    if coordinator.is_warming:  # Prometheus keeps the last list on an error
        raise Refused("warming-up", "", retry_after_seconds=coordinator.interval_seconds)
    asked, scraping = parse_node_query(request.scope["query_string"], Scraping)
    found = []
    for node in (await coordinator.node_search.find(NodeQuery.from_parameters(asked))).nodes:
        port = scraping.scrape_port or node.port
        if not port:
            continue
        host = f"[{node.ip_address}]" if ipaddress.ip_address(node.ip_address).version == 6 else node.ip_address
        labels = {
            "__meta_duxnet_node_id": node.id,
            "__meta_duxnet_hostname": node.hostname,
            "__meta_duxnet_liveness": str(node.liveness),
            "__meta_duxnet_ready": str(node.is_ready).lower(),
            **{f"__meta_duxnet_tag_{_label(key)}": value for key, value in node.tags.items()},
        }
        found.append({"targets": [f"{host}:{port}"], "labels": labels})
    return Response(content=msgspec.json.encode(found), media_type="application/json")  # type: ignore[arg-type]  # encoded already


def _label(key: str) -> str:
    return "".join(character if character.isascii() and character.isalnum() else "_" for character in key)


@get("/healthz", responses=ERRORS, summary="Does it run?", tags=["watch"])
async def healthz(request: AnyRequest, coordinator: Coordinator) -> Response[StatusView]:
    """200 as long as it answers."""
    return answer_json(_status("ok", coordinator), request)


@get("/readyz", responses=ERRORS, summary="Is what it says the whole truth?", tags=["watch"])
async def readyz(request: AnyRequest, coordinator: Coordinator) -> Response[StatusView]:
    """503 for three intervals after a start, while nodes are heard again."""
    if coordinator.is_warming:
        raise Refused("warming-up", "", retry_after_seconds=coordinator.interval_seconds)
    return answer_json(_status("ready", coordinator), request)


def _status(word: str, coordinator: Coordinator) -> dict[str, Any]:
    breakers = list(coordinator.mass_failure.open_breakers)
    # The time, so that `duxnet doctor` on a node can say how far the two clocks are apart.
    now = time_to_text(coordinator.clock.now())
    return {"status": word, "degraded": bool(breakers), "breakers": breakers, "time": now}


WATCH_ROUTES = [events, metrics, service_discovery, healthz, readyz]
