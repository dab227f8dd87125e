from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from sevila.errors import UserError
from sevila.metrics.choice import Choice
from sevila.metrics.nextqa import nextqa


def test_as_both_official_scripts_print(shared: Path) -> None:
    folder = shared / "golden/metrics"
    predictions = json.loads((folder / "nextqa/HGA_val_predictions.json").read_text())
    own = json.loads((folder / "nextqa/golden_metrics.json").read_text())["HGA-bert-ft-h256-val-example.json"]
    task = json.loads((folder / "official_metrics.json").read_text())["nextqa_val_HGA"]
    with (shared / "annotations/nextqa/val.csv").open(encoding="utf-8", newline="") as file:
        types = {f"{row['video']}_{row['qid']}": row["type"] for row in csv.DictReader(file)}
    result = nextqa(Choice(p["answer"], p["prediction"], types[key]) for key, p in predictions.items())
    assert result["metrics"] == own["metrics"] and result["Acc"] == own["Acc"] == 49.74
    assert {**result["types"], "agg_metrics": result["agg_metrics"], "total": result["total"]} == task


def test_groups_by_hand() -> None:
    choices = [
        Choice(0, 0, "TN"), Choice(0, 1, "TN"), Choice(2, 2, "TP"), Choice(3, 0, "TC"),
        Choice(4, 4, "DO"), Choice(None, 1, "DO"), Choice(1, 0, "CH"),
    ]  # fmt: skip
    result = nextqa(choices)
    assert result["metrics"] == {
        "How": 0.0, "Bef&Aft": 66.67, "When": 0.0, "Other": 100.0, "Acc_C": 0.0, "Acc_T": 50.0, "Acc_D": 100.0,
    }  # fmt: skip
    assert result["Acc"] == 50.0 and result["total"] == 6
    assert result["types"] == {"CH": 0.0, "DO": 100.0, "TC": 0.0, "TN": 50.0, "TP": 100.0}


def test_unknown_types_and_hidden_answers_are_refused() -> None:
    with pytest.raises(UserError, match="question type 'XX': NExT-QA has CH, CW"):
        nextqa([Choice(0, 0, "XX")])
    with pytest.raises(UserError, match="no question has a known answer"):
        nextqa([Choice(None, 0, "CH")])
