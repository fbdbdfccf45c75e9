"""The agent's own things: its configuration, its identity, and what it says of itself."""

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
    """The agent's settings, None when they are refused, and what there is to say about them."""
    from agent.settings import load_agent_settings

    try:
        settings = load_agent_settings(config)
    except ConfigurationError as error:
        check = "`duxnet config check` tells the same after a change"
        return None, [Finding("configuration", PROBLEM, problem, check) for problem in error.problems]
    if settings.config_file is None:
        words = "there is no file (/etc/duxnet/config.toml); everything has its default"
        return settings, [Finding("configuration", OK, words)]
    path = settings.config_file
    closed = closed_to_others(path) if by_service else None
    if closed is not None:
        words = f"the service's own user cannot read {path}: {closed} is closed to others"
        return settings, [Finding("configuration", PROBLEM, words, f"sudo chmod go+rX {closed} (secrets go elsewhere)")]
    return settings, [Finding("configuration", OK, f"{path} is sound")]


def check_identity(state_dir: Path) -> Finding:
    """The node's key and id in its state directory."""
    from registry_core.errors import DamagedStoreError, StoreError
    from registry_core.identity.identity_files import ID_FILE, KEY_FILE, read_identity

    try:
        if not any((state_dir / name).exists() for name in (KEY_FILE, ID_FILE)):
            return Finding("identity", NOTE, f"there is none in {state_dir} yet; the first start makes it")
        identity = read_identity(state_dir)
    except PermissionError:
        return Finding(
            "identity", NOTE, f"{state_dir} is not for this user to see", "run it as root: sudo duxnet doctor"
        )
    except DamagedStoreError as error:
        return Finding("identity", PROBLEM, str(error), f"restore {state_dir} from a backup (docs/operations.md)")
    except StoreError as error:
        return Finding("identity", PROBLEM, str(error), f"sudo chmod 600 {state_dir / KEY_FILE}, or run this as root")
    return Finding("identity", OK, f"node {identity.id}", details={"node_id": identity.id})


def check_status(found: Optional[FoundStatus]) -> Iterator[Finding]:
    """What the running agent last wrote about itself, and what it warns of although it reports."""
    if found is None or not found.is_running:
        start = "start it: `sudo duxnet service install`, or `duxnet agent` in a terminal"
        yield Finding("agent", PROBLEM, "no agent runs here", start)
        return
    status, age = found.status, f"{found.age_seconds or 0.0:.0f} s"
    if not found.is_fresh:
        remedy = (
            f"it hangs, or cannot write {found.path} (is that disk full?): its journal may say what it waits for; "
            "then `sudo systemctl restart duxnet-agent.service`"
        )
        yield Finding("agent", PROBLEM, f"its newest report is {age} old", remedy)
    elif status.problem is not None:
        remedy = "mend what that names, or what is said of the registry; restart the agent after a change of [registry]"
        yield Finding("agent", PROBLEM, f"it runs, but cannot report: {status.problem}", remedy)
    else:
        words = f"node {status.node_id} reported {age} ago, {status.reports_delivered} times so far"
        yield Finding("agent", OK, words)
    for warning in status.warnings:
        if warning.startswith(NO_WORK):
            yield Finding("work", PROBLEM, warning, "mend what it names, or ask the network's operator")
        else:
            yield Finding("agent", NOTE, warning)
