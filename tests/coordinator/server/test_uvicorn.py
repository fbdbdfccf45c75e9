"""Our connection extends uvicorn's, which promises nothing about its inside: which versions that was checked with.

To widen the range: read what the new version changed in `httptools_impl.py` and in `Server.startup`, run this folder
with it, then change `CHECKED` here and the bounds in pyproject.toml.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
import uvicorn
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from duxnet.coordinator.server.connection import BoundedProtocol

CHECKED = SpecifierSet(">=0.30,<0.55")
"""0.30.0 with httptools 0.6.0 on Python 3.9, 0.54.0 with httptools 0.9.0 on Python 3.11."""
OVERRIDDEN = {
    "connection_made": ["transport"],
    "connection_lost": ["exc"],
    "data_received": ["data"],
    "on_message_begin": [],
    "on_url": ["url"],
    "on_header": ["name", "value"],
    "on_headers_complete": [],
    "on_body": ["body"],
    "on_message_complete": [],
    "on_response_complete": [],
    "send_400_response": ["msg"],
}
USED = {
    HttpToolsProtocol: ("_unset_keepalive_if_required",),
    RequestResponseCycle: ("run_asgi", "send", "receive"),
    FlowControl: ("drain", "pause_reading", "resume_reading"),
    uvicorn.Server: ("startup", "shutdown", "serve", "capture_signals", "handle_exit"),
}
ATTRIBUTES = (
    *("app", "client", "config", "connections", "cycle", "flow", "headers", "loop", "parser", "pipeline"),
    *("scheme", "scope", "transport", "url"),
)


def test_the_installed_uvicorn_is_one_that_was_checked() -> None:
    assert uvicorn.__version__ in CHECKED


def test_what_is_installed_with_the_coordinator_is_bounded_to_what_was_checked() -> None:
    text = (Path(__file__).parents[3] / "pyproject.toml").read_text()
    (named,) = re.findall(r'"(uvicorn[<>=][^"]*)"', text)
    assert Requirement(named).specifier == CHECKED
    for name in ("httptools", "msgspec", "pyroaring"):
        (named,) = re.findall(rf'"({name}[<>=][^"]*)"', text)
        assert any(each.operator == "<" for each in Requirement(named).specifier), name


def test_every_overridden_callback_is_named_and_takes_what_it_took() -> None:
    overridden = {
        name for name in vars(BoundedProtocol) if name in vars(HttpToolsProtocol) and not name.startswith("__")
    }
    assert overridden == set(OVERRIDDEN)
    for name, parameters in OVERRIDDEN.items():
        for base in (HttpToolsProtocol, BoundedProtocol):
            found = list(inspect.signature(getattr(base, name)).parameters)[1:]
            assert found == parameters, (base, name)


@pytest.mark.parametrize("owner", USED, ids=lambda owner: owner.__name__)
def test_what_is_called_is_there(owner: type) -> None:
    assert [name for name in USED[owner] if not callable(getattr(owner, name, None))] == []


def test_what_is_read_is_there() -> None:
    source = inspect.getsource(HttpToolsProtocol.__init__) + inspect.getsource(HttpToolsProtocol.on_message_begin)
    assert [name for name in ATTRIBUTES if not re.search(rf"self\.{name}\b", source)] == []
    cycle = inspect.getsource(RequestResponseCycle.__init__)
    for name in ("response_started", "response_complete", "message_event", "keep_alive", "disconnected", "scope"):
        assert f"self.{name}" in cycle, name
