from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sevila.benchmarks import BENCHMARKS
from sevila.benchmarks.predictions import OFFICIAL, OWN, Matched, chosen_option, match, read_entries
from sevila.benchmarks.qvhighlights import QVHighlights, moment_row
from sevila.data.records import Moment, Question
from sevila.errors import UserError
from sevila.metrics.moments import MomentPrediction

QIDS = {
    "nextqa": ("CW_111_0", "TN_111_1", "DL_22_0"),
    "nextgqa": ("CW_111_0", "TN_111_1", "CH_22_0"),
    "star": ("Interaction_T1_0", "Sequence_T2_1", "Interaction_T3_2"),
    "how2qa": ("12", "7", "30000"),
    "tvqa": ("12", "7", "30000"),
    "vlep": ("24534", "24535", "3"),
}


def questions(benchmark: str) -> list[Question]:
    return [Question(qid, "v", "q?", ("a", "b", "c")) for qid in QIDS[benchmark]]


def rows(benchmark: str) -> list[dict[str, Any]]:
    """Lines of predictions.jsonl, in another order than the questions."""
    keyframes = [{"index": 3, "time": 0.104, "score": 1.0}, {"index": 90, "time": 3.016, "score": 2.0}]
    made = [
        {"qid": qid, "video": "v", "answer": None, "prediction": i, "keyframes": keyframes}
        for i, qid in enumerate(QIDS[benchmark])
    ]
    return made[::-1]


EXPECTED = {
    "nextqa": {
        "111_0": {"prediction": 0, "answer": None},
        "111_1": {"prediction": 1, "answer": None},
        "22_0": {"prediction": 2, "answer": None},
    },
    "star": {
        "Interaction": [
            {"question_id": "Interaction_T1_0", "answer": 0},
            {"question_id": "Interaction_T3_2", "answer": 2},
        ],
        "Sequence": [{"question_id": "Sequence_T2_1", "answer": 1}],
    },
    "how2qa": {"12": 0, "7": 1, "30000": 2},
    "tvqa": {"12": 0, "7": 1, "30000": 2},
    "vlep": {"24534": 0, "24535": 1, "3": 2},
}


@pytest.mark.parametrize("benchmark", EXPECTED)
def test_each_format(benchmark: str, tmp_path: Path) -> None:
    path = tmp_path / "out" / "submission.json"
    assert BENCHMARKS[benchmark].write_submission(path, questions(benchmark), rows(benchmark)) == [path]
    assert json.loads(path.read_text()) == EXPECTED[benchmark]
    assert [file.name for file in path.parent.iterdir()] == ["submission.json"]


def test_nextgqa_has_answers_and_spans(tmp_path: Path) -> None:
    files = BENCHMARKS["nextgqa"].write_submission(tmp_path / "s.json", questions("nextgqa"), rows("nextgqa"))
    assert [file.name for file in files] == ["s_answers.json", "s_spans.json"]
    assert json.loads(files[0].read_text()) == EXPECTED["nextqa"]
    assert json.loads(files[1].read_text()) == {key: [0.1, 3.02] for key in ("111_0", "111_1", "22_0")}
    bare = [{**row, "keyframes": []} for row in rows("nextgqa")]
    with pytest.raises(UserError, match="question 'CW_111_0': its prediction has no keyframes"):
        BENCHMARKS["nextgqa"].write_submission(tmp_path / "t.json", questions("nextgqa"), bare)
    assert not (tmp_path / "t_answers.json").exists()


def test_vleps_own_jsonl(tmp_path: Path) -> None:
    path = tmp_path / "vlep_test_submission.jsonl"
    BENCHMARKS["vlep"].write_submission(path, questions("vlep"), rows("vlep"))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines == [{"example_id": int(qid), "pred_ans": i} for i, qid in enumerate(QIDS["vlep"])]


def read_again(benchmark: str, asked: list[Question], path: Path) -> Matched:
    known = BENCHMARKS[benchmark]
    return match(asked, read_entries(path, (OFFICIAL, OWN, *known.forms)), known.ids, "annotations")


@pytest.mark.parametrize("benchmark", QIDS)
def test_what_is_written_is_read_again(benchmark: str, tmp_path: Path) -> None:
    asked = questions(benchmark)
    for suffix in BENCHMARKS[benchmark].suffixes:
        path = BENCHMARKS[benchmark].write_submission(tmp_path / f"s{suffix}", asked, rows(benchmark))[0]
        matched = read_again(benchmark, asked, path)
        assert not matched.missing
        assert [chosen_option(matched.entries[q.qid], q) for q in asked] == [0, 1, 2]


@pytest.mark.parametrize(
    ("benchmark", "annotations", "sample"),
    [
        ("vlep", "vlep/vlep_dev_sample.jsonl", "vlep/vlep_dev_predictions_sample.json"),
        ("how2qa", "how2qa/how2qa_val_sample.jsonl", "how2qa/how2qa_val_predictions_sample.json"),
        ("nextqa", "nextqa/val_sample.csv", "nextqa/HGA_val_predictions_sample.json"),
    ],
)
def test_real_submissions_come_out_again(
    benchmark: str, annotations: str, sample: str, shared: Path, tmp_path: Path
) -> None:
    asked = BENCHMARKS[benchmark].read_questions(shared / "samples" / annotations)
    matched = read_again(benchmark, asked, shared / "samples" / sample)
    assert not matched.missing
    made = [{"qid": q.qid, "prediction": chosen_option(matched.entries[q.qid], q)} for q in asked]
    BENCHMARKS[benchmark].write_submission(tmp_path / "s.json", asked, made)
    assert json.loads((tmp_path / "s.json").read_text()) == json.loads((shared / "samples" / sample).read_text())


def test_moments_as_the_sample_has_them(shared: Path, tmp_path: Path) -> None:
    source = shared / "golden/metrics/qvhighlights/small_preds_from_frame_scores.jsonl"
    sample = [json.loads(line) for line in source.read_text().splitlines()]
    predictions = [{**row, "frames": []} for row in sample]  # as in a run's predictions.jsonl
    path = tmp_path / "hl_val_submission.jsonl"
    truth = QVHighlights.read_moments(shared / "golden/metrics/qvhighlights/small_gt.jsonl")
    assert QVHighlights.write_submission(path, truth, predictions[::-1]) == [path]
    assert [json.loads(line) for line in path.read_text().splitlines()] == sample
    assert path.read_text() == source.read_text().rstrip("\n") + "\n"


def test_moments_need_every_query_once(tmp_path: Path) -> None:
    moments = [Moment("1", "v", "q", 10.0), Moment("x", "v", "q", 10.0)]
    both = [
        moment_row(moments[1], MomentPrediction("x", None, (1.0,))),
        moment_row(moments[0], MomentPrediction("1", ((0.0, 2.0, 1.0),))),
    ]
    QVHighlights.write_submission(tmp_path / "s.jsonl", moments, both)
    assert [json.loads(line) for line in (tmp_path / "s.jsonl").read_text().splitlines()] == [
        {"qid": 1, "query": "q", "vid": "v", "pred_relevant_windows": [[0.0, 2.0, 1.0]]},
        {"qid": "x", "query": "q", "vid": "v", "pred_saliency_scores": [1.0]},
    ]
    for wrong in (both[:1], both + both[:1], [*both, {"qid": 2}]):
        with pytest.raises(UserError, match=f"{len(wrong)} predictions for 2 queries: one for each is needed"):
            QVHighlights.write_submission(tmp_path / "t.jsonl", moments, wrong)
    with pytest.raises(UserError, match=r"t.json: a submission to qvhighlights must end in .jsonl"):
        QVHighlights.write_submission(tmp_path / "t.json", moments, both)


@pytest.mark.parametrize(
    ("benchmark", "name", "change", "message"),
    [
        ("synthetic", "s.json", lambda r: r, "synthetic: has no form of submission; leave submission= out"),
        ("star", "s.csv", lambda r: r, r"s.csv: a submission to star must end in .json"),
        ("star", "s.json", lambda r: r[1:], "no prediction for 1 of 3 questions, first 'Interaction_T3_2'"),
        (
            "star",
            "s.json",
            lambda r: [*r, r[0]],
            "row 4, field qid: question 'Interaction_T3_2' has a prediction already",
        ),
        (
            "star",
            "s.json",
            lambda r: [*r, {**r[0], "qid": "X"}],
            "row 4, field qid: no question 'X' in the split of star",
        ),
        ("star", "s.json", lambda r: [{**r[0], "prediction": 3}, *r[1:]], "prediction: expected an option from 0 to 2"),
    ],
)
def test_incomplete_or_wrong_predictions_are_refused(benchmark, name, change, message, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        BENCHMARKS[benchmark].write_submission(tmp_path / name, questions("star"), change(rows("star")))
    assert not list(tmp_path.iterdir())


def test_ids_that_the_benchmark_does_not_know_are_refused(tmp_path: Path) -> None:
    asked = [Question("HOW2QA_0", "v", "q", ("a", "b"))]
    with pytest.raises(UserError, match="question 'HOW2QA_0': how2qa's ids are numbers; read the benchmark's own"):
        BENCHMARKS["how2qa"].write_submission(tmp_path / "s.json", asked, [{"qid": "HOW2QA_0", "prediction": 0}])
