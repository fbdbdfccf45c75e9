"""Where a registry is stored. `store.py` specifies what every store must do."""

from __future__ import annotations

import logging

# Only processes configure logging. This is not in the package's own __init__: everything that logs imports storage,
# and the probe, which does not, would pay 13 ms for the import.
logging.getLogger("registry_core").addHandler(logging.NullHandler())
