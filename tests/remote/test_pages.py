"""Pages from a coordinator: what is read of them, and what a server that is none cannot make of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Callable

import httpx
import pytest

from registry_core.errors import UnreachableError, ValidationError
from registry_core.query.node_query import NodeOrder, NodePage, NodeQuery
from registry_core.remote import RemoteRegistry, remote_registry

Answer = Callable[[httpx.Request], Any]


def a_registry(answer: Answer) -> RemoteRegistry:
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json=answer(request)))
    return RemoteRegistry("http://127.0.0.1:8410", transport=transport, sleep=lambda _seconds: None)


def a_page(*ids: str, next: object = None, **more: Any) -> dict[str, Any]:  # noqa: A002 - the field's name
    return {"nodes": [{"id": node_id} for node_id in ids], "next": next, **more}


def answers(*pages: dict[str, Any]) -> tuple[Answer, list[str]]:
    """Gives these pages in turn, and notes which cursor each was asked for with."""
    left: Iterator[dict[str, Any]] = iter(pages)
    asked: list[str] = []

    def answer(request: httpx.Request) -> dict[str, Any]:
        asked.append(request.url.params.get("after", ""))
        return next(left)

    return answer, asked


def test_pages_are_joined_by_the_coordinators_cursors() -> None:
    answer, asked = answers(
        a_page("a", "b", next="~300~7"), a_page("c", next="~25~9", degraded=True), a_page(damaged=2)
    )
    page = a_registry(answer).find_nodes(NodeQuery())
    assert [node.id for node in page.nodes] == ["a", "b", "c"]
    assert page[1:] == (None, True, 2)
    assert asked == ["", "~300~7", "~25~9"]


def test_a_limit_ends_the_reading_and_hands_the_cursor_on() -> None:
    answer, asked = answers(a_page("a", next="~1~1"), a_page("b", next="~1~2"))
    page = a_registry(answer).find_nodes(NodeQuery(limit=2, after="~1~0"))
    assert ([node.id for node in page.nodes], page.next) == (["a", "b"], "~1~2")
    assert asked == ["~1~0", "~1~1"]
    assert a_registry(lambda _request: pytest.fail("nothing is to be asked")).find_nodes(
        NodeQuery(limit=0)
    ) == NodePage([], None)


@pytest.mark.parametrize(
    "cursors", [["~1~1", "~1~1"], ["~1~1", "~1~2", "~1~1"], ["start"]], ids=["at once", "later", "the caller's own"]
)
@pytest.mark.parametrize("limit", [None, 50, 1])
def test_a_cursor_that_comes_again_is_an_error(cursors: list[str], limit: int) -> None:
    pages = [a_page(*(["x"] if limit == 1 and len(cursors) == 1 else []), next=cursor) for cursor in cursors]
    answer, _ = answers(*pages)
    with pytest.raises(UnreachableError, match="the list is endless: the cursor"):
        a_registry(answer).find_nodes(NodeQuery(limit=limit, after="start"))


def test_pages_without_end_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_registry, "MOST_PAGES", 5)
    count = iter(range(100))
    with pytest.raises(UnreachableError, match="the list is endless: more than 5"):
        a_registry(lambda _request: a_page(next=f"~1~{next(count)}")).find_nodes(NodeQuery())


@pytest.mark.parametrize(
    ("page", "words"),
    [
        (a_page("a", "b", "c"), "3 nodes, but at most 2 were requested"),
        (a_page("a", "../b"), r"nodes\[1\]: id"),
        (a_page("a", ""), r"nodes\[1\]: id"),
        ({"nodes": [{"id": "a", "hostname": "a\x1b[2J"}]}, r"nodes\[0\]: hostname"),
        ({"nodes": [{"id": "a", "capabilities": {"memory_gb": 1e300}}]}, "memory_gb"),
        ({"nodes": [{"id": "a", "more": "x" * 33_000}]}, "at most 32768 bytes"),
        ({"nodes": ["a"]}, r"nodes\[0\]"),
        ({"nodes": {}}, "does not answer like a coordinator"),
        (a_page(next="x" * 129), "next"),
        (a_page(next=7), "next"),
        (a_page(damaged=-1), "damaged"),
        (a_page(damaged=2**60), "damaged"),
        (a_page(degraded="no"), "degraded"),
    ],
)
def test_nonsense_in_a_page_is_the_servers_fault_and_says_where(page: dict[str, Any], words: str) -> None:
    with pytest.raises(UnreachableError, match=words):
        a_registry(lambda _request: page).find_nodes(NodeQuery(limit=2))


def test_nonsense_in_other_answers_is_the_servers_fault() -> None:
    for count in (-1, 2**60, "3"):
        with pytest.raises(UnreachableError, match="count"):
            a_registry(lambda _request: {"count": count}).count(NodeQuery())  # noqa: B023 - called at once
    item = {"condition": "c", "wanted": "w", "found": "f", "remedy": "r"}
    for failing in ([item] * 257, [{**item, "condition": "x" * 300}], [{**item, "found": "x" * 200_000}]):
        with pytest.raises(UnreachableError, match="failing"):
            a_registry(lambda _request: {"failing": failing}).explain_node("a", NodeQuery())  # noqa: B023 - the same
    with pytest.raises(UnreachableError, match="port"):
        a_registry(lambda _request: {"id": "a", "port": 65_536}).get_node("a")


def test_a_draw_has_no_pages() -> None:
    registry = a_registry(lambda _request: a_page("a"))
    for limit in (None, 1001):
        with pytest.raises(ValidationError, match="limit"):
            registry.find_nodes(NodeQuery(order=NodeOrder.RANDOM, limit=limit))
    assert registry.find_nodes(NodeQuery(order=NodeOrder.RANDOM, limit=1000)).next is None
