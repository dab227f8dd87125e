from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevila.data.benchmarks.qvhighlights import read_moments
from sevila.data.records import Moment
from sevila.errors import UserError
from sevila.metrics.moments import main_metrics, qvhighlights
from sevila.submissions.spans import JoinedSpans, clip_scores, keyframe_span, moment_prediction

TIMES = [2.0 * i + 1 for i in range(10)]  # ten frames of a video of 20 s: cells of two seconds


def scores(*relevant: int) -> list[float]:
    return [5.0 if i in relevant else -3.0 for i in range(10)]


def test_neighbours_become_one_window() -> None:
    rule = JoinedSpans(span_threshold=1)
    assert rule.windows(scores(2, 3, 4), TIMES, 20.0) == [(4.0, 10.0, 1.0)]
    assert rule.windows(scores(0, 9), TIMES, 20.0) == [(0.0, 2.0, 1.0), (18.0, 20.0, 1.0)]
    assert rule.windows(scores(2, 4), TIMES, 20.0) == [(4.0, 6.0, 1.0), (8.0, 10.0, 1.0)]


def test_gaps_up_to_the_span_threshold_are_closed() -> None:
    assert JoinedSpans(span_threshold=6).windows(scores(1, 7), TIMES, 20.0) == [(2.0, 16.0, 1.0)]
    assert JoinedSpans(span_threshold=5).windows(scores(1, 7), TIMES, 20.0) == [(2.0, 4.0, 1.0), (14.0, 16.0, 1.0)]


def test_threshold_and_score_within_the_video() -> None:
    logits = [0.0, 0.0, 6.0, 8.0, 0.0, 0.0, 0.0, 0.0, 10.0, 0.0]  # mapped: .6 .8 and 1
    rule = JoinedSpans(threshold=0.6, span_threshold=1, peak=0.5)
    assert rule.windows(logits, TIMES, 20.0) == [(16.0, 18.0, 1.0), (4.0, 8.0, 0.75)]  # .5 * .8 + .5 * .7
    shifted = [3 * x - 40 for x in logits]
    assert rule.windows(shifted, TIMES, 20.0) == rule.windows(logits, TIMES, 20.0)
    assert JoinedSpans(threshold=0.7, span_threshold=1).windows(logits, TIMES, 20.0)[1][:2] == (6.0, 8.0)
    assert JoinedSpans(0.6, 1, peak=0.0).windows(logits, TIMES, 20.0)[1][2] == 0.7
    assert JoinedSpans(0.6, 1, peak=1.0, max_windows=1).windows(logits, TIMES, 20.0) == [(16.0, 18.0, 1.0)]


def test_equal_scores_are_the_whole_video() -> None:
    assert JoinedSpans().windows([2.0] * 10, TIMES, 20.0) == [(0.0, 20.0, 1.0)]
    assert JoinedSpans().windows([2.0], [7.0], 20.0) == [(0.0, 20.0, 1.0)]


def test_ends_move_to_the_grid_and_stay_in_the_video() -> None:
    times = [0.85, 2.5, 4.2, 5.9]  # four frames of a video of 6.75 s: cells end at 1.675, 3.35, 5.05
    assert JoinedSpans(span_threshold=1).windows([0, 1, 0, 0], times, 6.75) == [(2.0, 4.0, 1.0)]
    assert JoinedSpans(span_threshold=1).windows([0, 0, 0, 1], times, 6.75) == [(6.0, 6.75, 1.0)]
    exact = JoinedSpans(span_threshold=1, grid=0.0).windows([0, 1, 0, 0], times, 6.75)
    assert exact == [(pytest.approx(1.675), pytest.approx(3.35), 1.0)]


def test_frames_past_the_annotated_duration_invent_no_window() -> None:
    times = [*TIMES, 21.0, 25.0]  # the video goes on behind its annotated 20 s
    rule = JoinedSpans(span_threshold=1)
    assert rule.windows([*scores(2, 3), 9.0, 9.0], times, 20.0) == [(4.0, 8.0, 1.0)]
    assert rule.windows([*scores(9), 9.0, -9.0], times, 20.0) == [(18.0, 20.0, 1.0)]
    assert rule.windows([1.0], [20.0], 20.0) == []


def test_saliency_of_clips() -> None:
    assert clip_scores(scores(2), TIMES, 20.0) == scores(2)
    assert clip_scores([1.0, 3.0, 8.0], [0.5, 1.5, 3.0], 5.0) == [2.0, 8.0]  # the last second is no whole clip
    assert clip_scores([1.0, 4.0], [1.0, 9.0], 10.0) == [1.0, 1.0, 1.0, 4.0, 4.0]  # the nearest, of equals the earlier


def test_a_prediction_of_a_query() -> None:
    moment = Moment("12", "vid", "a query", 20.0)
    prediction = moment_prediction(moment, scores(2, 3), TIMES, JoinedSpans())
    assert prediction.qid == "12" and prediction.windows == ((4.0, 8.0, 1.0),)
    assert prediction.saliency == tuple(scores(2, 3))
    for bad in ([], [1.0] * 9, [float("nan")] * 10):
        with pytest.raises(UserError, match="query 12: expected a finite score for each frame of video vid"):
            moment_prediction(moment, bad, TIMES, JoinedSpans())
    with pytest.raises(UserError, match="query 12: the frames of video vid are not in the order of time"):
        moment_prediction(moment, scores(2), TIMES[::-1], JoinedSpans())


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"threshold": 1.5}, "spans.threshold=1.5: must lie between 0 and 1"),
        ({"peak": -0.1}, "spans.peak=-0.1"),
        ({"span_threshold": 0}, "spans.span_threshold=0: must be at least 1"),
        ({"max_windows": 0}, "spans.max_windows=0"),
        ({"grid": -1.0}, "spans.grid=-1.0"),
    ],
)
def test_impossible_parameters_are_refused(keys, message: str) -> None:
    with pytest.raises(UserError, match=message):
        JoinedSpans(**keys)


def test_real_scores_find_moments(shared: Path) -> None:
    """Moment-DETR's saliency in place of a Localizer's frame scores: far better than chance."""
    folder = shared / "golden/metrics/qvhighlights"
    truth = read_moments(folder / "small_gt.jsonl")
    rows = {str(r["qid"]): r for r in map(json.loads, (folder / "small_preds.jsonl").read_text().splitlines())}
    predictions = []
    for moment in truth:
        values = rows[moment.qid]["pred_saliency_scores"]
        times = [(i + 0.5) * moment.duration / len(values) for i in range(len(values))]
        predictions.append(moment_prediction(moment, values, times, JoinedSpans()))
    metrics = main_metrics(qvhighlights(truth, predictions))
    assert metrics["R1@0.5"] == 45.0 and metrics["mAP"] == 24.91
    official = json.loads((folder / "small_metrics.json").read_text())["small_preds"]["brief"]
    assert metrics["HL-min-VeryGood-mAP"] == official["HL-min-VeryGood-mAP"]  # one frame a clip: scores pass through


def test_the_span_of_keyframes() -> None:
    assert keyframe_span([{"time": 3.0003}, {"time": 1.23456}, {"time": 9.999}]) == (1.23, 10.0)
    assert keyframe_span([{"time": 2.0}]) == (2.0, 2.0)


@given(
    st.lists(st.floats(-50, 50), min_size=1, max_size=75),
    st.floats(4, 150),
    st.builds(JoinedSpans, st.floats(0, 1), st.integers(1, 8), st.floats(0, 1), st.sampled_from([0.0, 2.0])),
)
def test_windows_are_ordered_apart_and_inside_the_video(values, duration, rule) -> None:
    times = [(i + 0.5) * duration / len(values) for i in range(len(values))]
    windows = rule.windows(values, times, duration)
    assert 1 <= len(windows) <= rule.max_windows
    assert all(0 <= start < end <= duration for start, end, _ in windows)
    assert [w[2] for w in windows] == sorted((w[2] for w in windows), reverse=True)
    assert all(0 <= score <= 1 for *_, score in windows)
    assert len(clip_scores(values, times, duration)) == int(duration / 2)
