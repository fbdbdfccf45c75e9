"""`duxnet status`: the agent on this machine in one screen. The exit code says whether it runs and reports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional

import click

if TYPE_CHECKING:
    from pathlib import Path

    from agent.status_file import FoundStatus

__all__ = ["status"]


@click.command("status")
@click.option("--config", metavar="FILE", help="Configuration file; it must be there.")
@click.option("--state-dir", metavar="DIR", help="State directory of the agent, if not the configured one.")
@click.option("--format", "output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def status(config: Optional[str], state_dir: Optional[str], output: str) -> int:
    """Show what the agent on this machine is doing.

    Exit code 0: it runs and reports. 1: it does not run. 3: it runs, but its reports do not arrive.
    """
    from os import environ

    from agent.settings import AgentSettings, load_agent_settings
    from agent.state_dir import holder_of
    from agent.status_file import find_status, local_folder

    own = load_agent_settings(config, {"agent.state_dir": state_dir}).section("agent", AgentSettings)
    folder = own.state_path(environ)
    if not own.state_dir:
        folder = local_folder(folder, environ)
    found = find_status(folder, environ)
    if output == "json":
        from duxnet.cli.output import print_json

        print_json(_plain(folder, found, holder_of(folder)))
    else:
        _print(folder, found, holder_of(folder))
    return _exit_code(found)


def _exit_code(found: Optional[FoundStatus]) -> int:
    from duxnet.process.errors import EXIT_PARTIAL, EXIT_RUNTIME

    if found is None or not found.is_running:
        return EXIT_RUNTIME
    return 0 if found.is_fresh and found.plain["problem"] is None else EXIT_PARTIAL


def _plain(folder: Path, found: Optional[FoundStatus], holder: Optional[int]) -> dict[str, Any]:
    if found is None:
        return {"schema": "duxnet.status/1.0", "running": holder is not None, "state_dir": str(folder), "agent": None}
    age = None if found.age_seconds is None else round(found.age_seconds, 1)
    running = {"running": found.is_running, "reporting": _exit_code(found) == 0, "age_seconds": age}
    return {"schema": "duxnet.status/1.0", **running, "state_dir": str(folder), "agent": dict(found.plain)}


def _print(folder: Path, found: Optional[FoundStatus], holder: Optional[int]) -> None:
    from duxnet.cli.output import print_pairs

    if found is None:
        state = "not running" if holder is None else f"{_holder(holder)}; it has not reported yet"
        print_pairs([("agent", state), ("state in", str(folder))])
        return
    plain = found.plain
    pairs = [
        ("agent", _state_text(found, holder)),
        ("node", f"{plain['node_id']} ({plain['hostname']})"),
        ("offers", plain["offer"]),
        ("last sample", _sample_text(found)),
        ("registry", plain["registry"]),
        ("state in", plain["state_dir"]),
        ("interval", f"{plain['interval_seconds']:g} s"),
        ("reports", f"{plain['reports_delivered']} delivered, {plain['reports_failed']} failed"),
    ]
    if plain["problem"] is not None:
        remedy = (
            "`duxnet doctor` looks for the cause; a change of [registry] takes a restart, all else goes on by itself"
        )
        pairs += [("PROBLEM", plain["problem"]), ("to mend it", remedy)]
    pairs += [("probe", str(error)) for error in plain["probe_errors"]]
    pairs += [("note", str(warning)) for warning in plain["warnings"]]
    print_pairs(pairs)


def _holder(pid: int) -> str:
    from agent.state_dir import holder_text

    text = holder_text(pid)
    return text if "has ended" in text else f"process {pid} is starting"


def _state_text(found: FoundStatus, holder: Optional[int]) -> str:
    from duxnet.cli.output import age_text

    if not found.is_running and holder is not None:
        return f"not running; {_holder(holder)}"
    if not found.is_running:
        how = "stopped" if found.plain["state"] == "stopped" else "gone without saying so"
        return f"not running ({how}, last heard of at {found.plain['written_at']})"
    age = age_text(found.age_seconds or 0.0)
    state = f"runs as process {found.plain['pid']}, wrote this {age} ago"
    return state if found.is_fresh else f"{state}: that is too long: it hangs, or cannot write {found.path}"


def _sample_text(found: FoundStatus) -> str:
    sample = found.plain["sample"]
    if not isinstance(sample, dict):
        return "none yet"
    parts = []
    for name, label, wording in (
        ("load_average", "load", "{:.2f}"), ("memory_usage", "memory", "{:.0f} %"), ("disk_usage", "disk", "{:.0f} %"),
        ("cpu_usage", "cpu", "{:.0f} %"),
    ):  # fmt: skip
        value = sample.get(name)
        if isinstance(value, (int, float)):
            parts.append(f"{label} {wording.format(value)}")
    return ", ".join([*parts, *(str(failure) for failure in sample.get("failures") or ())])
