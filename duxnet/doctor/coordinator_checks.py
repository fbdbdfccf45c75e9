"""Checks of the coordinator's configuration and of the files that it names, as its sandboxed service finds them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from duxnet.doctor.findings import OK, PROBLEM, Finding
from duxnet.process.errors import ConfigurationError

__all__ = ["check_coordinator_configuration"]

CHECK = "coordinator's configuration"
CREDENTIALS = Path("/run/credentials/duxnet-coordinator.service")


def check_coordinator_configuration() -> Iterator[Finding]:
    """Check its settings, and whether the service can read the TLS files that they name."""
    from duxnet.coordinator.settings import CoordinatorSettings
    from duxnet.process.settings import LogSettings, load_settings
    from duxnet.service.placement import closed_to_others

    try:
        settings = load_settings({"coordinator": CoordinatorSettings, "log": LogSettings})
    except ConfigurationError as error:
        for problem in error.problems:
            yield Finding(CHECK, PROBLEM, problem, "fix it, then `sudo systemctl restart duxnet-coordinator.service`")
        return
    section = settings.section("coordinator", CoordinatorSettings)
    for name in (section.tls_certificate, section.tls_key):
        path = Path(name)
        if not name or CREDENTIALS in path.parents:
            continue
        remedy = f"pass it as a credential (docs/operations.md), /etc/credstore/duxnet-coordinator.{path.stem}"
        if not os.path.lexists(path):
            yield Finding(CHECK, PROBLEM, f"{path} does not exist", remedy)
        elif closed_to_others(path) is not None:
            yield Finding(CHECK, PROBLEM, f"the service's own user cannot read {path}", remedy)
    yield Finding(CHECK, OK, f"{settings.config_file or 'no file, defaults'}; listens on {section.host}:{section.port}")
