"""scripts/correct_study.py: intervals of an old study come close to those that its runs would give today."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import correct_study
from study.bootstrap import Draws, interval
from study.few_seeds import student_quantile
from study.intervals import Estimate
from study.outcomes import Outcome, Outcomes, WorldQuestions
from study.outputs import write_all
from study.rows import Numbers, all_rows

DEFAULT, WORLD, VIDEOS, SEEDS = Numbers(32, 4), 7, 80, 5
ROWS = {"uniform": (0.3, 1), "zero_shot": (0.7, 1), "pt": (0.75, SEEDS), "pt_sr": (0.78, SEEDS), "oracle": (0.95, 1)}


def fabricated() -> Outcomes:
    """Answers of 80 videos of 4 questions; videos differ, and trainings by 4 points."""
    rng = np.random.default_rng(0)
    count = 4 * VIDEOS
    easy = np.repeat(rng.normal(0, 0.1, VIDEOS), 4)
    runs = {}
    for row in all_rows(DEFAULT):
        if row.key in ROWS:
            share, seeds = ROWS[row.key]
            level = share + easy + (rng.normal(0, 0.04, (seeds, 1)) if seeds > 1 else 0.0)
            right, chosen = (rng.random((seeds, count)) < level for _ in range(2))
            runs[row.run.name] = {WORLD: Outcome(right, chosen.astype(np.uint8), np.ones((seeds, count), np.uint8))}
    videos = np.repeat([f"v{i}" for i in range(VIDEOS)], 4)
    tests = WorldQuestions(
        np.array([f"q{i}" for i in range(count)]), videos, np.full(count, "causal"), np.full(count, 2)
    )
    about: dict[str, Any] = {"worlds": [WORLD], "seeds": list(range(SEEDS)), "set": [f"data.test_videos={VIDEOS}"]}
    about |= {"runs": 5, "run_seconds": 1, "wall_seconds": 1, "commits": [], "versions": {}}
    about |= {"platforms": [], "devices": []}
    return Outcomes(DEFAULT, tuple(ROWS), tuple(range(SEEDS)), {WORLD: tests}, runs, [], about)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A study by today's rule, and the same one with its old intervals."""
    today, old = (tmp_path_factory.mktemp(name) for name in ("today", "old"))
    outcomes = fabricated()
    runs = {row.key: outcomes.runs[row.run.name][WORLD] for row in all_rows(DEFAULT) if row.key in ROWS}
    draws = Draws.make(outcomes.tests[WORLD].video.tolist(), SEEDS, np.random.default_rng(1), 4000)
    samples = {
        (key, measure): draws.means(getattr(run, measure))
        for key, run in runs.items()
        for measure in ("accuracy", "recall")
    }
    write_all(outcomes, today)
    write_all(outcomes, old)
    for file in (old / "tables").glob("*.json"):
        table = json.loads(file.read_text())
        for row in table["rows"]:
            for measure in ("accuracy", "recall"):
                row[measure]["low"], row[measure]["high"] = interval(samples[row["row"], measure])
        file.write_text(json.dumps(table))
    claims = json.loads((old / "claims.json").read_text())
    for claim in claims:
        for key in ("p", "p_holm", "verdict_holm", "part"):
            del claim[key]
        best = np.max([samples[other, claim["measure"]] for other in claim["others"]], axis=0)
        claim["low"], claim["high"] = interval(samples[claim["better"], claim["measure"]] - best)
        claim["verdict"] = "reproduced"
    (old / "claims.json").write_text(json.dumps(claims))
    return today, old


def test_the_corrected_intervals_are_those_of_the_runs(folders: tuple[Path, Path], tmp_path: Path) -> None:
    today, old = folders
    assert correct_study.main([str(old), str(tmp_path)]) == 0
    expected, found = (json.loads((folder / "claims.json").read_text()) for folder in (today, tmp_path))
    assert [claim["claim"] for claim in found] == [claim["claim"] for claim in expected]
    before = json.loads((old / "claims.json").read_text())
    for claim, right, was in zip(found, expected, before, strict=True):
        assert claim["effect"] == right["effect"] and claim["others"] == right["others"]
        if len(claim["others"]) > 1:
            continue  # of these only the interval to the best in each resample was written
        width, wanted = claim["high"] - claim["low"], right["high"] - right["low"]
        assert width == pytest.approx(wanted, rel=0.2) and claim["verdict"] == right["verdict"]
        assert width >= was["high"] - was["low"] or claim["better"] == "zero_shot"
    rows = {row["row"]: row for row in json.loads((tmp_path / "tables/main.json").read_text())["rows"]}
    for row in json.loads((today / "tables/main.json").read_text())["rows"]:
        for end in ("low", "high"):
            assert rows[row["row"]]["accuracy"][end] == pytest.approx(row["accuracy"][end], abs=1.0)
    assert "corrected from the tables" in (tmp_path / "claims.md").read_text()
    assert "corrected from the tables" in (tmp_path / "report.html").read_text()
    assert not (tmp_path / "outcomes.npz").exists()


def test_an_interval_by_hand() -> None:
    """An old error of 2 points; seeds of -3, 0 and 3: a variance of 3, of which two thirds were drawn."""
    mean = correct_study.corrected(0.0, -2 * 1.959964, 2 * 1.959964, [-3.0, 0.0, 3.0], 101)
    assert [part.variance for part in mean.parts] == pytest.approx([(4 - 2) * 1.01, 3.0])
    assert [part.freedom for part in mean.parts] == [100, 2]
    untrained = correct_study.corrected(1.0, 0.0, 2.0, [1.0], 101).estimate()
    reach = student_quantile(95, 100) / 1.959964 * 1.01**0.5
    assert untrained == Estimate(1.0, pytest.approx(1 - reach), pytest.approx(1 + reach))


def test_what_is_corrected_is_not_corrected_again(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert correct_study.main([str(folders[0]), str(tmp_path / "new")]) == 2
    assert "its intervals are not percentiles of a bootstrap" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
