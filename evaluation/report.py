"""The report: runs every evaluation and writes its figures, as tables and plots, into the page for operators.

Only what stands between the two marks of the page is replaced. Not here: what is measured, and how.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from evaluation import plots
from evaluation.availability import evaluate_availability
from evaluation.files import BadFileError
from evaluation.network_attacks import evaluate_attacks
from evaluation.node_attacks import evaluate_node_attacks
from evaluation.trust import PROTOCOLS, evaluate_trust, leak_free_auc
from evaluation.verification import evaluate_verification

__all__ = ["BEGIN", "END", "MissingDataError", "WHERE_FROM", "find_data", "render", "with_report", "write_report"]

BEGIN = "<!-- report: begin (written by `make evaluate`; changes by hand are lost) -->"
END = "<!-- report: end -->"

SETS = ("alpha_network.csv", "alpha_gt.csv", "microsoft.avt.xz")
WHERE_FROM = """\
make evaluate DATA=DIR needs three public data sets somewhere below DIR:
  alpha_network.csv, alpha_gt.csv   Bitcoin Alpha: github.com/dr-lab/cs224w, folder rev2/data
                                    (network: SNAP soc-sign-bitcoinalpha; labels: REV2, Kumar et al., WSDM 2018)
  microsoft.avt.xz                  corporate PCs pinged hourly for 35 days: github.com/Derek-Jones/ESEUR-code-data,
                                    folder probability/reliability
None carries a licence for its data, so they are not part of this project."""


class MissingDataError(Exception):
    """The data sets are not where they should be; the text says where they come from."""


def find_data(folder: Optional[Path]) -> list[Path]:
    """The paths of the sets below `folder`. Raises MissingDataError."""
    if folder is None or not folder.is_dir():
        raise MissingDataError(WHERE_FROM)
    found = [next(iter(sorted(folder.rglob(name))), None) for name in SETS]
    missing = [name for name, path in zip(SETS, found) if path is None]
    if missing:
        raise MissingDataError(f"not below {folder}: {', '.join(missing)}\n{WHERE_FROM}")
    return [path for path in found if path is not None]


def write_report(folder: Optional[Path], page: Path) -> dict[str, Any]:
    """Run everything, write tables into `page` and plots into `img/` beside it, and give all figures."""
    network, labels, trace = find_data(folder)
    before = _page_with_marks(page)
    figures = {
        "trust": evaluate_trust(network, labels),
        "node_1": leak_free_auc(network, labels, "1"),
        "attacks": evaluate_attacks(network, labels),
        "behaviour": evaluate_node_attacks(),
        "verification": evaluate_verification(),
        "availability": evaluate_availability(trace),
    }
    text, images = render(figures)
    page.write_text(with_report(before, text), encoding="utf-8")
    (page.parent / "img").mkdir(exist_ok=True)
    for name, svg in images.items():
        (page.parent / "img" / name).write_text(svg, encoding="utf-8")
    return figures


def _page_with_marks(page: Path) -> str:
    """The page's text, read before minutes are spent. Raises BadFileError."""
    try:
        text = page.read_text(encoding="utf-8")
    except OSError as error:
        raise BadFileError(page, None, error.strerror or str(error)) from None
    if BEGIN not in text or END not in text:
        raise BadFileError(page, None, "has no marks for the report")
    return text


def with_report(page: str, text: str) -> str:
    """`page`, which has both marks, with what stands between them replaced by `text`."""
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n\n{text}\n{END}{after}"


def render(figures: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    """The report as Markdown, and its plots by file name."""
    parts = [
        _sources(figures),
        _trust(figures["trust"], figures["node_1"]),
        _ring(figures["attacks"]),
        _behaviour(figures["behaviour"]),
        _verification(figures["verification"]),
        _availability(figures["availability"]),
    ]
    images = {
        "leak-free-auc.svg": _auc_plot(figures["trust"]),
        "sybil-ring.svg": _ring_plot(figures["attacks"]),
        "reliability.svg": _reliability_plot(figures["availability"]),
        "verification.svg": _verification_plot(figures["verification"]),
    }
    return "\n".join(parts), images


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _sources(figures: Mapping[str, Any]) -> str:
    trust, trace = figures["trust"], figures["availability"]["trace"]
    rows = [
        (trust["network"]["file"], f"{trust['network']['ratings']} ratings", f"`{trust['network']['sha256']}`"),
        (trust["labels"]["file"], _labelled(trust), f"`{trust['labels']['sha256']}`"),
        (trace["file"], f"{trace['hosts']} hosts, {trace['days']:g} days", f"`{trace['sha256']}`"),
    ]
    return "### Data\n\n" + _table(("file", "holds", "SHA-256"), rows)


def _labelled(trust: Mapping[str, Any]) -> str:
    return f"{trust['labels']['benign']} benign, {trust['labels']['fraudulent']} fraudulent"


def _trust(report: Mapping[str, Any], node_1: float) -> str:
    rows = []
    for method in report["full"]["auc"]:
        least, most = report["intervals"]["leak_free"][method]
        cells = [f"{report[protocol]['auc'][method]:.3f}" for protocol in PROTOCOLS]
        cells[1] = f"{cells[1]} ({least:.3f}–{most:.3f})"
        rows.append((method, *cells))
    gain = report["gain_over_beta_mean"]["leak_free"]
    seeds = [(rule, f"{value:.4f}") for rule, value in report["seed_ablation"].items() if rule != "as_asked"]
    seeds.insert(0, ("node 1", f"{node_1:.4f}"))
    return "\n".join(
        (
            "### Ratings by others: finding fraudulent nodes\n",
            f"AUC on Bitcoin Alpha, seeds: {report['seeds']['rule']} raters. Only *leak-free* is a claim:",
            "the labels follow from ratings that the labelled nodes received. In brackets: 95 % bootstrap interval.\n",
            _table(("method", *PROTOCOLS), rows),
            f"The gain of trust_budgeted over the plain Beta mean, leak-free, is {gain[0]:+.3f} to {gain[1]:+.3f}:",
            f"{'not significant' if gain[0] <= 0 <= gain[1] else 'significant'}.",
            "It was chosen for the attacks below, with sight of these labels.\n",
            "![AUC, leak-free](img/leak-free-auc.svg)\n",
            "Leak-free AUC of trust_budgeted by choice of seeds:\n",
            _table(("seeds", "AUC"), seeds),
        )
    )


def _ring(report: Mapping[str, Any]) -> str:
    ring = report["sybil_ring_with_slander"]
    edges = [row["attack_edges"] for row in next(iter(ring["by_method"].values()))]
    rows = [
        (
            method,
            *(f"{row['sybils_above_median_benign']:.0%} / {row['victims_percentile_change']:+.2f}" for row in found),
        )
        for method, found in ring["by_method"].items()
    ]
    slow = report["slow_takeover"]
    slow_rows = [
        (row["attack_edges"], f"{row['sybils_above_median_benign']:.0%}", f"{row['victims_percentile_change']:+.2f}")
        for row in slow["by_method"]["trust_budgeted"]
    ]
    bought = report["bought_seed"]
    bought_rows = [
        (count, f"{row['sybils_above_median_benign']:.0%}", f"{row['victims_percentile_change']:+.2f}")
        for count, row in bought["by_sybils_praised"].items()
    ]
    return "\n".join(
        (
            "### Attacks by ratings\n",
            "These rank by ratings alone; in a score ratings are at most a quarter of the evidence.\n",
            f"**Sybil ring with slander.** Cost: {ring['cost']}.",
            "Damage: share of Sybils above the median benign node / change of the victims' percentile.\n",
            _table(("method", *(f"{count} edges" for count in edges)), rows),
            "![Sybil ring](img/sybil-ring.svg)\n",
            f"**Slow takeover.** Cost: {slow['cost']}.\n",
            _table(("honest raters won", "Sybils above median", "victims"), slow_rows),
            f"**A bought seed.** Cost: {bought['cost']}.\n",
            _table(("Sybils that it praises", "Sybils above median", "victims"), bought_rows),
        )
    )


def _behaviour(report: Mapping[str, Any]) -> str:
    washing, on_off = report["whitewashing"], report["on_off"]
    slander, wallet, there = report["bad_mouthing"], report["wallet_abuse"], report["attendance"]
    abused = wallet["victim_after_abuse_of_unverified_wallet"]
    owner = wallet["owner_after_own_failures_under_verified_wallet"]
    return "\n".join(
        (
            "### Attacks by behaviour\n",
            f"**Whitewashing** (work honestly, cheat until caught, return under a new key). Cost: {washing['cost']}.\n",
            _table(
                ("honest tasks for each identity", "wrong results accepted", "score on return"),
                [tuple(row.values()) for row in washing["rows"]],
            ),
            f"**On-off** (cheat only while checks are at most 5 %, {on_off['tasks']} tasks). Cost: {on_off['cost']}.\n",
            _table(
                ("cheats when unwatched", "wrong results accepted, share of work", "ended suspended or banned"),
                [
                    (
                        f"{row['cheats_when_unwatched']:.0%}",
                        f"{row['accepted_wrong_share_of_work']:.2%}",
                        f"{row['suspended_share']:.0%}",
                    )
                    for row in on_off["rows"]
                ],
            ),
            f"**Bad-mouthing.** Cost: {slander['cost']}.\n",
            _table(
                ("clean tasks", "score before", "score under the worst slander"),
                [tuple(row.values()) for row in slander["rows"]],
            ),
            f"**A victim's wallet abused.** Cost: {wallet['cost']}. After 50 proven wrong results by strangers who",
            f"named the wallet, its owner's next node starts at {abused['score']} on {abused['standing']}.",
            f"After 50 of the owner's own under a verified wallet: {owner['score']}, {owner['standing']}.\n",
            "**Being there little and looking well.** Live for",
            f"{there['live_minutes_of_each_hour']} minutes of each hour for {there['days']} days,",
            "from the given minute of the registry's hour on; honest is who falls silent then.\n",
            _table(
                ("goes by", "minute", "score", "honest", "expected uptime, 6 h", "honest"),
                [tuple(row.values()) for row in there["rows"]],
            ),
        )
    )


def _verification(report: Mapping[str, Any]) -> str:
    setting = report["setting"]
    rows = [
        (scene, rule, f"{found['work_for_each_job']:.2f}", f"{found['accepted_error']:.5f}")
        for scene, rules in report["scenes"].items()
        for rule, found in rules.items()
    ]
    return "\n".join(
        (
            "### Checking results\n",
            f"{setting['hosts']} hosts, {setting['jobs']} jobs, {setting['bad_hosts']:.0%} bad hosts that err in",
            f"{setting['error_rate_of_bad_hosts']:.0%} of jobs; a group gives the same wrong answer.\n",
            _table(("collusion", "rule", "work for each job", "wrong results accepted"), rows),
            "![Checking results](img/verification.svg)\n",
        )
    )


def _availability(report: Mapping[str, Any]) -> str:
    measures = ("brier", "brier_skill", "log_loss", "ece", "auc")
    rows = [(name, *(f"{report[measure][name]:.4f}" for measure in measures)) for name in report["brier"]]
    return "\n".join(
        (
            "### Expected uptime: stays up for the next 6 hours\n",
            f"{report['questions']} questions, {report['trace']['hosts_used']} hosts ({report['trace']['sampling']}),",
            f"base rate {report['base_rate']:.3f}, prequential, on {report['measured_on']}. The product uses *beta*;",
            "learners are challengers, *guarded_logistic* falls back to beta by itself.\n",
            _table(("forecaster", "Brier", "skill", "log loss", "ECE", "AUC"), rows),
            "![Reliability](img/reliability.svg)\n",
        )
    )


def _auc_plot(report: Mapping[str, Any]) -> str:
    rows = [
        (method, value, *report["intervals"]["leak_free"][method])
        for method, value in sorted(report["leak_free"]["auc"].items(), key=lambda item: -item[1])
    ]
    return plots.bars("Leak-free AUC with 95 % interval", rows, 0.5, 1.0, "trust_budgeted")


def _ring_plot(report: Mapping[str, Any]) -> str:
    series = {
        method: [(row["attack_edges"], row["sybils_above_median_benign"]) for row in rows]
        for method, rows in report["sybil_ring_with_slander"]["by_method"].items()
        if method in ("beta_mean", "eigentrust", "trust_budgeted")
    }
    most = max(x for row in series.values() for x, _ in row)
    return plots.lines(
        "Sybils above the median benign node", series, ("attack edges", "share"), ((0, most), (0.0, 1.0))
    )


def _reliability_plot(report: Mapping[str, Any]) -> str:
    rows = [(row["forecast"], row["happened"]) for row in report["reliability"]]
    low = min(0.9, *(min(point) for point in rows)) // 0.1 * 0.1
    return plots.lines(
        "Reliability of expected uptime",
        {"beta": rows},
        ("forecast", "happened"),
        ((low, 1.0), (low, 1.0)),
        diagonal=True,
    )


def _verification_plot(report: Mapping[str, Any]) -> str:
    series: dict[str, list[tuple[float, float]]] = {}
    for rules in report["scenes"].values():
        for rule, found in rules.items():
            series.setdefault(rule, []).append((found["work_for_each_job"], 1000.0 * found["accepted_error"]))
    most = max(y for row in series.values() for _, y in row)
    return plots.points(
        "Work against accepted errors, three scenes",
        series,
        ("work for each job", "wrong in 1,000"),
        ((1.0, 2.25), (0.0, most)),
    )
