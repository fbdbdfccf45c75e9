"""`duxnet doctor`: finds problems of the agent on this machine and says how to fix them."""

from __future__ import annotations

from functools import partial
from typing import Optional

import click

from duxnet.cli.options import format_option, state_dir_option
from duxnet.process.terminal import say

__all__ = ["doctor"]


@click.command("doctor")
@click.option("--config", metavar="FILE", help="Check an agent with this configuration instead of the service.")
@state_dir_option("Check the agent with this state directory instead of the service.")
@format_option
def doctor(config: Optional[str], state_dir: Optional[str], output: str) -> int:
    """Find problems of the agent on this machine and say how to fix them.

    If the service is installed, this checks its unit, watchdog, configuration, key, registry, TLS and clocks. It also
    compares what the sandboxed service can see of this machine with what root sees. Run it as root to check all.

    The exit code is 0 if there is no problem and 1 if there is one.
    """
    import os

    from duxnet.cli.colour import painted
    from duxnet.cli.output import print_json
    from duxnet.doctor.examination import examine, find_patient, service_environment
    from duxnet.doctor.findings import MARK_WIDTH, all_is_well, as_text, to_plain

    patient = find_patient(config, state_dir)
    if patient.is_service:  # this process takes the place of the service, and ends in it
        environ = service_environment(patient)
        os.environ.clear()
        os.environ.update(environ)
    findings = list(examine(patient, os.environ))
    if output == "json":
        print_json(to_plain(findings))
    else:
        for line in as_text(findings):
            say(line, paint=partial(painted, start=0, end=MARK_WIDTH))
    return 0 if all_is_well(findings) else 1
