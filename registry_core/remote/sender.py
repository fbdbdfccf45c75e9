"""Sending requests to one coordinator that may have several addresses: in order, in time, and again where that helps.

Here: httpx, time-outs, attempts, back-off. Not here: what is said, and what an answer means (`answers`).
"""

from __future__ import annotations

import random
import ssl
import time
from collections.abc import Mapping, Sequence
from typing import Callable, Optional, Union

import httpx

from registry_core.errors import RegistryClosedError, StoreError, UnreachableError
from registry_core.identity.answer_signature import ANSWER_HEADERS
from registry_core.remote.answers import STORE_KINDS, Answer, problem_in
from registry_core.remote.options import RemoteOptions
from registry_core.wire.problems import kind_of

__all__ = ["Sender"]

ATTEMPTS = 3
FIRST_PAUSE_SECONDS = 0.25  # doubled for each attempt, drawn evenly from 0: callers that failed together spread out
LONGEST_PAUSE_SECONDS = 2.0
SHORTEST_BUDGET_SECONDS = 2.0  # coordinators ask for no interval below five seconds; below two, nothing is in time
LONGEST_CONNECT_SECONDS = 3.0
LONGEST_READ_SECONDS = 10.0
KEPT_SECONDS = 70.0
"""How long a connection is kept for the next request, a little shorter than a coordinator keeps it: with TLS each new
one costs both sides some milliseconds."""
LARGEST_ANSWER_BYTES = 64 * 1024 * 1024

_WAIT_AND_REPEAT = (429, 503)
_LOST_BEHIND = (502, 504)
"""What a proxy says when the coordinator behind it does not answer, or is no longer there."""


class Sender:
    """Thread-safe. Remembers which address answered last and until when the coordinator asked to be left alone."""

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
        self._budget_seconds = max(SHORTEST_BUDGET_SECONDS, options.interval_seconds)
        self._monotonic = monotonic
        self._sleep = sleep
        self._preferred = 0
        self._not_before = float("-inf")
        read = min(LONGEST_READ_SECONDS, 0.4 * self._budget_seconds)
        timeout = httpx.Timeout(read, connect=min(LONGEST_CONNECT_SECONDS, 0.2 * self._budget_seconds))
        self._client = httpx.Client(
            timeout=timeout,
            verify=_certificates(addresses, options),
            transport=transport,
            limits=httpx.Limits(keepalive_expiry=KEPT_SECONDS),
            headers={"accept": "application/json"},
        )

    def close(self) -> None:
        """Close all connections. Closing twice is no error."""
        self._client.close()

    def send(
        self,
        method: str,
        path: str,
        *,
        query: Optional[Mapping[str, Union[str, list[str]]]] = None,
        body: Optional[bytes] = None,
        headers: Callable[[], Mapping[str, str]] = dict,
        repeatable: bool = True,
    ) -> Answer:
        """The first answer that is not "later". `headers` is asked for each attempt, so that a signature is fresh.

        `repeatable=False` never repeats a request that may have been carried out. Raises UnreachableError when no
        address answers within the interval, or when the coordinator asks for a longer wait than that.
        """
        deadline = self._monotonic() + self._budget_seconds
        self._respect_wait()
        last: Optional[UnreachableError] = None
        for attempt in range(ATTEMPTS):
            if attempt:
                pause = random.uniform(0, min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2**attempt))  # noqa: S311 - spreads load, guards nothing
                asked = last.retry_after_seconds if last is not None else None
                pause = max(pause, asked or 0.0)
                if self._monotonic() + pause >= deadline:
                    break
                self._sleep(pause)
            try:
                return self._pass(method, path, query, body, headers, repeatable)
            except UnreachableError as error:
                last = error
                if isinstance(error, _PerhapsDoneError):
                    break
        assert last is not None
        if last.retry_after_seconds:
            self._not_before = self._monotonic() + last.retry_after_seconds
        raise last

    def _respect_wait(self) -> None:
        remaining = self._not_before - self._monotonic()
        if remaining > 0:
            raise UnreachableError(self.addresses[0], f"asked to wait another {remaining:.0f} s", remaining)

    def _pass(
        self,
        method: str,
        path: str,
        query: Optional[Mapping[str, Union[str, list[str]]]],
        body: Optional[bytes],
        headers: Callable[[], Mapping[str, str]],
        repeatable: bool,
    ) -> Answer:
        """One try of every address, beginning with the one that answered last."""
        last: Optional[UnreachableError] = None
        for step in range(len(self.addresses)):
            number = (self._preferred + step) % len(self.addresses)
            address = self.addresses[number]
            sent_headers = dict(headers())
            if body is not None:
                sent_headers["content-type"] = "application/json"
            try:
                response = self._client.request(
                    method, address + path, params=query or None, content=body, headers=sent_headers
                )
            except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
                last = UnreachableError(address, _reason(error, address))
                continue
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                last = (UnreachableError if repeatable else _PerhapsDoneError)(address, _reason(error, address))
                if not repeatable:
                    raise last from None
                continue
            except RuntimeError as error:  # httpx says so when the client was closed
                raise RegistryClosedError(str(error)) from None
            answer = _answer(address, response)
            if answer.status in _LOST_BEHIND and problem_in(answer) is None:
                reason = f"answered with status {answer.status}: the proxy there does not reach the coordinator"
                last = (UnreachableError if repeatable else _PerhapsDoneError)(address, reason)
                if not repeatable:
                    raise last
                continue
            if answer.status not in _WAIT_AND_REPEAT or _is_about_its_store(answer):
                self._preferred = number
                return answer
            last = _later(answer)
        assert last is not None
        raise last


class _PerhapsDoneError(UnreachableError):
    """The answer did not come; what was asked may have been done all the same."""


def _later(answer: Answer) -> UnreachableError:
    problem = problem_in(answer)
    reason = (problem.detail or problem.title) if problem is not None else f"answered with status {answer.status}"
    return UnreachableError(answer.address, reason, answer.retry_after_seconds)


def _is_about_its_store(answer: Answer) -> bool:
    """A disk that is full stays so for longer than a caller waits."""
    problem = problem_in(answer)
    kind = kind_of(problem.type) if problem is not None else None
    return kind is not None and kind.name in STORE_KINDS


def _answer(address: str, response: httpx.Response) -> Answer:
    return Answer(
        address=address,
        status=response.status_code,
        media_type=response.headers.get("content-type", "").partition(";")[0].strip().lower(),
        retry_after_seconds=_seconds(response.headers.get("retry-after", "")),
        challenge=response.headers.get("accept-signature", ""),
        content_type=response.headers.get("content-type", ""),
        proof={name: response.headers.get(name, "") for name in ANSWER_HEADERS},
        body=response.content,
    )


def _seconds(text: str) -> Optional[float]:
    """Retry-After in seconds; its other form, a date, would need a clock that both sides trust."""
    return float(text) if text.isascii() and text.isdigit() and len(text) <= 6 else None


_CERTIFICATE_REMEDIES = (
    ("is not valid for", "issue it for that name, or use the name that it has"),
    ("has expired", "renew it, or set this machine's clock"),
    ("not yet valid", "set this machine's clock"),
)


def _reason(error: Exception, address: str) -> str:
    """Why `address` cannot be had, and where that is known what to do."""
    words = str(error) or type(error).__name__
    if isinstance(error, httpx.TimeoutException):
        return "did not answer in time"
    if "CERTIFICATE_VERIFY_FAILED" in words:
        why = words.rpartition("verify failed: ")[2].partition(" (_ssl")[0].rstrip(".")
        remedy = next((remedy for part, remedy in _CERTIFICATE_REMEDIES if part in why), "give its CA with ca_file")
        return f"its certificate is not trusted ({why}); {remedy}"
    words = words.rpartition("] ")[2] if words.startswith("[Errno") else words.rstrip(".")
    if "[SSL" in words:
        return f"cannot be reached: {words}; does it speak TLS there? With http:// it does not"
    if isinstance(error, httpx.RemoteProtocolError) and address.startswith("http:"):
        return f"cannot be reached: {words}; does it speak TLS there? Then the address begins with https://"
    return f"cannot be reached: {words}"


def _certificates(addresses: Sequence[str], options: RemoteOptions) -> ssl.SSLContext:
    """What is trusted: the system's certificates and `ca_file`. Checks are never off.

    Where every address is plain http, loading the system's certificates would cost memory for nothing.
    """
    if not any(address.startswith("https:") for address in addresses):
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context = ssl.create_default_context()
    if options.ca_file:
        try:
            context.load_verify_locations(cafile=options.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise StoreError(options.ca_file, f"cannot be used as a CA file: {error.strerror or error}") from None
    return context
