"""Routes for monitoring: events, metrics, service discovery, and the health of the coordinator itself."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from duxnet.coordinator.access.places import Holder
from duxnet.coordinator.access.roles import Caller, Permission
from duxnet.coordinator.coordinator import Coordinator
from duxnet.coordinator.errors import Refused
from duxnet.coordinator.http.messages import Answer, Request, Response, StreamResponse, conditional_json
from duxnet.coordinator.http.query_params import Discovery, EventsQuery
from duxnet.coordinator.routes.metrics import OPENMETRICS, PLAIN, metrics_text
from registry_core.errors import EventsCompacted
from registry_core.models.addresses import is_destination
from registry_core.models.times import time_to_text
from registry_core.query.conditions import withheld

__all__ = ["healthz", "metrics", "readyz", "service_discovery", "show_events"]

KEEP_ALIVE_SECONDS = 15.0
LONGEST_STREAM_SECONDS = 3600.0
"""Applies to callers without a token. The client then resumes the stream by itself, if a place is free."""
FIRST_UNPRIVILEGED_PORT = 1024
_STREAM_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]
"""Proxies must not cache the stream, and nginx must not buffer it."""


async def show_events(request: Request, coordinator: Coordinator, caller: Caller, query: EventsQuery) -> Answer:
    """Returns a page of events, or with `Accept: text/event-stream` a stream that resumes by Last-Event-ID.

    The answer is 410 if the requested events are compacted. A waiting caller takes a place; the answer is 503 if none
    is free for its network or, if it has a token, for callers with a token.
    """
    ring, feed, since = coordinator.registry.events, coordinator.event_feed, query.since
    if "text/event-stream" in request.header(b"accept"):
        last = request.header(b"last-event-id")
        if last and not (last.isascii() and last.isdigit() and len(last) < 19):
            raise Refused("invalid", "header last-event-id: must be the index of an event")
        index = int(last) if last else (ring.last_index if since is None else since)
        ring.after(index)  # 410 before the stream begins
        frames = _frames(coordinator, index, coordinator.holder(request, caller))
        return StreamResponse(await frames.__anext__(), frames, _STREAM_HEADERS)
    index = ring.last_index if since is None else since
    events, last_index = feed.page(index)
    if query.wait_seconds and not events:
        with coordinator.following.taken(coordinator.holder(request, caller)):
            await feed.wait(index, query.wait_seconds)
        events, last_index = feed.page(index)
    return conditional_json({"events": events, "last": last_index}, request)


async def _frames(coordinator: Coordinator, index: int, holder: Holder) -> AsyncGenerator[bytes, None]:
    """Yields the stream, and holds a place until the client disconnects. Raises Refused at once if no place is free."""
    ring, feed = coordinator.registry.events, coordinator.event_feed
    with coordinator.following.taken(holder):
        yield b"retry: 3000\n\n"
        began = spoke = time.monotonic()
        while not feed.is_closed and (holder.has_token or spoke - began < LONGEST_STREAM_SECONDS):
            try:
                text, index = feed.frames(index)
            except EventsCompacted as error:  # the client is behind the ring: it must read the list again
                yield b"event: reset\ndata: {}\n\n"
                index = error.oldest_index - 1 if error.oldest_index > 0 else ring.last_index
                continue
            if text:
                yield text
                spoke = time.monotonic()
                continue
            await feed.wait(index, KEEP_ALIVE_SECONDS)
            if time.monotonic() - spoke >= KEEP_ALIVE_SECONDS:
                yield b": still here\n\n"
                spoke = time.monotonic()


def metrics(request: Request, coordinator: Coordinator) -> Response:
    """Returns the metrics, in OpenMetrics if the caller accepts it, else in Prometheus' text format."""
    openmetrics = "application/openmetrics-text" in request.header(b"accept")
    text = metrics_text(coordinator, openmetrics=openmetrics)
    return Response(text.encode(), (OPENMETRICS if openmetrics else PLAIN).encode())


async def service_discovery(request: Request, coordinator: Coordinator, caller: Caller, query: Discovery) -> Response:
    """Returns all nodes that may get work and whose address other machines can use.

    The caller needs a token, unless show_addresses is set. A port below 1024 is a target only with `scrape_port` or the
    setting low_ports, since on most machines it does not belong to an exporter.
    """
    if not coordinator.settings.show_addresses:
        caller.need(Permission.SEE_ADDRESSES)
    if coordinator.is_warming:  # on an error, Prometheus keeps the last list
        raise Refused("warming-up", "", retry_after_seconds=coordinator.interval_seconds)
    found = []
    holder = coordinator.holder(request, caller)
    for node in (await coordinator.node_search.find_in_thread(query.query(), holder)).nodes:
        port = query.scrape_port or node.port
        if not port or not is_destination(node.ip_address) or withheld(node):
            continue
        if port < FIRST_UNPRIVILEGED_PORT and not (query.scrape_port or coordinator.settings.low_ports):
            continue
        host = f"[{node.ip_address}]" if ipaddress.ip_address(node.ip_address).version == 6 else node.ip_address
        labels = {
            "__meta_duxnet_node_id": node.id,
            "__meta_duxnet_hostname": node.hostname,
            "__meta_duxnet_liveness": str(node.liveness),
            "__meta_duxnet_ready": str(node.is_ready).lower(),
            **{f"__meta_duxnet_tag_{label}": value for label, value in _labels(node.tags).items()},
        }
        found.append({"targets": [f"{host}:{port}"], "labels": labels})
    return conditional_json(found, request)


def _labels(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags by Prometheus label name. If several tags get the same name, a tag whose key is that name wins."""
    labels = {_label(key): value for key, value in tags.items()}
    return {**labels, **{key: value for key, value in tags.items() if _label(key) == key}}


def _label(key: str) -> str:
    return "".join(character if character.isascii() and character.isalnum() else "_" for character in key)


def healthz(request: Request, coordinator: Coordinator) -> Response:
    """Answers 503 if the background work has stopped: no node is marked down then, and a restart is needed."""
    _refuse_standing_still(coordinator)
    return conditional_json(_status("ok", coordinator), request)


def readyz(request: Request, coordinator: Coordinator) -> Response:
    """As `healthz`; also answers 503 for three intervals after a start, until nodes have reported again."""
    _refuse_standing_still(coordinator)
    if coordinator.is_warming:
        raise Refused("warming-up", "", retry_after_seconds=coordinator.interval_seconds)
    return conditional_json(_status("ready", coordinator), request)


def _refuse_standing_still(coordinator: Coordinator) -> None:
    if not coordinator.is_pulsing:
        age = coordinator.last_pulse_age_seconds
        raise Refused("standing-still", f"the last pulse was {age:.0f} s ago", retry_after_seconds=5)


def _status(word: str, coordinator: Coordinator) -> dict[str, Any]:
    breakers = list(coordinator.mass_failure.open_breakers)
    # `duxnet doctor` on a node compares this time with its own clock.
    now = time_to_text(coordinator.clock.now())
    return {"status": word, "degraded": bool(breakers), "breakers": breakers, "time": now}
