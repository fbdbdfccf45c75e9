"""`python -m benchmarks [NAME]`: run one measurement, or all that take minutes and not hours."""

from __future__ import annotations

import importlib
import sys

ALL = {
    "probe": "what a probe costs beside an empty Python",
    "reputation": "what an outcome, a quantile and a rating batch cost",
    "remote": "what a page of nodes costs the client of a coordinator",
    "storage": "durability beside bare sqlite3, and starts with a million nodes",
    "registry": "queries, heartbeats and memory at 10⁴, 10⁵ and 10⁶ nodes",
}
BY_NAME_ONLY = {
    "agent": "what a running agent costs; takes ten minutes",
    "coordinator": "heartbeats, lists and registrations over HTTP",
}


def main() -> int:
    """Run what was named; without a name all of `ALL`."""
    names = sys.argv[1:2] or list(ALL)
    for name in names:
        if name not in ALL and name not in BY_NAME_ONLY:
            known = "\n".join(f"  {known:12} {what}" for known, what in {**ALL, **BY_NAME_ONLY}.items())
            print(f"there is no benchmark {name!r}; there are\n{known}", file=sys.stderr)
            return 2
        print(f"== {name}", flush=True)
        sys.argv = [f"benchmarks.{name}", *sys.argv[2:]]
        importlib.import_module(f"benchmarks.{name}").main()
    return 0


if __name__ == "__main__":
    sys.exit(main())
