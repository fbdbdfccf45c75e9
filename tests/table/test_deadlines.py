"""What is due when, without looking at what is not."""

from __future__ import annotations

import math
from collections import Counter
from typing import Optional

from hypothesis import given, settings
from hypothesis import strategies as st

from registry_core.table.cordon_ends import CordonEnds
from registry_core.table.deadlines import GRAIN_SECONDS, Deadlines


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 50), st.floats(0, 100)), max_size=30), st.floats(0, 120))
def test_a_deadline_is_noticed_at_its_time_or_a_grain_later_never_earlier(
    added: list[tuple[int, float]], now: float
) -> None:
    deadlines = Deadlines()
    for slot, due in added:
        deadlines.add(slot, due)
    found = deadlines.pop_due(now)
    assert not Counter(slot for slot, due in added if due + GRAIN_SECONDS <= now) - Counter(found)
    for slot in set(found):
        assert any(due <= now for other, due in added if other == slot)
    assert deadlines.next_due() > now


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 100), max_size=30), st.integers(1, 7))
def test_what_is_due_may_be_asked_for_a_few_at_a_time(due: list[float], most: int) -> None:
    deadlines, whole = Deadlines(), Deadlines()
    for slot, time in enumerate(due):
        deadlines.add(slot, time)
        whole.add(slot, time)
    found: list[int] = []
    while deadlines.next_due() <= 60:
        some = deadlines.pop_due(60, most)
        assert 1 <= len(some) <= most
        found += some
    assert found == whole.pop_due(60)
    assert deadlines.next_due() == whole.next_due()


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.one_of(st.none(), st.integers(0, 20))), max_size=30),
    st.integers(0, 25),
)
def test_cordons_end_when_they_were_last_said_to(told: list[tuple[int, Optional[int]]], now: int) -> None:
    ends = CordonEnds()
    for number, until in told:
        ends.set(f"node-{number}", until)
    model = {f"node-{number}": until for number, until in dict(told).items() if until is not None}
    assert ends.next_end() == min(model.values(), default=math.inf)
    over = ends.pop_over(now)
    assert sorted(over) == sorted(node_id for node_id, until in model.items() if until <= now)
    assert ends.pop_over(now) == []
    assert ends.next_end() == min((until for until in model.values() if until > now), default=math.inf)
