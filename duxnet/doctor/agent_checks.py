"""Checks of the agent itself: its configuration, its identity and the status that it writes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Optional

from agent.status_file import NO_WORK, FoundStatus
from duxnet.doctor.findings import NOTE, OK, PROBLEM, Finding
from duxnet.process.errors import ConfigurationError
from duxnet.process.settings import Settings
from duxnet.service.placement import closed_to_others

__all__ = ["check_configuration", "check_identity", "check_status"]


def check_configuration(config: Optional[str], by_service: bool) -> tuple[Optional[Settings], list[Finding]]:
    """The agent's settings (None if they are refused) and the findings about them."""
    from agent.settings import load_agent_settings

    try:
        settings = load_agent_settings(config)
    except ConfigurationError as error:
        fix = "change that setting; `duxnet config check` checks the result"
        return None, [Finding("configuration", PROBLEM, problem, fix) for problem in error.problems]
    if settings.config_file is None:
        words = "there is no file (/etc/duxnet/config.toml); every setting has its default"
        return settings, [Finding("configuration", OK, words)]
    path = settings.config_file
    closed = closed_to_others(path) if by_service else None
    if closed is not None:
        words = f"the service's own user cannot read {path}: {closed} is closed to others"
        return settings, [
            Finding(
                "configuration",
                PROBLEM,
                words,
                f"sudo chmod go+rX {closed} (first move secrets to credentials: docs/operations.md)",
            )
        ]
    return settings, [Finding("configuration", OK, f"{path} is valid")]


def check_identity(state_dir: Path) -> Finding:
    """The node's key and id in its state directory."""
    from registry_core.errors import DamagedStoreError, StoreError
    from registry_core.identity.identity_files import ID_FILE, KEY_FILE, read_identity

    try:
        if not any((state_dir / name).exists() for name in (KEY_FILE, ID_FILE)):
            return Finding("identity", NOTE, f"there is none in {state_dir} yet; the first start makes one")
        identity = read_identity(state_dir)
    except PermissionError:
        return Finding("identity", NOTE, f"this user cannot read {state_dir}", "run as root: sudo duxnet doctor")
    except DamagedStoreError as error:
        return Finding("identity", PROBLEM, str(error), f"restore {state_dir} from a backup (docs/operations.md)")
    except StoreError as error:
        return Finding("identity", PROBLEM, str(error), f"sudo chmod 600 {state_dir / KEY_FILE}, or run this as root")
    return Finding("identity", OK, f"node {identity.id}", details={"node_id": identity.id})


def check_status(found: Optional[FoundStatus]) -> Iterator[Finding]:
    """The state that the running agent last wrote, and its warnings."""
    if found is None or not found.is_running:
        start = "start it with `sudo duxnet service install`, or with `duxnet agent` in a terminal"
        yield Finding("agent", PROBLEM, "no agent is running here", start)
        return
    status, age = found.status, f"{found.age_seconds or 0.0:.0f} s"
    if not found.is_fresh:
        remedy = (
            f"it hangs or cannot write {found.path} (is the disk full?); its journal may show why; "
            "then `sudo systemctl restart duxnet-agent.service`"
        )
        yield Finding("agent", PROBLEM, f"its newest report is {age} old", remedy)
    elif status.problem is not None:
        remedy = "fix that, or what is reported about the registry; restart the agent after a change of [registry]"
        yield Finding("agent", PROBLEM, f"it runs, but cannot report: {status.problem}", remedy)
    else:
        times = f"{status.reports_delivered} time{'' if status.reports_delivered == 1 else 's'}"
        words = f"node {status.node_id} reported {age} ago, {times} so far"
        yield Finding("agent", OK, words)
    for warning in status.warnings:
        if warning.startswith(NO_WORK):
            yield Finding("work", PROBLEM, warning, "fix the reason, or contact the network's operator")
        else:
            yield Finding("agent", NOTE, warning)
