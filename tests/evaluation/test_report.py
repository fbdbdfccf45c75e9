"""The report as text and plots, from made-up figures of the right shape; the page keeps what is written by hand."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from evaluation.report import BEGIN, END, with_report

ROOT = Path(__file__).resolve().parents[2]


def test_only_what_stands_between_the_marks_is_replaced() -> None:
    page = f"# Mine\n{BEGIN}\nold\n{END}\nafter\n"
    assert with_report(page, "new") == f"# Mine\n{BEGIN}\n\nnew\n{END}\nafter\n"
    assert with_report(with_report(page, "new"), "new") == with_report(page, "new")


def test_every_plot_of_the_page_is_there_and_is_well_formed() -> None:
    page = (ROOT / "docs" / "reputation.md").read_text(encoding="utf-8")
    named = re.findall(r"\]\((img/[^)]+)\)", page)
    assert named
    for name in named:
        plot = ROOT / "docs" / name
        assert ElementTree.parse(plot).getroot().tag.endswith("svg")
        assert plot.stat().st_size < 20_000
