"""`duxnet doctor`: what is wrong with the agent on this machine, and what to do about it."""

from __future__ import annotations

from typing import Optional

import click

from duxnet.cli.options import format_option, state_dir_option
from duxnet.process.terminal import say

__all__ = ["doctor"]


@click.command("doctor")
@click.option("--config", metavar="FILE", help="Examine an agent with this configuration, not the service.")
@state_dir_option("Examine the agent with this state directory, not the service.")
@format_option
def doctor(config: Optional[str], state_dir: Optional[str], output: str) -> int:
    """Say what is wrong with the agent on this machine, and what to do about it.

    Looks at the service where one is installed: unit, watchdog, configuration, key, registry, TLS, clocks, and what
    the locked-down service can see of this machine against what root sees. Run it as root to see all.

    Exit code 0: all is well. 1: there is a problem.
    """
    import os

    from duxnet.cli.output import print_json
    from duxnet.doctor.examination import examine, find_patient, service_environment
    from duxnet.doctor.findings import all_is_well, as_text, to_plain

    patient = find_patient(config, state_dir)
    if patient.is_service:  # from here on this process is in its place, and ends in it
        environ = service_environment(patient)
        os.environ.clear()
        os.environ.update(environ)
    findings = list(examine(patient, os.environ))
    if output == "json":
        print_json(to_plain(findings))
    else:
        for line in as_text(findings):
            say(line)
    return 0 if all_is_well(findings) else 1
