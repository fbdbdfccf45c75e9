"""`python -m evaluation` as others run it: one JSON object, nothing on stderr, errors that say what to do."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from evaluation.forecasters import Beta
from evaluation.methods import METHODS
from evaluation.network_attacks import evaluate_attacks
from evaluation.node_attacks import evaluate_node_attacks
from evaluation.trust import BadSeedsError, chosen_seeds, evaluate_trust
from registry_core.rules.reputation import EvidenceState, HourObserved, expected_uptime, with_hour

ROOT = Path(__file__).resolve().parents[2]


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "evaluation", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60
    )


@pytest.fixture(scope="module")
def community(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """80 honest nodes who praise each other, 20 cheats whom they blame, and who praise each other."""
    rng = random.Random(3)
    folder = tmp_path_factory.mktemp("community")
    lines = []
    for when in range(2500):
        rater, rated = rng.sample(range(100), 2)
        cheat = rated >= 80
        value = rng.choice([1, 2, 5]) if (rater >= 80) == cheat else -10 if cheat else rng.choice([-10, 3])
        lines.append(f"{rater},{rated},{value},{when}\n")
    (folder / "network.csv").write_text("".join(lines))
    labels = [f"{node},{-1 if node >= 80 else 1}\r\n" for node in (*range(30), *range(80, 95))]
    (folder / "labels.csv").write_bytes("".join(labels).encode())
    return folder / "network.csv", folder / "labels.csv"


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 hosts for 30 days: a third never goes, a third goes now and then, a third each night."""
    rng = random.Random(4)
    lines = []
    for host in range(60):
        times = [0]
        now = 0.0
        while now < 30 * 24:
            up = {0: 10_000.0, 1: rng.expovariate(1 / 40), 2: 14 + rng.random()}[host % 3]
            now += up
            times.append(int(min(now, 720) * 3600))
            now += rng.random() * 8 + 1
            if now < 720:
                times.append(int(now * 3600))
        times = times[: len(times) // 2 * 2]
        lines.append(f"{host} {len(times) // 2} {' '.join(map(str, times))}\n")
    path = tmp_path_factory.mktemp("trace") / "made.avt"
    path.write_text("".join(lines))
    return path


def test_trust_prints_one_object_with_the_figures_where_they_are_looked_for(community: tuple[Path, Path]) -> None:
    network, labels = community
    run = _run("trust", "--network", str(network), "--labels", str(labels), "--seeds", "earliest:5")
    assert (run.returncode, run.stderr) == (0, "")
    report = json.loads(run.stdout)
    for protocol in ("full", "leak_free", "temporal"):
        assert set(report[protocol]["auc"]) == set(METHODS)
        assert all(0.0 <= value <= 1.0 for value in report[protocol]["auc"].values())
        for method, (low, high) in report["intervals"][protocol].items():
            assert low <= report[protocol]["auc"][method] <= high
    assert report["full"]["auc"]["trust_budgeted"] > 0.95
    assert len(report["network"]["sha256"]) == len(report["labels"]["sha256"]) == 64


def test_seeds_may_be_named_and_unknown_ones_are_an_error(community: tuple[Path, Path]) -> None:
    network, labels = community
    assert evaluate_trust(network, labels, "1, 2,3")["seeds"]["nodes"] == ["1", "2", "3"]
    for wrong in ("nobody", "earliest:0", "earliest:x", ",", ""):
        with pytest.raises(BadSeedsError):
            evaluate_trust(network, labels, wrong)
    run = _run("trust", "--network", str(network), "--labels", str(labels), "--seeds", "nobody")
    assert (run.returncode, run.stdout) == (2, "")
    assert "nobody" in run.stderr


def test_few_labels_and_labels_of_strangers_are_no_error(tmp_path: Path, community: tuple[Path, Path]) -> None:
    few = tmp_path / "few.csv"
    few.write_text("1,1\nstranger,-1\n")
    report = evaluate_trust(community[0], few)
    assert report["labels"]["outside_network"] == 1
    assert report["full"]["auc"]["trust_budgeted"] == 1.0
    assert report["temporal"]["auc"]["trust_budgeted"] is None
    json.dumps(report, allow_nan=False)


def test_a_bad_line_is_named_and_nothing_is_printed(tmp_path: Path, community: tuple[Path, Path]) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("1,2,3,4\nnonsense\n")
    run = _run("trust", "--network", str(bad), "--labels", str(community[1]))
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr == f"error: {bad}, line 2: must be source,target,rating,time\n"


def test_a_sybil_ring_gets_nowhere_by_trust_and_everywhere_by_means(community: tuple[Path, Path]) -> None:
    network, labels = community
    report = evaluate_attacks(network, labels, edges=(0,))["sybil_ring_with_slander"]["by_method"]
    assert report["trust_budgeted"][0]["sybils_above_median_benign"] == 0.0
    assert report["mean"][0]["sybils_above_median_benign"] == 1.0


def test_availability_prints_proper_scores_by_measure_and_method(trace: Path) -> None:
    run = _run("availability", "--trace", str(trace))
    assert (run.returncode, run.stderr) == (0, "")
    report = json.loads(run.stdout)
    assert report["brier"]["beta"] < report["brier"]["base_rate"]
    assert report["log_loss"]["beta"] < report["log_loss"]["storj"]
    assert set(report["ece"]) == set(report["auc"]) == set(report["brier"])
    assert report["trace"]["hosts_used"] == 60


def test_a_trace_too_small_for_a_figure_says_so(tmp_path: Path) -> None:
    small = tmp_path / "small.avt"
    small.write_text("0 1 0 90000\n")
    run = _run("availability", "--trace", str(small))
    assert (run.returncode, run.stdout) == (1, "")
    assert "100 are needed" in run.stderr


def test_the_forecaster_judged_is_the_products_own() -> None:
    beta = Beta()
    state = EvidenceState()
    rng = random.Random(6)
    for window in range(60):
        stays = rng.random() < 0.8
        assert beta.forecast(1, 0.0, 0.9) == pytest.approx(expected_uptime(state, 6.0, 0.9), abs=1e-9)
        beta.learn(1, 0.0, int(stays))
        for hour in range(6):
            state = with_hour(state, HourObserved(1.0 if stays or hour != 4 else 0.25))
        assert window >= 0


def test_attacks_by_behaviour_stay_within_the_stated_bounds() -> None:
    report = evaluate_node_attacks(20)
    assert report["whitewashing"]["rows"][0]["accepted_wrong_for_each_identity"] == 0.0
    assert all(row["accepted_wrong_for_each_identity"] < 80 for row in report["whitewashing"]["rows"])
    assert all(row["accepted_wrong_share_of_work"] < 0.06 for row in report["on_off"]["rows"])
    for row in report["bad_mouthing"]["rows"]:
        assert row["score_under_all_slander"] > 0.65 * row["score_before"]
    assert report["wallet_abuse"]["victim_after_abuse_of_unverified_wallet"] == {"score": 0.25, "standing": "probation"}


def test_the_report_without_data_says_where_data_comes_from(tmp_path: Path) -> None:
    for arguments in (["report"], ["report", "--data", ""], ["report", "--data", str(tmp_path)]):
        run = _run(*arguments)
        assert (run.returncode, run.stdout) == (2, "")
        assert "dr-lab/cs224w" in run.stderr


def test_all_nodes_named_as_seeds_once_stand_once(community: tuple[Path, Path]) -> None:
    from evaluation.files import read_network

    assert chosen_seeds(read_network(community[0]), "4,4, 5") == ["4", "5"]
