"""Log lines: for people, for the journal, as JSON."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator

import pytest

from duxnet.process.logs import configure_logs, is_journal


@pytest.fixture
def lines() -> Iterator[list[str]]:
    root = logging.getLogger()
    kept, level = list(root.handlers), root.level
    yield []
    root.handlers[:] = kept
    root.setLevel(level)


def journal() -> dict[str, str]:
    found = os.fstat(2)
    return {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}


def test_a_plain_line_has_time_level_and_text(lines: list[str]) -> None:
    configure_logs("plain", "info", {}, lines.append)
    logging.getLogger("agent").warning("disk %s", "full")
    logging.getLogger("agent").debug("not shown")
    (line,) = lines
    assert line[4] == "-"
    assert line.endswith(" warning disk full")


def test_under_systemd_a_line_begins_with_its_priority_and_no_time(lines: list[str]) -> None:
    configure_logs("plain", "debug", journal(), lines.append)
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL):
        logging.getLogger("agent").log(level, "text")
    assert lines == ["<7>text", "<6>text", "<4>text", "<3>text", "<2>text"]


def test_every_line_of_a_traceback_has_the_priority(lines: list[str]) -> None:
    configure_logs("plain", "info", journal(), lines.append)
    try:
        raise ValueError("x")
    except ValueError:
        logging.getLogger("agent").exception("failed")
    assert len(lines[0].splitlines()) > 2
    assert all(line.startswith("<3>") for line in lines[0].splitlines())


def test_a_json_line_is_one_object_with_the_fields_given(lines: list[str]) -> None:
    configure_logs("json", "info", {}, lines.append)
    logging.getLogger("agent").info("re\nported", extra={"fields": {"load_average": 0.5, "message": "not taken"}})
    plain = json.loads(lines[0])
    assert "\n" not in lines[0]
    assert plain["message"] == "re\nported"
    assert plain["level"] == "info"
    assert plain["logger"] == "agent"
    assert plain["load_average"] == 0.5
    assert plain["time"].endswith("Z")


def test_what_a_terminal_would_act_on_is_written_as_an_escape(lines: list[str]) -> None:
    configure_logs("plain", "info", {}, lines.append)
    logging.getLogger("agent").info("host %s", "\x1b[2J\nfake \u202e")
    assert lines[0].isprintable()
    assert r"\x1b[2J\nfake \u202e" in lines[0]


def test_a_stderr_that_is_gone_does_not_stop_the_process(lines: list[str]) -> None:
    def gone(_line: str) -> None:
        raise BrokenPipeError

    configure_logs("plain", "info", {}, gone)
    logging.getLogger("agent").info("nobody hears this")


def test_only_the_stream_that_systemd_connected_is_the_journal() -> None:
    assert is_journal(journal())
    assert not is_journal({"JOURNAL_STREAM": "1:2"})
    assert not is_journal({})
