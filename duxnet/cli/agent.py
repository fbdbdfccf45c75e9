"""`duxnet agent`: what an operator starts, or systemd. Signals are caught before anything slow is imported."""

from __future__ import annotations

from typing import Optional

import click

from duxnet.cli.options import config_option, log_format_option, state_dir_option
from duxnet.process.terminal import say

__all__ = ["agent"]


@click.command("agent")
@config_option
@click.option("--once", is_flag=True, help="Register, report once, print it and leave.")
@state_dir_option("Folder for key, id and embedded registry.")
@click.option("--registry", metavar="PATH-or-URL", help="Where to register; default: embedded in the state directory.")
@click.option("--interval", metavar="SECONDS", help="Seconds between reports, 0.1 to 900; default 15.")
@log_format_option
def agent(
    config: Optional[str],
    once: bool,
    state_dir: Optional[str],
    registry: Optional[str],
    interval: Optional[str],
    log_format: Optional[str],
) -> int:
    """Register this machine and report its health until stopped.

    Makes its key at the first start and keeps its id for ever. SIGTERM and Ctrl-C stop it, SIGHUP makes it read its
    configuration again. Without --registry it keeps a registry of its own, which `duxnet nodes list` shows.
    """
    from duxnet.process.signals import SignalInbox, StopRequested

    inbox = SignalInbox()
    try:
        from os import environ

        from agent.runner import Agent
        from agent.settings import load_agent_settings

        flags = {
            "agent.state_dir": state_dir,
            "registry.target": registry,
            "agent.interval_seconds": interval,
            "log.format": log_format,
        }
        running = Agent(lambda: load_agent_settings(config, flags), inbox, environ, once)
        running.start()
        return running.once() if once else running.run()
    except StopRequested as stop:
        say(f"duxnet: stopped by {stop} before it had started", err=True)
        return 0
    finally:
        inbox.close()
