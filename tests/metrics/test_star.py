from __future__ import annotations

import json
from pathlib import Path

import pytest

from sevila.errors import UserError
from sevila.metrics.choice import Choice
from sevila.metrics.star import star


def test_as_the_official_code_prints(shared: Path) -> None:
    folder = shared / "golden/metrics/star"
    rows = json.loads((folder / "official_results_val.json").read_text())
    official = json.loads((folder / "metrics.json").read_text())
    result = star(Choice(row["target"], row["prediction"], row["qid"].split("_")[0]) for row in rows)
    assert result == official and list(result) == list(official)


def test_a_type_without_a_right_answer_counts() -> None:
    # Interaction 1 of 2, Sequence 0 of 3, Prediction 1 of 1: the mean of 50, 0 and 100, though 2 of 6 are right
    choices = [Choice(0, 0, "Interaction"), Choice(0, 1, "Interaction"), Choice(2, 2, "Prediction")]
    choices += [Choice(3, option, "Sequence") for option in (0, 1, 2)]
    assert star(choices) == {"agg_metrics": 50.0, "total": 6, "Interaction": 50.0, "Sequence": 0.0, "Prediction": 100.0}


def test_unknown_types_are_refused() -> None:
    with pytest.raises(UserError, match="question type 'CW': STAR has Interaction"):
        star([Choice(0, 0, "CW")])
