"""The coordinator's page in a real browser: its script runs, and it fetches nothing from elsewhere."""

from __future__ import annotations

import json
import os
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple, Optional

import pytest

from tests.support.coordinators import Running
from tests.support.requirements import need_program

METHODS = {"get", "put", "post", "delete", "patch", "head", "options", "trace"}
FLAGS = (
    "--headless",
    "--no-sandbox",  # which root cannot have
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # what it asks of its maker leads nowhere
    "--enable-logging=stderr",
    "--virtual-time-budget=5000",
    "--dump-dom",
)


class Seen(NamedTuple):
    dom: str
    console: list[str]
    fetched: set[str]  # addresses that were asked for by pages, and the page's own


def look_at(address: str, folder: Path) -> Seen:
    """Open a page in a browser of its own, and wait until its script has nothing left to do."""
    browser = need_program("chromium", "chromium")
    folder.mkdir()
    log = folder / "net.json"
    arguments = [browser, *FLAGS, f"--user-data-dir={folder / 'profile'}", f"--log-net-log={log}", address]
    environ = {**os.environ, "HOME": str(folder)}
    done = subprocess.run(arguments, env=environ, capture_output=True, text=True, timeout=50, check=True)
    console = [line for line in done.stderr.splitlines() if re.search(r":(INFO|WARNING|ERROR):CONSOLE[:(]", line)]
    return Seen(done.stdout, console, set(_fetched(json.loads(log.read_text()), address)))


def _fetched(log: dict[str, object], address: str) -> list[str]:
    """The requests in a browser's network log that a page began; the browser's own have no origin."""
    events = log["events"]
    assert isinstance(events, list)
    told = [event["params"] for event in events if "url" in event.get("params", {})]
    by_pages = [each["url"] for each in told if each.get("initiator", "not an origin") != "not an origin"]
    return [*by_pages, *(each["url"] for each in told if each["url"] == address)]


class Routes(HTMLParser):
    """The (method, path) pairs that stand in the summaries of the page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self._place = ""
        self._method = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, Optional[str]]]) -> None:
        self._place = "method" if ("class", "m") in attrs else tag

    def handle_data(self, data: str) -> None:
        if self._place == "method":
            self._method = data
        elif self._place == "code" and self._method:
            self.found.append((self._method, data))
            self._method = ""


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """A page that complains and fetches from elsewhere, so that what we look for would be seen."""
    page = (
        '<script>console.error("a complaint"); fetch("http://127.0.0.1:9/far").catch(() => 0); nothing.at.all</script>'
    )
    folder = tmp_path_factory.mktemp("browser")
    (folder / "page.html").write_text(page)
    return look_at(f"file://{folder / 'page.html'}", folder / "of")


def test_complaints_and_what_is_fetched_from_elsewhere_would_be_seen(elsewhere: Seen) -> None:
    assert any("a complaint" in line for line in elsewhere.console)
    assert any("nothing is not defined" in line for line in elsewhere.console)
    assert "http://127.0.0.1:9/far" in elsewhere.fetched


def test_the_page_shows_every_route_and_fetches_nothing_from_elsewhere(tmp_path: Path) -> None:
    with Running(tmp_path / "state") as running:
        seen = look_at(f"{running.address}/", tmp_path / "browser")
        document = running.call("GET", "/openapi.json")[2]
    routes = Routes()
    routes.feed(seen.dom)
    expected = [
        (method.upper(), path) for path, item in document["paths"].items() for method in item if method in METHODS
    ]
    assert sorted(routes.found) == sorted(expected)
    assert len(expected) > 15
    assert "Report that the node is alive" in seen.dom  # the summaries are there too
    assert seen.console == []
    assert {address.removeprefix(running.address) for address in seen.fetched} == {"/", "/openapi.json"}
