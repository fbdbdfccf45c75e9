"""Records in the journal's own form, received by a real socket."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from duxnet.process.logs import Journal, datagram, identifier


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(str(tmp_path / "socket"))
        made.settimeout(5)
        yield made


class Kept(logging.Handler):
    """What could not be sent."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def logged(path: Path, otherwise: logging.Handler, message: str, fields: dict[str, object]) -> None:
    handler = Journal("duxnet-agent", otherwise, str(path))
    record = logging.LogRecord("agent.report", logging.ERROR, __file__, 1, message, (), None)
    record.fields = fields
    handler.handle(record)


def test_a_record_arrives_with_priority_logger_and_its_fields(journal: socket.socket, tmp_path: Path) -> None:
    kept = Kept()
    logged(tmp_path / "socket", kept, "registered", {"node_id": "n1abc", "load-average": 0.5})
    assert journal.recv(65536).decode().splitlines() == [
        "MESSAGE=registered",
        "PRIORITY=3",
        "SYSLOG_IDENTIFIER=duxnet-agent",
        "LOGGER=agent.report",
        "DUXNET_NODE_ID=n1abc",
        "DUXNET_LOAD_AVERAGE=0.5",
    ]
    assert kept.messages == []


def test_text_of_several_lines_stays_one_field_and_cannot_make_another() -> None:
    assert datagram({"MESSAGE": "a\nPRIORITY=0"}) == b"MESSAGE\n" + (12).to_bytes(8, "little") + b"a\nPRIORITY=0\n"


def test_without_a_journal_the_record_goes_the_other_way(tmp_path: Path) -> None:
    kept = Kept()
    logged(tmp_path / "nobody", kept, "registered", {})
    assert kept.messages == ["registered"]


def test_a_journal_that_does_not_read_costs_the_line_and_not_the_service(
    journal: socket.socket, tmp_path: Path
) -> None:
    journal.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    kept = Kept()
    for _ in range(15):  # the queue of a datagram socket holds about ten
        journal_is_full = not _can_send(tmp_path / "socket")
        if journal_is_full:
            break
    logged(tmp_path / "socket", kept, "lost", {})
    assert kept.messages == []


def _can_send(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.setblocking(False)
        try:
            out.sendto(b"MESSAGE=filler\n", str(path))
        except BlockingIOError:
            return False
    return True


@pytest.mark.parametrize(
    ("environ", "name"), [({"RUNTIME_DIRECTORY": "/run/duxnet-agent"}, "duxnet-agent"), ({}, "duxnet")]
)
def test_the_journal_calls_us_as_the_unit(environ: dict[str, str], name: str) -> None:
    assert identifier(environ) == name


def test_a_process_of_the_journal_without_its_socket_still_writes_lines_with_priorities(tmp_path: Path) -> None:
    script = (
        "import logging, os; from duxnet.process.logs import Journal, configure_logs\n"
        "Journal.__init__.__defaults__ = ('/nowhere',)\n"
        "found = os.fstat(2)\n"
        "configure_logs('plain', 'info', {'JOURNAL_STREAM': f'{found.st_dev}:{found.st_ino}'})\n"
        "logging.getLogger('agent').warning('disk full')\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=dict(os.environ))
    assert run.stderr == "<4>disk full\n", run.stderr
