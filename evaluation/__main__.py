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
from evaluation.network_attacks import evaluate_attacks
from evaluation.node_attacks import evaluate_node_attacks
from evaluation.report import MissingDataError, write_report
from evaluation.trust import DEFAULT_SEEDS, BadSeedsError, evaluate_trust
from evaluation.verification import evaluate_verification


def main(arguments: Optional[list[str]] = None) -> int:
    """Run one evaluation. 0 done, 1 a file cannot be read or understood, 2 wrong usage or no data."""
    asked = _parser().parse_args(arguments)
    gc.disable()  # a short process full of small tuples and no cycles: collecting would take a third of its time
    try:
        found = _run(asked)
    except BadFileError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except MissingDataError as error:
        print(error, file=sys.stderr)
        return 2
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
    if asked.what == "attacks":
        return evaluate_attacks(asked.network, asked.labels, asked.seeds)
    if asked.what == "behaviour":
        return evaluate_node_attacks()
    if asked.what == "verification":
        return evaluate_verification()
    write_report(asked.data, asked.page)
    return None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m evaluation", description=__doc__)
    commands = parser.add_subparsers(dest="what", required=True)
    for name, says in (
        ("trust", "AUC of ratings by others on a labelled network"),
        ("attacks", "Sybils, slander, slow takeover and a bought seed on that network"),
    ):
        command = commands.add_parser(name, help=says)
        command.add_argument("--network", type=Path, required=True, help="CSV: source,target,rating,time")
        command.add_argument("--labels", type=Path, required=True, help="CSV: node,label (1 benign, -1 fraudulent)")
        command.add_argument("--seeds", default=DEFAULT_SEEDS, help="earliest:K or ID,ID,… (default %(default)s)")
    commands.add_parser("behaviour", help="whitewashing, on-off, bad-mouthing and wallet abuse, simulated")
    commands.add_parser("verification", help="work and accepted errors of rules for checking results, simulated")
    availability = commands.add_parser("availability", help="proper scores of expected uptime on a trace")
    availability.add_argument("--trace", type=Path, required=True, help="id, n, n pairs of start and end in seconds")
    report = commands.add_parser("report", help="run all of them and write their figures into a page")
    report.add_argument("--data", type=_folder, help="the folder of the data sets")
    report.add_argument("--page", type=Path, default=Path("docs/reputation.md"), help="default %(default)s")
    return parser


def _folder(text: str) -> Optional[Path]:
    return Path(text) if text else None  # `make evaluate` without DATA hands over an empty text


if __name__ == "__main__":
    sys.exit(main())
