"""Where a registry is kept. `contract.py` says what every store promises."""

from __future__ import annotations

import logging

# Only processes configure logging. Here and not in the package's own __init__: all that logs is below, and the probe,
# which imports no storage, would pay 13 ms for it.
logging.getLogger("registry_core").addHandler(logging.NullHandler())
