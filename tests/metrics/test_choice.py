from __future__ import annotations

import csv
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevila.errors import UserError
from sevila.metrics.choice import (
    Choice,
    accuracy,
    accuracy_by_type,
    mean_over_types,
    multiple_choice,
    tally,
)

NEXTQA_GROUPS = {"C": ("CW", "CH"), "T": ("TN", "TC", "TP"), "D": ("DO", "DL", "DC")}


def test_by_hand():
    choices = [
        Choice(0, 0, "CW"), Choice(1, 0, "CW"), Choice(2, 2, "CW"),
        Choice(1, 1, "CH"), Choice(None, 3, "CH"), Choice(4, 4),
    ]  # fmt: skip
    assert multiple_choice(choices, {"C": ("CW", "CH"), "T": ("TN",)}) == {
        "accuracy": 80.0,
        "accuracy_by_type": {"CH": 100.0, "CW": 66.67, "C": 75.0},
        "n": 5,
    }
    assert mean_over_types(choices[:4]) == 83.33  # (2/3 + 1) / 2, not 3/4


def test_no_answer_known():
    for function in (accuracy, mean_over_types, multiple_choice):
        with pytest.raises(UserError, match="no question has a known answer"):
            function([Choice(None, 0, "A")])
    assert accuracy_by_type([Choice(None, 0, "A")]) == {}


def test_nextqa_as_its_own_script_prints(shared):
    predictions = json.loads((shared / "golden/metrics/nextqa/HGA_val_predictions.json").read_text())
    official = json.loads((shared / "golden/metrics/nextqa/golden_metrics.json").read_text())
    official = official["HGA-bert-ft-h256-val-example.json"]
    with (shared / "annotations/nextqa/val.csv").open(encoding="utf-8", newline="") as file:
        types = {f"{row['video']}_{row['qid']}": row["type"] for row in csv.DictReader(file)}
    choices = [Choice(p["answer"], p["prediction"], types[key]) for key, p in predictions.items()]
    result = multiple_choice(choices, {**NEXTQA_GROUPS, "TP+TN": ("TP", "TN")})
    by_type, expected = result["accuracy_by_type"], official["metrics"]
    assert result["accuracy"] == official["Acc"] == 49.74 and result["n"] == 4996
    names = {
        "CW": "Why",
        "CH": "How",
        "TP+TN": "Bef&Aft",
        "TC": "When",
        "DC": "Cnt",
        "DL": "Loc",
        "DO": "Other",
    }
    names |= {"C": "Acc_C", "T": "Acc_T", "D": "Acc_D"}
    assert {ours: by_type[ours] for ours in names} == {ours: expected[name] for ours, name in names.items()}


def test_star_as_the_official_code_prints(shared):
    folder = shared / "golden/metrics/star"
    rows = json.loads((folder / "official_results_val.json").read_text())
    official = json.loads((folder / "metrics.json").read_text())
    choices = [Choice(r["target"], r["prediction"], r["qid"].split("_")[0]) for r in rows]
    types = ("Interaction", "Sequence", "Prediction", "Feasibility")
    assert accuracy_by_type(choices) == {name: round(official[name], 2) for name in sorted(types)}
    assert mean_over_types(choices) == round(official["agg_metrics"], 2) == 44.46
    assert len(choices) == official["total"] == 7098


choice = st.builds(Choice, st.one_of(st.none(), st.integers(0, 2)), st.integers(0, 2), st.sampled_from("AB"))


@given(st.lists(choice, min_size=1).filter(lambda cs: any(c.answer is not None for c in cs)), st.randoms())
def test_bounds_and_order(choices, random):
    result = multiple_choice(choices)
    shuffled = random.sample(choices, len(choices))
    assert multiple_choice(shuffled) == result
    values = result["accuracy_by_type"].values()
    assert 0 <= min(values) <= result["accuracy"] + 0.01 and result["accuracy"] - 0.01 <= max(values) <= 100


@pytest.mark.parametrize(
    ("name", "split", "predictions", "annotations", "qid", "answer"),
    [
        ("how2qa", "val", "how2qa_val_predictions.json", "how2qa/how2qa_val_release.jsonl", "qid", "answer_idx"),
        ("vlep", "dev", "vlep_dev_predictions.json", "vlep/vlep_dev_release.jsonl", "example_id", "answer"),
    ],
)
def test_accuracy_as_values_scripts_print(shared, name, split, predictions, annotations, qid, answer):
    folder = shared / "golden/metrics" / name
    chosen = json.loads((folder / predictions).read_text())
    rows = [json.loads(line) for line in (shared / "annotations" / annotations).read_text().splitlines()]
    choices = [Choice(row[answer], chosen[str(row[qid])]) for row in rows]
    assert accuracy(choices) == json.loads((folder / "metrics.json").read_text())[split]


def test_tally_by_hand():
    choices = [Choice(1, 1, "B"), Choice(0, 1, "A"), Choice(2, 2, "B"), Choice(None, 0, "A"), Choice(0, 3, "B")]
    assert tally(choices) == {"B": (2, 3), "A": (0, 1)}
    assert accuracy(choices) == 50.0
