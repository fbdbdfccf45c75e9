"""`python -m evaluation COMMAND`: each command prints one JSON object, `report` writes a page."""

from __future__ import annotations

import argparse
import gc
import json
import sys
from pathlib import Path
from typing import Any, Optional

from evaluation.availability import evaluate_availability
from evaluation.files import BadFileError
from evaluation.trust import DEFAULT_SEEDS, BadSeedsError, evaluate_trust


def main(arguments: Optional[list[str]] = None) -> int:
    """Run one evaluation. 0 done, 1 a file cannot be read or understood, 2 wrong usage."""
    asked = _parser().parse_args(arguments)
    gc.disable()  # a short process full of small tuples and no cycles: collecting would take a third of its time
    try:
        found = _run(asked)
    except BadFileError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BadSeedsError as error:
        print(f"error: --seeds: {error}", file=sys.stderr)
        return 2
    if found is not None:
        print(json.dumps(found, indent=2, allow_nan=False))
    return 0


def _run(asked: argparse.Namespace) -> Optional[dict[str, Any]]:
    if asked.what == "trust":
        return evaluate_trust(asked.network, asked.labels, asked.seeds)
    if asked.what == "availability":
        return evaluate_availability(asked.trace)
    return None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m evaluation", description=__doc__)
    commands = parser.add_subparsers(dest="what", required=True)
    trust = commands.add_parser("trust", help="AUC of ratings by others on a labelled network")
    trust.add_argument("--network", type=Path, required=True, help="CSV: source,target,rating,time")
    trust.add_argument("--labels", type=Path, required=True, help="CSV: node,label (1 benign, -1 fraudulent)")
    trust.add_argument("--seeds", default=DEFAULT_SEEDS, help="earliest:K or ID,ID,… (default %(default)s)")
    availability = commands.add_parser("availability", help="proper scores of expected uptime on a trace")
    availability.add_argument("--trace", type=Path, required=True, help="id, n, n pairs of start and end in seconds")
    return parser


if __name__ == "__main__":
    sys.exit(main())
