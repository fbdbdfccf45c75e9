"""The coordinator's ASGI application: it finds the route of a request and turns its result or error into an answer.

Here: checks that hold for every request (encryption, body size, content type), HEAD and OPTIONS, errors.
Not here: the routes (`routes.table`), connections (`server`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Callable, Optional, Union

from duxnet.coordinator.coordinator import Coordinator
from duxnet.coordinator.errors import Refused
from duxnet.coordinator.http.messages import (
    Answer,
    Receive,
    Request,
    Response,
    Scope,
    Send,
    StreamResponse,
    body_of,
    problem_response,
    refuse_content_type,
    send_response,
    while_there,
)
from duxnet.coordinator.http.problem_answers import counted
from duxnet.coordinator.http.routing import Route, Router
from duxnet.coordinator.routes.heartbeat import Heartbeats
from duxnet.coordinator.routes.registration import Registrations
from duxnet.coordinator.routes.table import route_table
from registry_core.errors import shown
from registry_core.wire.shapes import MAX_REGISTRATION_BYTES

__all__ = ["PREPARED", "Dispatcher", "Matched"]

PREPARED = "duxnet.answer"
"""Key of a scope: an answer that our own server has already made and that only has to be sent."""


_SINGLE = frozenset(
    (b"host", b"origin", b"authorization", b"content-type", b"content-length", b"content-encoding", b"expect")
)
_CONTINUE = b"100-continue"

Matched = tuple[Route, Mapping[str, str]]
Lifespan = Callable[[], AbstractAsyncContextManager[None]]


class Dispatcher:
    """The ASGI application. `lifespan` is entered while the application is served."""

    def __init__(self, coordinator: Coordinator, lifespan: Lifespan) -> None:
        self._coordinator = coordinator
        self._lifespan = lifespan
        self.heartbeats = Heartbeats(coordinator)
        self.registrations = Registrations(coordinator)
        self._router = Router(route_table(self.heartbeats, self.registrations))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or run the lifespan."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)
        else:
            await send({"type": "websocket.close"})

    def find_immediate(self, path: str) -> Optional[Matched]:
        """Returns the route for GET of this path if it never waits, else None."""
        found = self._router.find(path)
        route = None if found is None else found.by_method.get("GET")
        return None if found is None or route is None or route.waits else (route, found.parts)

    def answer(self, matched: Matched, request: Request) -> Union[Answer, Awaitable[Answer]]:
        """Returns the answer of a route, or an awaitable of it. Every error becomes a problem answer."""
        route, parts = matched
        try:
            if len(request.body) > MAX_REGISTRATION_BYTES:
                raise _too_large()
            result: Union[Answer, Awaitable[Answer]] = route.call(
                self._coordinator, self._coordinator.access, request, parts
            )
        except Exception as error:  # noqa: BLE001 - the boundary of the process: logged and answered as `internal`
            return self._failed(error, request.method, request.path)
        if isinstance(result, (Response, StreamResponse)):
            return result
        return self._awaited(result, request)

    async def _awaited(self, coming: Awaitable[Answer], request: Request) -> Answer:
        try:
            return await coming
        except Exception as error:  # noqa: BLE001 - as above
            return self._failed(error, request.method, request.path)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        method: str = scope["method"]
        answer: Union[Answer, Awaitable[Answer], None] = scope.get(PREPARED)
        if answer is None:
            try:
                found = self._checked(scope, "GET" if method == "HEAD" else method)
            except Exception as error:  # noqa: BLE001 - as above
                found = self._failed(error, method, scope["path"])
            if isinstance(found, Response):
                answer = found
            elif found[0].is_asgi:
                await found[0].handler(scope, receive, send, **found[1])
                return
            else:
                body = await body_of(receive, MAX_REGISTRATION_BYTES) if found[0].body is not None else b""
                if body is None:  # the client has disconnected
                    return
                answer = self.answer(found, _request(scope, body))
        if not isinstance(answer, (Response, StreamResponse)):
            answer = await (while_there(answer, receive) if method in ("GET", "HEAD") else answer)
            if answer is None:  # the client has disconnected
                return
        await send_response(answer, receive, send, with_body=method != "HEAD")

    def _checked(self, scope: Scope, method: str) -> Union[Matched, Response]:
        """Returns the route, or the answer for a method that it does not have. Raises Refused."""
        client = scope.get("client")
        if not self.heartbeats.is_open_to(scope["scheme"], client[0] if client is not None else None):
            raise Refused("plaintext")
        headers = _single(scope["headers"])
        found = self._router.find(_path_of(scope))
        route = None if found is None else found.by_method.get(method)
        self._refuse_foreign(scope, headers, any_host=route is not None and route.any_host)
        if found is None:
            raise Refused("unknown-address")
        if route is None:
            return self._without_method(found.by_method, method, scope["path"])
        if headers.get(b"expect", _CONTINUE).lower() != _CONTINUE:
            raise Refused("expectation-failed")
        if route.body is not None and headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise Refused("wrong-content-type", "Content-Encoding: a request must not be compressed")
        if route.is_asgi:  # it checks the rest itself
            return route, found.parts
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > MAX_REGISTRATION_BYTES:
            raise _too_large()
        if route.body is not None:
            refuse_content_type(headers.get(b"content-type", b""))
        return route, found.parts

    def accepts_host(self, host: bytes) -> bool:
        """Is this Host one of the coordinator's names or an address? Raises Refused if it is not a host."""
        return self._coordinator.host_names.accepts(host)

    def is_proxy(self, client: Optional[str]) -> bool:
        """Is the peer one of the configured proxies?"""
        return client is not None and self._coordinator.forwarding.is_proxy(client)

    def _refuse_foreign(self, scope: Scope, headers: Mapping[bytes, bytes], *, any_host: bool) -> None:
        """Raise Refused for a request from another site's page, or through a proxy that is not configured."""
        coordinator = self._coordinator
        client, server = scope.get("client"), scope.get("server")
        peer = client[0] if client is not None else None
        coordinator.forwarding.refuse_unnamed(peer, server[0] if server is not None else None, scope["headers"])
        host, origin = headers.get(b"host"), headers.get(b"origin")
        if host is None:
            if scope.get("http_version") != "1.0" or origin is not None:  # HTTP/1.0 has no Host; browsers do not use it
                raise Refused("malformed", "header host: is missing")
            return
        if origin is not None:
            coordinator.host_names.refuse_origin(origin, host, scope["scheme"], is_forwarded=self.is_proxy(peer))
        if coordinator.host_names.accepts(host) or any_host:
            return
        if not coordinator.is_authenticated(headers.get(b"authorization", b"").decode("latin-1")):
            raise Refused("foreign-host", f"Host {shown(host.decode('latin-1'))}")

    def _without_method(self, by_method: Mapping[str, Route], method: str, path: str) -> Response:
        known = {*by_method, "OPTIONS", *(["HEAD"] if "GET" in by_method else [])}
        allow = (b"allow", ", ".join(sorted(known)).encode())
        if method == "OPTIONS":
            return Response(b"", b"", 204, [allow])
        answer = self._failed(Refused("method-not-allowed"), method, path)
        answer.headers.append(allow)
        return answer

    def _failed(self, error: Exception, method: str, path: str) -> Response:
        return problem_response(counted(error, method, path, self._coordinator.counters))

    async def _live(self, receive: Receive, send: Send) -> None:
        async with AsyncExitStack() as stack:
            await receive()
            try:
                await stack.enter_async_context(self._lifespan())
            except Exception as error:
                await send({"type": "lifespan.startup.failed", "message": str(error)})
                raise
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})


def _single(pairs: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Headers by name. Raises Refused for a repeated single-value header: proxies differ in which one they use."""
    headers: dict[bytes, bytes] = {}
    for name, value in pairs:
        if name in headers and name in _SINGLE:
            raise Refused("malformed", f"header {name.decode('ascii')}: is given more than once")
        headers[name] = value
    return headers


def _too_large() -> Refused:
    return Refused("too-large", f"a request body has at most {MAX_REGISTRATION_BYTES} bytes")


def _request(scope: Scope, body: bytes) -> Request:
    method, headers = scope["method"], scope["headers"]
    if method == "HEAD":  # as GET (RFC 9110, 9.3.2), but without Accept: an event stream would never end
        method, headers = "GET", [item for item in headers if item[0] != b"accept"]
    client = scope.get("client")
    return Request(method, scope["path"], scope["query_string"], headers, body, client[0] if client else None)


def _path_of(scope: Scope) -> str:
    """The path below the mount point of this application."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path[len(root) :] if root and path.startswith(root) else path
