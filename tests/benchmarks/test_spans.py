from __future__ import annotations

import json
import math
import re
import statistics
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevila.benchmarks.qvhighlights import QVHighlights
from sevila.benchmarks.spans import BinarySpans, MinMaxSpans, SpanRule, clip_scores, moment_prediction
from sevila.data.records import Moment
from sevila.errors import UserError
from sevila.metrics.moments import main_metrics, qvhighlights

TIMES = [2.0 * i + 1 for i in range(10)]  # ten frames of a video of 20 s: cells of two seconds
NO = [0.0] * 10
Scored = tuple[float, float, float]


def scores(*relevant: int) -> list[float]:
    return [5.0 if i in relevant else -3.0 for i in range(10)]


def windows(rule: SpanRule, yes: Sequence[float], no: Sequence[float] | None = None) -> list[Scored]:
    return rule.windows(yes, no, TIMES, 20.0)


def joined(rule: SpanRule, said: str) -> list[tuple[int, int]]:
    """First and last frame of each span, in time order, of a word of y and n, a frame of two seconds each."""
    times, duration = [2.0 * i + 1 for i in range(len(said))], 2.0 * len(said)
    yes, no = [float(word == "y") for word in said], [0.5] * len(said)
    spans = rule.windows(yes, no, times, duration)
    return sorted((round(start / 2), round(end / 2) - 1) for start, end, _ in spans)


# -- how frames are joined: the paper's span threshold ---


@pytest.mark.parametrize("rule", [BinarySpans(), MinMaxSpans()])
def test_six_frames_of_no_stay_inside_a_span_and_seven_split_it(rule: SpanRule) -> None:
    assert joined(rule, "yy" + "n" * 6 + "y") == [(0, 8)]
    assert joined(rule, "yy" + "n" * 7 + "y") == [(0, 1), (9, 9)]
    # counted anew behind every "yes"
    assert joined(rule, "nny" + "n" * 6 + "y" + "n" * 6 + "yn" + "y" + "n" * 7 + "ynn") == [(2, 18), (26, 26)]


def test_other_thresholds() -> None:
    assert joined(BinarySpans(span_threshold=0), "yynynny") == [(0, 1), (3, 3), (6, 6)]
    assert joined(BinarySpans(span_threshold=1), "yynynny") == [(0, 3), (6, 6)]
    assert joined(BinarySpans(span_threshold=2), "yynynny") == [(0, 6)]


def test_six_is_the_average_interval_of_the_training_data(shared: Path) -> None:
    """Of QVHighlights' training spans: 11.1 seconds, in frames of 150 s / 75."""
    gaps = []
    for moment in QVHighlights.read_moments(shared / "annotations/qvhighlights/highlight_train_release.jsonl"):
        spans = sorted(moment.windows)
        gaps += [later[0] - earlier[1] for earlier, later in pairwise(spans)]
    assert len(gaps) == 5585 and statistics.fmean(gaps) == pytest.approx(11.114, abs=1e-3)
    assert round(statistics.fmean(gaps) / (150 / 75)) == BinarySpans().span_threshold


@given(st.text("yn", min_size=1, max_size=75).filter(lambda said: "y" in said), st.integers(0, 8))
def test_spans_by_a_plain_walk(said: str, threshold: int) -> None:
    """Cut out the runs of "n" that are too long, and the outer ones: what is left are the spans."""
    runs = re.finditer(rf"y(?:n{{0,{threshold}}}y)*", said)
    expected = [(run.start(), run.end() - 1) for run in runs]
    assert joined(BinarySpans(span_threshold=threshold, max_windows=75), said) == expected


# -- which frames are relevant, and what a span scores ---


def test_a_frame_is_a_yes_where_yes_is_likelier_than_no() -> None:
    """Whatever the logits' level: frames 0 and 1 have the highest logits of "yes", and say "no"."""
    yes = [9.0, 8.0, 1.0, -5.0, -6.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    no = [10.0, 8.0, 0.0, -7.0, -7.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    rule = BinarySpans(span_threshold=0)
    likely = [1 / (1 + math.exp(-margin)) for margin in (1.0, 2.0, 1.0)]
    score = round(0.5 * max(likely) + 0.5 * statistics.fmean(likely), 4)
    assert windows(rule, yes, no) == [(4.0, 10.0, score)]
    assert windows(BinarySpans(span_threshold=0, peak=1.0), yes, no) == [(4.0, 10.0, round(likely[1], 4))]
    with pytest.raises(ValueError, match="both words"):
        windows(rule, yes)


def test_without_any_yes_the_likeliest_frame_is_a_window() -> None:
    no = [5.0] * 10
    assert windows(BinarySpans(), scores(), [9.0] * 4 + [-2.5] + [9.0] * 5) == [(8.0, 10.0, 0.3775)]
    assert windows(BinarySpans(), [0.0] * 10, no)[0][:2] == (0.0, 2.0)  # of equals the earliest


def test_spans_are_listed_by_score() -> None:
    yes = [1.0, -9.0, -9.0, 3.0, -9.0, -9.0, -9.0, 2.0, -9.0, -9.0]
    found = windows(BinarySpans(span_threshold=0), yes, NO)
    assert [window[:2] for window in found] == [(6.0, 8.0), (14.0, 16.0), (0.0, 2.0)]
    assert windows(BinarySpans(span_threshold=0, max_windows=2), yes, NO) == found[:2]


def test_neighbours_become_one_window() -> None:
    rule = MinMaxSpans(span_threshold=0)
    assert windows(rule, scores(2, 3, 4)) == [(4.0, 10.0, 1.0)]
    assert windows(rule, scores(0, 9)) == [(0.0, 2.0, 1.0), (18.0, 20.0, 1.0)]
    assert windows(rule, scores(2, 4)) == [(4.0, 6.0, 1.0), (8.0, 10.0, 1.0)]


def test_threshold_and_score_within_the_video() -> None:
    logits = [0.0, 0.0, 6.0, 8.0, 0.0, 0.0, 0.0, 0.0, 10.0, 0.0]  # mapped: .6 .8 and 1
    rule = MinMaxSpans(threshold=0.6, span_threshold=0, peak=0.5)
    assert windows(rule, logits) == [(16.0, 18.0, 1.0), (4.0, 8.0, 0.75)]  # .5 * .8 + .5 * .7
    shifted = [3 * x - 40 for x in logits]
    assert windows(rule, shifted) == windows(rule, logits)
    assert windows(MinMaxSpans(threshold=0.7, span_threshold=0), logits)[1][:2] == (6.0, 8.0)
    assert windows(replace(rule, peak=0.0), logits)[1][2] == 0.7
    assert windows(replace(rule, peak=1.0, max_windows=1), logits) == [(16.0, 18.0, 1.0)]


def test_equal_scores_are_the_whole_video() -> None:
    assert windows(MinMaxSpans(), [2.0] * 10) == [(0.0, 20.0, 1.0)]
    assert MinMaxSpans().windows([2.0], None, [7.0], 20.0) == [(0.0, 20.0, 1.0)]


def test_ends_move_to_the_grid_and_stay_in_the_video() -> None:
    times = [0.85, 2.5, 4.2, 5.9]  # four frames of a video of 6.75 s: cells end at 1.675, 3.35, 5.05
    rule = MinMaxSpans(span_threshold=0)
    assert rule.windows([0, 1, 0, 0], None, times, 6.75) == [(2.0, 4.0, 1.0)]
    assert rule.windows([0, 0, 0, 1], None, times, 6.75) == [(6.0, 6.75, 1.0)]
    exact = replace(rule, grid=0.0).windows([0, 1, 0, 0], None, times, 6.75)
    assert exact == [(pytest.approx(1.675), pytest.approx(3.35), 1.0)]


def test_frames_past_the_annotated_duration_invent_no_window() -> None:
    times = [*TIMES, 21.0, 25.0]  # the video goes on behind its annotated 20 s
    rule = MinMaxSpans(span_threshold=0)
    assert rule.windows([*scores(2, 3), 9.0, 9.0], None, times, 20.0) == [(4.0, 8.0, 1.0)]
    assert rule.windows([*scores(9), 9.0, -9.0], None, times, 20.0) == [(18.0, 20.0, 1.0)]
    assert rule.windows([1.0], None, [20.0], 20.0) == []
    ((start, end, _),) = BinarySpans().windows([*scores(2, 3), 9.0, 9.0], [0.0] * 12, times, 20.0)
    assert (start, end) == (4.0, 8.0)


def test_saliency_of_clips() -> None:
    assert clip_scores(scores(2), TIMES, 20.0) == scores(2)
    assert clip_scores([1.0, 3.0, 8.0], [0.5, 1.5, 3.0], 5.0) == [2.0, 8.0]  # the last second is no whole clip
    assert clip_scores([1.0, 4.0], [1.0, 9.0], 10.0) == [1.0, 1.0, 1.0, 4.0, 4.0]  # the nearest, of equals the earlier


def test_a_prediction_of_a_query() -> None:
    moment, yes = Moment("12", "vid", "a query", 20.0), scores(2, 3)
    for rule in (BinarySpans(), MinMaxSpans()):
        prediction = moment_prediction(moment, yes, NO, TIMES, rule)
        assert prediction.qid == "12" and [window[:2] for window in prediction.windows] == [(4.0, 8.0)]
        assert prediction.saliency == tuple(yes)
    bad = [([], NO), ([1.0] * 9, NO), ([float("nan")] * 10, NO), (yes, [0.0] * 9), (yes, [float("inf")] * 10)]
    for said, no in bad:
        with pytest.raises(UserError, match="query 12: expected a finite score and time for each frame of video vid"):
            moment_prediction(moment, said, no, TIMES, BinarySpans())
    with pytest.raises(UserError, match="query 12: expected a finite score and time"):
        moment_prediction(moment, yes, NO, [*TIMES[:-1], float("nan")], BinarySpans())
    with pytest.raises(UserError, match="query 12: the frames of video vid are not in the order of time"):
        moment_prediction(moment, yes, NO, TIMES[::-1], BinarySpans())


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"threshold": 1.5}, "spans.threshold=1.5: must lie between 0 and 1"),
        ({"peak": -0.1}, "spans.peak=-0.1"),
        ({"span_threshold": -1}, "spans.span_threshold=-1: must be at least 0"),
        ({"max_windows": 0}, "spans.max_windows=0"),
        ({"grid": -1.0}, "spans.grid=-1.0"),
    ],
)
def test_impossible_parameters_are_refused(keys, message: str) -> None:
    with pytest.raises(UserError, match=message):
        MinMaxSpans(**keys)


def test_real_scores_find_moments(shared: Path) -> None:
    """Moment-DETR's saliency in place of a Localizer's frame scores: far better than chance."""
    folder = shared / "golden/metrics/qvhighlights"
    truth = QVHighlights.read_moments(folder / "small_gt.jsonl")
    rows = {str(r["qid"]): r for r in map(json.loads, (folder / "small_preds.jsonl").read_text().splitlines())}
    predictions = []
    for moment in truth:
        values = rows[moment.qid]["pred_saliency_scores"]
        times = [(i + 0.5) * moment.duration / len(values) for i in range(len(values))]
        predictions.append(moment_prediction(moment, values, None, times, MinMaxSpans()))
    metrics = main_metrics(qvhighlights(truth, predictions))
    assert metrics["R1@0.5"] == 42.5 and metrics["mAP"] == 27.41
    official = json.loads((folder / "small_metrics.json").read_text())["small_preds"]["brief"]
    assert metrics["HL-min-VeryGood-mAP"] == official["HL-min-VeryGood-mAP"]  # one frame a clip: scores pass through


@st.composite
def rules(draw: st.DrawFn) -> SpanRule:
    kind, more = draw(st.sampled_from([(BinarySpans, {}), (MinMaxSpans, {"threshold": st.floats(0, 1)})]))
    common = {"span_threshold": st.integers(0, 8), "peak": st.floats(0, 1), "grid": st.sampled_from([0.0, 2.0])}
    return kind(**draw(st.fixed_dictionaries({**common, **more})))


@given(st.lists(st.tuples(st.floats(-50, 50), st.floats(-50, 50)), min_size=1, max_size=75), st.floats(4, 150), rules())
def test_windows_are_ordered_apart_and_inside_the_video(
    logits: list[tuple[float, float]], duration: float, rule: SpanRule
) -> None:
    yes, no = zip(*logits, strict=True)
    times = [(i + 0.5) * duration / len(yes) for i in range(len(yes))]
    found = rule.windows(yes, no, times, duration)
    assert 1 <= len(found) <= rule.max_windows
    assert all(0 <= start < end <= duration for start, end, _ in found)
    assert [w[2] for w in found] == sorted((w[2] for w in found), reverse=True)
    assert all(0 <= score <= 1 for *_, score in found)
    assert len(clip_scores(yes, times, duration)) == int(duration / 2)
