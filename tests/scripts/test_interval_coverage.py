"""scripts/interval_coverage.py: answers are simulated as it says, and coverage is counted right."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import interval_coverage
from interval_coverage import QUESTIONS, VIDEOS, Truth, answers, comparisons, coverage
from study.intervals import Estimate


def test_rows_have_the_shares_and_spreads_that_they_are_said_to_have() -> None:
    rng = np.random.default_rng(0)
    rows = (Truth(0.77, 2.5), Truth(0.735, 0.0))
    drawn = [answers(rows, 60, rng) for _ in range(30)]
    assert drawn[0][0].shape == (60, VIDEOS * QUESTIONS) and drawn[0][1].shape == (1, VIDEOS * QUESTIONS)
    for place, row in enumerate(rows):
        assert np.mean([pair[place].mean() for pair in drawn]) == pytest.approx(100 * row.right, abs=1.0)
    spread = np.mean([pair[0].mean(axis=1).std(ddof=1) for pair in drawn])
    assert 2.3 < spread < 2.8  # the questions' own chance adds a little
    shared = np.mean([np.corrcoef(pair[0].mean(axis=0), pair[1][0])[0, 1] for pair in drawn])
    assert shared > 0.5  # what is hard for one row is hard for the other


def test_comparisons() -> None:
    found = {comparison.name: comparison for comparison in comparisons(1.0)}
    assert all(comparison.effect == pytest.approx(3.5) for comparison in found.values())
    assert found["trained, untrained"].others[0].spread == 0 and len(found["best of three trained"].others) == 3


def test_coverage_is_counted() -> None:
    estimates = [Estimate(0, -1, 1), Estimate(0, 0.5, 2), Estimate(0, -3, 0), Estimate(0, -3, -1)]
    counted = interval_coverage._counted(estimates, 0.0)
    assert counted == {"held": 50.0, "above": 25.0, "width": pytest.approx((2 + 1.5 + 3 + 2) / 4, abs=0.01)}


def test_intervals_over_five_seeds_hold_the_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interval_coverage, "RESAMPLES", 200)
    comparison = next(iter(comparisons(2.5)))
    found = coverage(comparison, 5, 80, 0)
    assert found == coverage(comparison, 5, 80, 0)
    assert found["Student"]["held"] >= 87 and found["Student"]["width"] > found["percentile bootstrap"]["width"]


def test_the_committed_table_is_what_the_rule_quotes() -> None:
    from study.claims import RULE

    folder = Path(__file__).resolve().parents[2] / "results/synthetic"
    rows = json.loads((folder / "coverage.json").read_text())["rows"]
    found = {}
    for rule in ("Student", "percentile bootstrap"):
        for seeds in (5, 10):
            held = [row["held"] for row in rows if row["seeds"] == seeds and row["rule"] == rule]
            assert len(held) == 6
            found[rule, seeds] = f"{min(held):.0f} to {max(held):.0f} %"
    assert f"in {found['Student', 5]} of the cases and with ten in {found['Student', 10]}" in RULE
    assert f"by percentiles in {found['percentile bootstrap', 5]} and {found['percentile bootstrap', 10]}" in RULE
