"""`duxnet status`: shows the agent on this machine. The exit code says whether it runs and reports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional

import click

from duxnet.cli.options import config_option, format_option, local_state_dir_option
from duxnet.process.errors import EXIT_PARTIAL, EXIT_RUNTIME

if TYPE_CHECKING:
    from pathlib import Path

    from agent.sampler import Sample
    from agent.status_file import FoundStatus

__all__ = ["status"]


@click.command("status")
@config_option
@local_state_dir_option
@format_option
def status(config: Optional[str], state_dir: Optional[str], output: str) -> int:
    """Show what the agent on this machine is doing.

    The exit code is 0 if the agent runs and reports, 1 if it is not running, and 3 if it runs but its reports do not
    arrive.
    """
    from os import environ

    from agent.state_dir import holder_of
    from agent.status_file import find_status
    from duxnet.cli.local_agent import find_local_agent

    folder = find_local_agent(config, state_dir).state_dir
    found = find_status(folder, environ)
    if output == "json":
        from duxnet.cli.output import print_json

        print_json(_plain(folder, found, holder_of(folder)))
    else:
        _print(folder, found, holder_of(folder))
    return _exit_code(found)


def _exit_code(found: Optional[FoundStatus]) -> int:
    if found is None or not found.is_running:
        return EXIT_RUNTIME
    return 0 if found.is_fresh and found.status.problem is None else EXIT_PARTIAL


def _plain(folder: Path, found: Optional[FoundStatus], holder: Optional[int]) -> dict[str, Any]:
    if found is None:
        return {"schema": "duxnet.status/1.0", "running": holder is not None, "state_dir": str(folder), "agent": None}
    age = None if found.age_seconds is None else round(found.age_seconds, 1)
    running = {"running": found.is_running, "reporting": _exit_code(found) == 0, "age_seconds": age}
    return {"schema": "duxnet.status/1.0", **running, "state_dir": str(folder), "agent": found.status.to_plain()}


def _print(folder: Path, found: Optional[FoundStatus], holder: Optional[int]) -> None:
    from duxnet.cli.output import print_pairs

    if found is None:
        state = "not running" if holder is None else f"{_holder(holder)}, has not reported yet"
        print_pairs([("agent", state), ("state directory", str(folder))])
        return
    agent = found.status
    pairs = [
        ("agent", _state_text(found, holder)),
        ("node", f"{agent.node_id} ({agent.hostname})"),
        ("offers", agent.offer),
        ("last sample", _sample_text(agent.sample)),
        ("registry", agent.registry),
        ("state directory", agent.state_dir),
        ("interval", f"{agent.interval_seconds:g} s"),
        ("reports", f"{agent.reports_delivered} delivered, {agent.reports_failed} failed"),
    ]
    if agent.problem is not None:
        remedy = "`duxnet doctor` looks for the cause; after a change of [registry], restart the agent"
        pairs += [("PROBLEM", agent.problem), ("remedy", remedy)]
    pairs += [("probe", error) for error in agent.probe_errors]
    pairs += [("note", warning) for warning in agent.warnings]
    print_pairs(pairs)


def _holder(pid: int) -> str:
    from agent.state_dir import holder_text

    text = holder_text(pid)
    return text if "has ended" in text else f"process {pid} is starting"


def _state_text(found: FoundStatus, holder: Optional[int]) -> str:
    from duxnet.cli.output import age_text, time_text

    if not found.is_running and holder is not None:
        return f"not running; {_holder(holder)}"
    if not found.is_running:
        how = "stopped" if found.status.state == "stopped" else "ended without a clean shutdown"
        return f"not running ({how}, last report at {time_text(found.status.written_at or '?')})"
    age = age_text(found.age_seconds or 0.0)
    state = f"running as process {found.status.pid}, status written {age} ago"
    return state if found.is_fresh else f"{state}; this is too old: the agent hangs or cannot write {found.path}"


def _sample_text(sample: Optional[Sample]) -> str:
    return "none yet" if sample is None else ", ".join([str(sample), *sample.failures])
