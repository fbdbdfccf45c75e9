"""Places for registrations in hand: nobody who takes them all keeps others out."""

from __future__ import annotations

import http.client
import threading
from pathlib import Path
from typing import Optional

import pytest

from duxnet.coordinator.admission.backpressure import LONGEST_SPREAD_SECONDS, RegistrationLimiter
from duxnet.coordinator.admission.networks import near
from tests.support.coordinators import Running
from tests.system.coordinator.test_identity import Signer


def let_in(limiter: RegistrationLimiter, peers: list[Optional[str]]) -> list[bool]:
    found = []
    for network in map(near, peers):
        found.append(limiter.has_room(network))
        if found[-1]:
            limiter.enter(network)
    return found


def test_a_network_has_all_places_and_beyond_them_each_has_its_share() -> None:
    limiter = RegistrationLimiter(16)
    assert let_in(limiter, ["192.0.2.1"] * 17) == [True] * 16 + [False]
    assert let_in(limiter, ["192.0.2.2", "198.51.100.1", "198.51.100.2", "198.51.100.3"]) == [False, True, True, False]
    assert let_in(limiter, ["2001:db8::1", "2001:db8::2", "2001:db8:0:0:1::", "2001:db8:0:1::1", None]) == [
        True, True, False, True, True,
    ]  # fmt: skip
    limiter.leave(near("192.0.2.1"))
    assert not limiter.has_room(near("192.0.2.1"))  # the others have its places
    for _ in range(6):
        limiter.leave(near("192.0.2.1"))
    assert limiter.has_room(near("192.0.2.1"))


def test_there_is_an_end_to_it() -> None:
    limiter = RegistrationLimiter(16)
    assert sum(let_in(limiter, [f"192.0.{network}.1" for network in range(100)])) == 32


def test_a_crowd_is_spread_the_wider_the_larger_it_is_and_for_no_longer_than_a_minute() -> None:
    limiter = RegistrationLimiter(1)
    few = [limiter.turned_away().retry_after_seconds or 0.0 for _ in range(100)]
    assert 1 <= min(few) <= max(few) <= 5
    for _ in range(120_000):
        limiter.turned_away()
    many = [limiter.turned_away().retry_after_seconds or 0.0 for _ in range(1000)]
    assert 30 < max(many) <= LONGEST_SPREAD_SECONDS
    for _ in range(400):
        limiter.forget()
    assert (limiter.turned_away().retry_after_seconds or 0.0) <= 5


def put(running: Running, connection: http.client.HTTPConnection, signer: Signer, *, proven: bool) -> int:
    body = signer.body()
    headers = {**signer.headers(body), "Content-Type": "application/json"}
    if not proven:
        headers["signature"] = Signer(running, signer.coordinator).headers(body)["signature"]
    connection.request("PUT", f"/v1/nodes/{signer.node_id}", body, headers)
    answer = connection.getresponse()
    answer.read()
    return answer.status


@pytest.mark.parametrize("flooding", [12])
def test_a_flood_from_one_network_keeps_nobody_else_out(tmp_path: Path, flooding: int) -> None:
    over = threading.Event()
    with Running(tmp_path / "state", registrations_at_once=8) as running:
        false = Signer(running)
        refused: list[int] = []

        def flood() -> None:
            connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=20)
            while not over.is_set():
                refused.append(put(running, connection, false, proven=False))
            connection.close()

        threads = [threading.Thread(target=flood) for _ in range(flooding)]
        for thread in threads:
            thread.start()
        honest = http.client.HTTPConnection("127.0.0.1", running.port, timeout=20, source_address=("127.0.1.2", 0))
        found = [put(running, honest, Signer(running, false.coordinator), proven=True) for _ in range(30)]
        over.set()
        for thread in threads:
            thread.join()
        honest.close()
        assert found == [200] * 30
        assert set(refused) <= {401, 503}
        assert 401 in refused
