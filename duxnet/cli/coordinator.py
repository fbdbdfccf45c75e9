"""`duxnet coordinator`: the registry that many agents report to over HTTP."""

from __future__ import annotations

from typing import Optional

import click

from duxnet.cli.options import config_option, log_format_option, state_dir_option

__all__ = ["coordinator"]


@click.command("coordinator")
@config_option
@click.option("--host", metavar="ADDRESS", help="Listen at this address. Default: 127.0.0.1.")
@click.option("--port", metavar="PORT", help="Listen on this port. Default: 8410.")
@state_dir_option("Keep the key, the tokens, the audit log and the registry in this folder.")
@log_format_option
def coordinator(
    config: Optional[str], host: Optional[str], port: Optional[str], state_dir: Optional[str], log_format: Optional[str]
) -> int:
    """Run the registry that many agents report to, until stopped.

    The first start makes a key and an operator token in the state directory. To serve other machines the coordinator
    needs TLS or a proxy that the configuration names, and their nodes need join tokens (`duxnet token create join`).
    """
    import os

    from duxnet.process.logs import configure_logs
    from duxnet.process.settings import LogSettings, load_settings

    try:
        from duxnet.coordinator.server.process import serve
        from duxnet.coordinator.settings import CoordinatorSettings
    except ImportError as error:
        raise click.ClickException(
            f"the coordinator needs the extra `coordinator` ({error.name} is missing): "
            "in the checkout of DuxNet, pip install '.[coordinator]'"
        ) from None
    flags = {
        "coordinator.host": host,
        "coordinator.port": port,
        "coordinator.state_dir": state_dir,
        "log.format": log_format,
    }
    settings = load_settings({"coordinator": CoordinatorSettings, "log": LogSettings}, config=config, flags=flags)
    log = settings.section("log", LogSettings)
    configure_logs(log.format, log.level, os.environ)
    serve(settings.section("coordinator", CoordinatorSettings))
    return 0
