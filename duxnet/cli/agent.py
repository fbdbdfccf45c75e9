"""`duxnet agent`: what an operator or systemd starts. It catches signals before it imports anything slow."""

from __future__ import annotations

from typing import Optional

import click

from duxnet.cli.options import config_option, log_format_option, state_dir_option
from duxnet.process.terminal import say

__all__ = ["agent"]


@click.command("agent")
@config_option
@click.option("--once", is_flag=True, help="Register, report once, print the report and exit.")
@state_dir_option("Keep the key, the id and the embedded registry in this folder.")
@click.option(
    "--registry", metavar="PATH-or-URL", help="Register here. Default: a registry of its own in the state directory."
)
@click.option("--interval", metavar="SECONDS", help="Seconds between reports, 0.1 to 900. Default: 15.")
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

    The first start makes a key, and the node keeps the id of that key for ever. SIGTERM and Ctrl-C stop the agent,
    SIGHUP makes it read its configuration again. Without --registry it keeps a registry of its own, which
    `duxnet nodes list` shows.
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
        say(f"duxnet: stopped by {stop} during the start", err=True)
        return 0
    finally:
        inbox.close()
