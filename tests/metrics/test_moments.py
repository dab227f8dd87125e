from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevila.benchmarks.qvhighlights import QVHighlights
from sevila.data.records import Moment
from sevila.errors import UserError
from sevila.metrics.moments import MomentPrediction, main_metrics, qvhighlights

WINDOWS = ((0.0, 8.0), (20.0, 40.0))  # a short one of 4 clips, a middle one of 10


def moment(qid: str = "1", windows=WINDOWS, duration: float = 50.0, level: int = 4) -> Moment:
    clips = sum(int(end - start) // 2 for start, end in windows)
    return Moment(qid, "v", "a query", duration, windows, ((level, 0, 0),) * clips)


def predictions(path: Path, first: int | None = None) -> list[MomentPrediction]:
    rows = [json.loads(line) for line in path.read_text().splitlines()[:first]]
    return [
        MomentPrediction(
            str(row["qid"]),
            tuple(map(tuple, row["pred_relevant_windows"])) if "pred_relevant_windows" in row else None,
            tuple(row["pred_saliency_scores"]) if "pred_saliency_scores" in row else None,
        )
        for row in rows
    ]


@pytest.mark.parametrize(
    ("case", "file", "first"),
    [
        ("small_preds", "small_preds", None),
        ("small_preds_from_frame_scores", "small_preds_from_frame_scores", None),
        ("small_preds_reversed_no_saliency", "small_preds_reversed_no_saliency", None),
        ("small_preds_saliency_lengths", "small_preds_saliency_lengths", None),
        ("small_preds_first_25_match_number_False", "small_preds", 25),
    ],
)
def test_as_the_official_script_prints(shared: Path, case: str, file: str, first: int | None) -> None:
    folder = shared / "golden/metrics/qvhighlights"
    official = json.loads((folder / "small_metrics.json").read_text())[case]
    result = qvhighlights(
        QVHighlights.read_moments(folder / "small_gt.jsonl"), predictions(folder / f"{file}.jsonl", first)
    )
    assert result == official
    assert list(result["brief"]) == list(official["brief"])


def test_all_of_val_takes_seconds(shared: Path) -> None:
    truth = QVHighlights.read_moments(shared / "annotations/qvhighlights/highlight_val_release.jsonl")
    perfect = [
        MomentPrediction(m.qid, tuple((s, e, 1.0) for s, e in m.windows), (0.0,) * int(m.duration // 2)) for m in truth
    ]
    rng = random.Random(0)
    noise = [
        MomentPrediction(m.qid, tuple((s := rng.uniform(0, 140), s + 9, rng.random()) for _ in range(10)))
        for m in truth
    ]
    start = time.perf_counter()
    best, worst = qvhighlights(truth, perfect), qvhighlights(truth, noise)
    assert time.perf_counter() - start < 10
    assert len(truth) == 1550
    assert best["brief"]["MR-full-R1@0.7"] == 100
    reachable = [min(1, 10 / len(m.windows)) for m in truth]  # ten windows count, some queries have more
    assert best["full"]["MR-mAP"]["0.95"] == round(100 * sum(reachable) / len(truth), 2) == 99.76
    assert worst["brief"]["MR-full-R1@0.7"] < 10


def test_moment_retrieval_by_hand() -> None:
    # First-listed: 20..30 of 20..40, IoU .5. By score: 0..8 (exact), then 20..30.
    result = qvhighlights([moment()], [MomentPrediction("1", ((20.0, 30.0, 0.1), (0.0, 8.0, 0.9)))])
    assert result["full"]["MR-R1"]["0.5"] == 100 and result["full"]["MR-R1"]["0.55"] == 0
    assert result["full"]["MR-mAP"]["0.5"] == 100  # both found
    assert result["full"]["MR-mAP"]["0.55"] == 50  # one of two found, at rank one
    assert result["full"]["MR-mAP"]["average"] == 55
    assert result["short"]["MR-mAP"]["average"] == 100  # 0..8 alone counts, and it comes first
    assert result["middle"]["MR-mAP"]["0.5"] == 50  # 20..30 is second there
    assert "long" not in result and "HL-min-Fair" not in result
    assert main_metrics(result)["R1@0.5"] == 100 and main_metrics(result)["mAP@0.75"] == 50


def test_a_true_window_is_found_once_and_ten_windows_count() -> None:
    twice = ((0.0, 8.0, 0.9), (0.0, 8.0, 0.8), (20.0, 40.0, 0.7))
    full = qvhighlights([moment()], [MomentPrediction("1", twice)])["full"]
    assert full["MR-mAP"]["0.95"] == 83.33  # precision 1 at recall 1/2, 2/3 at recall 1
    late = (*((10.0, 12.0, 1.0),) * 10, (0.0, 8.0, 2.0))
    assert qvhighlights([moment()], [MomentPrediction("1", late)])["full"]["MR-mAP"]["0.5"] == 0


def test_no_window_counts_as_not_found() -> None:
    result = qvhighlights([moment("1"), moment("2")], [
        MomentPrediction("1", ()), MomentPrediction("2", ((0.0, 8.0, 1.0),)),
    ])  # fmt: skip
    assert result["full"]["MR-R1"]["0.5"] == 50
    assert result["full"]["MR-mAP"]["0.5"] == 25  # the other query finds one of its two


def test_highlights_by_hand() -> None:
    truth = Moment("1", "v", "q", 8.0, ((2.0, 6.0),), ((4, 2, 0), (3, 2, 0)))  # clips 1 and 2 of four
    result = qvhighlights([truth], [MomentPrediction("1", None, (0.9, 0.8, 0.1, 0.5))])
    # Fair: two annotators, highlights at ranks 2 and 4: (1/2 + 2/4) / 2; the third has none: 0
    assert result["HL-min-Fair"] == {"HL-mAP": 33.33, "HL-Hit1": 0.0}
    # VeryGood: clip 1 for the first annotator, at rank 2
    assert result["HL-min-VeryGood"] == {"HL-mAP": 16.67, "HL-Hit1": 0.0}
    assert "full" not in result
    hit = qvhighlights([truth], [MomentPrediction("1", None, (0.1, 0.8, 0.1, 0.5))])
    assert hit["HL-min-VeryGood"]["HL-Hit1"] == 100


def test_equal_scores_enter_together_and_lengths_are_mended() -> None:
    truth = Moment("1", "v", "q", 8.0, ((0.0, 4.0),), ((4,), (4,)))
    flat = qvhighlights([truth], [MomentPrediction("1", None, (1.0, 1.0, 1.0, 1.0))])
    assert flat["HL-min-Fair"] == {"HL-mAP": 50.0, "HL-Hit1": 100.0}  # 2 of 4, whatever their order
    short = qvhighlights([truth], [MomentPrediction("1", None, (1.0,))])
    assert short["HL-min-Fair"]["HL-mAP"] == 75.0  # then three zeros: (1 + 2/4) / 2
    long = qvhighlights([truth], [MomentPrediction("1", None, (1.0, 1.0, 0.0, 0.0, 9.0))])
    assert long["HL-min-Fair"] == {"HL-mAP": 100.0, "HL-Hit1": 0.0}  # cut for mAP, a miss for Hit1


def test_without_annotated_saliency_there_are_no_highlights() -> None:
    bare = Moment("1", "v", "q", 50.0, WINDOWS)
    result = qvhighlights([bare], [MomentPrediction("1", ((0.0, 8.0, 1.0),), (1.0,) * 25)])
    assert result["brief"]["MR-full-R1@0.7"] == 100 and not any(name.startswith("HL") for name in result)
    with pytest.raises(UserError, match="saliency is known for some of the queries only"):
        qvhighlights([bare, moment("2")], [MomentPrediction(qid, ()) for qid in "12"])


@pytest.mark.parametrize(
    ("truth", "predicted", "message"),
    [
        ([moment()], [], "no predictions"),
        ([moment()], [MomentPrediction("2", ())], "query 2: not among the annotations"),
        ([moment(), moment()], [MomentPrediction("1", ())], "1 queries have the id of another one"),
        ([moment()], [MomentPrediction("1", ())] * 2, "query 1: predicted twice"),
        ([moment()], [MomentPrediction("1")], "every prediction needs windows"),
        (
            [moment("1"), moment("2")],
            [MomentPrediction("1", ()), MomentPrediction("2", (), ())],
            "queries 1, 2: every prediction needs windows",
        ),
        ([Moment("1", "v", "q", 9.0)], [MomentPrediction("1", ())], "query 1: its windows are not known"),
        (
            [Moment("1", "v", "q", 9.0, ((0.0, 4.0),), ((1, 1),))],
            [MomentPrediction("1", None, (1.0,))],
            "query 1: 1 saliency scores for 2 clips",
        ),
        (
            [Moment("1", "v", "q", 3.0, ((0.0, 4.0),), ((1, 1), (1, 1)))],
            [MomentPrediction("1", None, (1.0,))],
            "query 1: a window lies outside of the video, 0 to 3.0 s",
        ),
        (
            [Moment("1", "v", "q", 8.0, ((0.0, float("inf")),), ((1, 1),))],
            [MomentPrediction("1", None, (1.0,))],
            "query 1: a window lies outside of the video",
        ),
    ],
)
def test_what_cannot_be_scored_is_refused(truth, predicted, message: str) -> None:
    with pytest.raises(UserError, match=message):
        qvhighlights(truth, predicted)


def test_a_window_that_runs_backwards_is_a_miss() -> None:
    """As in the script: it overlaps nothing, and takes its place in the ranking."""
    truth = [Moment("7", "v", "q", 20.0, ((2.0, 8.0),))]
    alone = qvhighlights(truth, [MomentPrediction("7", ((9.0, 2.0, 1.0),))])["brief"]
    assert (alone["MR-full-R1@0.5"], alone["MR-full-mAP"]) == (0.0, 0.0)
    before = MomentPrediction("7", ((9.0, 2.0, 1.0), (2.0, 8.0, 0.5)))
    brief = qvhighlights(truth, [before])["brief"]
    assert (brief["MR-full-R1@0.5"], brief["MR-full-mAP"], before.backwards) == (0.0, 50.0, 1)


def test_impossible_predictions_are_refused() -> None:
    with pytest.raises(UserError, match="query 7: a predicted number is not finite"):
        MomentPrediction("7", None, (float("nan"),))


scored = st.tuples(st.integers(0, 20), st.integers(1, 15), st.integers(0, 5)).map(
    lambda t: (2.0 * t[0], 2.0 * (t[0] + t[1]), t[2] / 5)
)


@given(st.lists(scored, min_size=1, max_size=12))
def test_bounds_and_falling_thresholds(windows) -> None:
    result = qvhighlights([moment()], [MomentPrediction("1", tuple(windows))])
    for name in ("full", "short", "middle"):
        for metric in ("MR-mAP", "MR-R1"):
            values = [v for key, v in result[name][metric].items() if key != "average"]
            assert all(0 <= v <= 100 for v in values)
            assert values == sorted(values, reverse=True)  # a stricter threshold never finds more


@given(st.lists(st.integers(-5, 5).map(float), min_size=25, max_size=25))
def test_the_order_of_clips_is_all_that_counts(saliency) -> None:
    once = qvhighlights([moment()], [MomentPrediction("1", None, tuple(saliency))])
    again = qvhighlights([moment()], [MomentPrediction("1", None, tuple(3 * s + 1 for s in saliency))])
    assert once == again
