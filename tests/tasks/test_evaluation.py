"""The numbers of a benchmark's tables, and those by which a training chooses its best head."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sevila.data.records import Question
from sevila.model.sevila import ScoredFrame
from sevila.tasks.chain import Prediction
from sevila.tasks.evaluation import Judged, Lines, benchmark_metrics, judged, lines_of, metric_names, validation_metrics

FRAMES = (ScoredFrame(0, 0.0, None), ScoredFrame(10, 1.0, None))


def predicted(qtype: str, right: bool, windows: tuple | None = None, votes: tuple | None = None) -> Prediction:
    question = Question("q", "v", "?", ("x", "y"), 0, qtype=qtype, windows=windows)
    return Prediction(question, FRAMES, (0,), 0 if right else 1, (1.0, 0.0), votes)


STAR = [predicted("Interaction", True)] * 3 + [predicted("Interaction", False)] + [predicted("Sequence", False)] * 2
STAR += [predicted("Prediction", True), predicted("Feasibility", True)]


def test_star_is_ranked_by_the_mean_of_its_types() -> None:
    found = benchmark_metrics("star", STAR)
    assert (found["accuracy"], found["mean_over_types"]) == (62.5, 68.75)  # 5 of 8; (3/4 + 0 + 1 + 1) / 4
    assert validation_metrics("star", STAR) == {"accuracy": 62.5, "mean_over_types": 68.75}
    assert metric_names("star", [p.question for p in STAR]) == ["mean_over_types", "accuracy"]


@pytest.mark.parametrize("benchmark", ["nextqa", "how2qa", "tvqa", "vlep", "custom", "synthetic", "nextgqa"])
def test_the_others_are_ranked_by_accuracy(benchmark: str) -> None:
    found = [predicted("TN", True), predicted("CW", False)]
    assert metric_names(benchmark, [p.question for p in found]) == ["accuracy"]
    assert validation_metrics(benchmark, found) == {"accuracy": 50.0}


@pytest.mark.parametrize("benchmark", ["", "star", "nextqa", "nextgqa"])
@pytest.mark.parametrize("voting", [False, True])
def test_the_names_are_those_of_the_numbers(benchmark: str, voting: bool) -> None:
    votes = (0,) if voting else None
    found = [predicted("TN", True, ((0.0, 0.5),), votes), predicted("CW", False, ((0.5, 1.5),), votes)]
    names = metric_names(benchmark, [p.question for p in found], voting)
    assert sorted(names) == sorted(validation_metrics(benchmark, found)) and len(names) >= 3


def test_predictions_stay_on_the_disk(tmp_path: Path) -> None:
    """Made in any order, by two processes; of each what metrics look at is held, and its line found again."""
    here = [predicted("TN", True), predicted("é ✓", False, ((0.5, 1.5),))]
    there = [predicted("CH", True)]
    kept = judged(((place, here[place]) for place in (1, 0)), tmp_path)
    lines_of(tmp_path, 1).write_text(json.dumps(there[0].to_json()) + "\n")
    found = [kept[0], Judged(there[0].pruned(), 1, 0), kept[1]]
    with Lines(tmp_path, found) as lines:
        assert list(lines) == [p.to_json() for p in (here[0], there[0], here[1])] and len(lines) == 3
        assert lines[2]["qtype"] == "é ✓" and lines[0]["qtype"] == "TN"
    assert len(lines.files) == 2 and all(file.closed for file in lines.files.values())
    assert [len(each.prediction.frames) for each in found] == [1, 1, 2]
    for each in found:
        row = json.loads(json.dumps(each.to_row()))
        assert Judged.from_row(each.prediction.question, row) == each
