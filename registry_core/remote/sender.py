"""Sends requests to one coordinator, which may have several addresses, with a deadline, retries and back-off.

`answers` interprets the answers; `bounds` has their maximum sizes.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Callable, Optional, Union

import httpx

from registry_core.errors import RegistryClosedError, UnreachableError, shown
from registry_core.identity.answer_signature import ANSWER_HEADERS
from registry_core.remote.answers import STORE_KINDS, Answer, kind_name, problem_in, safe_text
from registry_core.remote.bounds import LARGEST_PROBLEM_BYTES
from registry_core.remote.certificates import client_context
from registry_core.remote.deadline import Deadline, DeadlineTransport
from registry_core.remote.options import RemoteOptions, checked_proxy, goes_through_proxy

__all__ = ["Sender"]

ATTEMPTS = 3
FIRST_PAUSE_SECONDS = 0.25  # doubled for each attempt; the pause is random, from 0 to this, to spread callers out
LONGEST_PAUSE_SECONDS = 2.0
BUDGET_INTERVALS = 0.8  # the share of an interval that one call may take: measuring needs the rest
SHORTEST_BUDGET_SECONDS = 2.0  # intervals are at least 5 s by default; no call is fast enough below 2 s
LONGEST_CONNECT_SECONDS = 3.0
LONGEST_READ_SECONDS = 10.0
LONGEST_WAIT_SECONDS = 60.0
LONGEST_WAIT_INTERVALS = 4
"""The longest wait that a coordinator may request: the longer of the two. A node silent for longer is marked down."""
KEPT_SECONDS = 70.0
"""How long a connection is kept for the next request, a little less than a coordinator keeps it. A new connection with
TLS costs both sides some milliseconds."""

_WAIT_AND_REPEAT = (429, 503)
_LOST_BEHIND = (502, 504)
"""The statuses of a proxy that cannot reach the coordinator behind it."""

Query = Mapping[str, Union[str, list[str]]]


@dataclass(frozen=True)
class _Request:
    """One request, for any address. `headers` is called for each attempt, so that each signature is fresh."""

    method: str
    path: str
    largest_bytes: int
    query: Optional[Query]
    body: Optional[bytes]
    headers: Callable[[], Mapping[str, str]]
    repeatable: bool


class Sender:
    """Thread-safe. Remembers the address that answered last, and until when each address requested a wait."""

    def __init__(
        self,
        addresses: Sequence[str],
        options: RemoteOptions,
        *,
        transport: Optional[httpx.BaseTransport] = None,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.addresses = tuple(addresses)
        self._budget_seconds = max(SHORTEST_BUDGET_SECONDS, BUDGET_INTERVALS * options.interval_seconds)
        self._longest_wait = max(LONGEST_WAIT_SECONDS, LONGEST_WAIT_INTERVALS * options.interval_seconds)
        self._monotonic = monotonic
        self._sleep = sleep
        self._preferred = 0
        self._waits: dict[str, tuple[float, UnreachableError]] = {}  # the end of the wait, and its error
        self._deadline = Deadline(monotonic)
        context = client_context(
            options.ca_file, is_needed=any(address.startswith("https:") for address in self.addresses)
        )
        proxy = checked_proxy("proxy", options.proxy)
        proxied = [address for address in self.addresses if goes_through_proxy(address, options)]
        self._proxies = {address: proxy.url for address in proxied if proxy is not None}
        mounts: dict[str, httpx.BaseTransport] = {}
        if transport is None:
            transport = DeadlineTransport(self._deadline, context, kept_seconds=KEPT_SECONDS)
            if proxied:
                by_proxy = DeadlineTransport(self._deadline, context, kept_seconds=KEPT_SECONDS, proxy=proxy)
                mounts = dict.fromkeys(proxied, by_proxy)
        self._client = httpx.Client(
            timeout=httpx.Timeout(
                min(LONGEST_READ_SECONDS, 0.4 * self._budget_seconds),
                connect=min(LONGEST_CONNECT_SECONDS, 0.2 * self._budget_seconds),
            ),
            transport=transport,
            mounts=mounts,
            trust_env=False,
            headers={"accept": "application/json", "accept-encoding": "identity"},
        )

    def close(self) -> None:
        """Close all connections. May be called twice."""
        self._client.close()

    def call(self) -> AbstractContextManager[None]:
        """A `with` block in which all requests share the deadline of one call."""
        return self._deadline.within(self._budget_seconds)

    def forget_waits(self) -> None:
        """Forget all requested waits, so that the next request is sent at once."""
        self._waits.clear()

    def send(
        self,
        method: str,
        path: str,
        *,
        largest_bytes: int,
        query: Optional[Query] = None,
        body: Optional[bytes] = None,
        headers: Callable[[], Mapping[str, str]] = dict,
        repeatable: bool = True,
    ) -> Answer:
        """The first answer that does not request a retry. `headers` is called for each attempt.

        `repeatable=False` never repeats a request that may have been carried out. Raises UnreachableError when no
        address answers within the time of a call, with at most `largest_bytes`, or when the requested wait is longer.
        """
        request = _Request(method, path, largest_bytes, query, body, headers, repeatable)
        with self.call():
            return self._attempts(request)

    def _attempts(self, request: _Request) -> Answer:
        order = self._order()
        failures: dict[str, UnreachableError] = {}
        last: Optional[UnreachableError] = None
        for attempt in range(ATTEMPTS):
            if attempt:
                pause = random.uniform(0, min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2**attempt))  # noqa: S311 - spreads load, guards nothing
                pause = max(pause, (last.retry_after_seconds if last is not None else None) or 0.0)
                if pause >= self._deadline.seconds_left():
                    break
                self._sleep(pause)
            try:
                return self._pass(request, order, failures)
            except UnreachableError as error:
                last = error
                if isinstance(error, _PerhapsDoneError):
                    break
        assert last is not None
        for address, failure in failures.items():
            if failure.retry_after_seconds:
                self._waits[address] = (self._monotonic() + failure.retry_after_seconds, failure)
        raise last

    def _order(self) -> list[str]:
        """The addresses to try, starting with the one that answered last, without those that requested a wait.

        If all of them did, raises UnreachableError with the reason that was given.
        """
        now = self._monotonic()
        turned = (*self.addresses[self._preferred :], *self.addresses[: self._preferred])
        waits = [(until - now, error) for until, error in self._waits.copy().values() if until > now]
        waiting = {error.address for _, error in waits}
        order = [address for address in turned if address not in waiting]
        if not order:
            seconds, error = min(waits, key=lambda wait: wait[0])
            raise UnreachableError(error.address, error.reason, seconds)
        return order

    def _pass(self, request: _Request, order: Sequence[str], failures: dict[str, UnreachableError]) -> Answer:
        """Try every address once. Each gets an equal share of the time left, so that none can use up all of it."""
        last: Optional[UnreachableError] = None
        for place, address in enumerate(order):
            share = self._deadline.seconds_left() / (len(order) - place)
            try:
                with self._deadline.within(share):
                    answer = self._exchange(request, address)
            except UnreachableError as error:
                last = failures[address] = error
                if isinstance(error, _PerhapsDoneError):
                    raise
                continue
            if answer.status not in _WAIT_AND_REPEAT or kind_name(answer) in STORE_KINDS:  # a full disk stays full
                self._preferred = self.addresses.index(address)
                return answer
            last = failures[address] = _later(answer)
        assert last is not None
        raise last

    def _exchange(self, request: _Request, address: str) -> Answer:
        """Send one request and read its answer completely."""
        lost = UnreachableError if request.repeatable else _PerhapsDoneError
        sent_headers = dict(request.headers())
        if request.body is not None:
            sent_headers["content-type"] = "application/json"
        try:
            made = self._client.build_request(
                request.method,
                address + request.path,
                params=request.query or None,
                content=request.body,
                headers=sent_headers,
            )
            response = self._client.send(made, stream=True)
            try:
                answer = _answer(address, response, self._body(response, request.largest_bytes), self._longest_wait)
            finally:
                response.close()
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError) as error:
            raise UnreachableError(address, self._reason(error, address)) from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise lost(address, self._reason(error, address)) from None
        except _UnfitError as error:
            raise lost(address, str(error)) from None
        except RuntimeError as error:  # from httpx, when the client was closed
            raise RegistryClosedError(str(error)) from None
        if answer.status in _LOST_BEHIND and problem_in(answer) is None:
            raise lost(address, f"answered with status {answer.status}: the proxy there cannot reach the coordinator")
        return answer

    def _body(self, response: httpx.Response, largest_bytes: int) -> bytes:
        """The body, whose size is checked while it arrives. Raises _UnfitError when it is too large or compressed.

        For an unsuccessful answer the status is enough: such a body is treated as empty.
        """
        is_success = response.status_code < 300
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            if not is_success:
                return b""
            raise _UnfitError(f"answered in the encoding {shown(encoding)}, which was not accepted")
        most = largest_bytes if is_success else LARGEST_PROBLEM_BYTES
        body = bytearray()
        is_read = response.is_stream_consumed  # by the caller's transport
        chunks = [response.content] if is_read else response.iter_raw()
        for chunk in chunks:
            body += chunk
            if len(body) > most:
                if not is_success:
                    return b""
                raise _UnfitError(f"answered with more than {most} bytes, the maximum for this request")
            if self._deadline.seconds_left() <= 0:
                raise httpx.ReadTimeout("the deadline has passed")
        return bytes(body)

    def _reason(self, error: Exception, address: str) -> str:
        """Why `address` cannot be reached, with a remedy if one is known."""
        reason = _reason(error, address)
        proxy = self._proxies.get(address)
        return reason if proxy is None else f"{reason} (through the proxy {proxy})"


class _PerhapsDoneError(UnreachableError):
    """No answer arrived, but the request may have been carried out."""


class _UnfitError(Exception):
    """A coordinator would not send this answer."""


def _later(answer: Answer) -> UnreachableError:
    problem = problem_in(answer)
    reason = (problem.detail or problem.title) if problem is not None else f"answered with status {answer.status}"
    return UnreachableError(answer.address, reason, answer.retry_after_seconds)


def _answer(address: str, response: httpx.Response, body: bytes, longest_wait_seconds: float) -> Answer:
    return Answer(
        address=address,
        status=response.status_code,
        media_type=response.headers.get("content-type", "").partition(";")[0].strip().lower(),
        retry_after_seconds=_seconds(response.headers.get("retry-after", ""), longest_wait_seconds),
        challenge=response.headers.get("accept-signature", ""),
        body=body,
        location=response.headers.get("location", ""),
        content_type=response.headers.get("content-type", ""),
        proof={name: response.headers.get(name, "") for name in ANSWER_HEADERS},
    )


def _seconds(text: str, most: float) -> Optional[float]:
    """Retry-After in seconds, at most `most`. Its other form, a date, is ignored: it would need synchronous clocks."""
    if not (text.isascii() and text.isdigit()):
        return None
    return most if len(text) > 6 else min(most, float(text))


_CERTIFICATE_REMEDIES = (
    ("is not valid for", "issue it for that name, or use the name that it has"),
    ("has expired", "renew it, or set this machine's clock"),
    ("not yet valid", "set this machine's clock"),
)


def _reason(error: Exception, address: str) -> str:
    if isinstance(error, httpx.LocalProtocolError):  # its text may contain a header, and so a token
        return "the request cannot be sent: one of its headers is invalid"
    if isinstance(error, httpx.TimeoutException):
        return "did not answer in time"
    words = safe_text(str(error)) or type(error).__name__
    if "CERTIFICATE_VERIFY_FAILED" in words:
        why = words.rpartition("verify failed: ")[2].partition(" (_ssl")[0].rstrip(".")
        unknown = "set ca_file to the file of its CA (SSL_CERT_FILE is not used)"
        remedy = next((remedy for part, remedy in _CERTIFICATE_REMEDIES if part in why), unknown)
        return f"its certificate is not trusted ({why}); {remedy}"
    words = words.rpartition("] ")[2] if words.startswith("[Errno") else words.rstrip(".")
    if "[SSL" in words:
        return f"cannot be reached: {words}; if the server does not use TLS, use http://"
    if isinstance(error, httpx.RemoteProtocolError) and address.startswith("http:"):
        return f"cannot be reached: {words}; if the server uses TLS, use https://"
    return f"cannot be reached: {words}"
