"""What a refused change did to a commit that others share is taken back, and only that: one protocol for every part."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing
from datetime import datetime, timezone
from pathlib import Path
from typing import Callable, NamedTuple, Union

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from duxnet.coordinator.access.audit_log import AuditLog
from duxnet.coordinator.access.token_store import TokenStore
from duxnet.coordinator.admission.quotas import Quotas


class Part(NamedTuple):
    """One part of a commit: how it is changed by a number, and which numbers it holds afterwards."""

    part: Union[TokenStore, AuditLog, Quotas]
    commit: Callable[[], AbstractContextManager[None]]
    change: Callable[[int], object]
    held: Callable[[], list[int]]


def token_store(folder: Path) -> Iterator[Part]:
    with closing(TokenStore(folder / "coordinator.db")) as store:
        yield Part(
            store,
            store.batch,
            lambda number: store.create("reader", 0.0, label=str(number)),
            lambda: [int(token.label) for token in store.tokens()],
        )


def audit_log(folder: Path) -> Iterator[Part]:
    with closing(AuditLog(folder / "audit.jsonl", lambda: datetime(2026, 1, 1, tzinfo=timezone.utc))) as log:

        def held() -> list[int]:
            with log.commit():
                pass
            return [int(json.loads(line)["node_id"]) for line in (folder / "audit.jsonl").read_text().splitlines()]

        yield Part(log, log.commit, lambda number: log.note("ann", "banned", str(number)), held)


def quotas(_folder: Path) -> Iterator[Part]:
    counted = Quotas(1, 0, lambda: ())

    def peer(number: int) -> str:
        return f"93.184.215.{number}"

    yield Part(
        counted,
        counted.commit,
        lambda number: counted.move(f"node-{number}", None, peer(number)),
        lambda: [number for number in range(100) if counted.are_full(peer(number))],
    )


@pytest.mark.parametrize("make", [token_store, audit_log, quotas])
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(refused=st.lists(st.lists(st.booleans(), max_size=3), min_size=1, max_size=6), fails=st.booleans())
def test_a_refused_change_is_taken_back_and_the_others_stay(
    make: Callable[[Path], Iterator[Part]],
    tmp_path_factory: pytest.TempPathFactory,
    refused: list[list[bool]],
    fails: bool,
) -> None:
    """Each inner list is a change with some steps; it is refused where its last step says so."""
    for each in make(tmp_path_factory.mktemp("part")):
        part, number = each.part, 0
        expected: list[int] = []
        try:
            with each.commit():
                for steps in refused:
                    mark, first = part.mark(), number
                    for _ in steps:
                        each.change(number)
                        number += 1
                    if steps and steps[-1]:
                        part.back_to(mark)
                    else:
                        expected += range(first, number)
                if isinstance(part, AuditLog):
                    part.write_noted()
                if fails:
                    raise ArithmeticError
        except ArithmeticError:
            expected = []
        assert sorted(each.held()) == expected
