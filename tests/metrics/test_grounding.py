from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevila.errors import UserError
from sevila.metrics.keyframes import Grounding, grounding, keyframe_span, overlap, to_seconds

CASES = ("gt_first", "full_video", "middle_half", "random_top4_frames", "single_frame", "random_pairs_sparse")


@pytest.mark.parametrize("case", [*CASES, "gauss_norm"])
def test_as_the_official_script_prints(shared: Path, case: str) -> None:
    folder = shared / "golden/metrics/nextgqa"
    official = json.loads((folder / "golden_metrics.json").read_text())[f"val/{case}"]
    spans = json.loads((folder / f"preds/val_{case}.json").read_text())
    answers = json.loads((folder / official["qa_file"]).read_text())
    table = json.loads((shared / "annotations/nextgqa/gsub_val.json").read_text())
    items = []
    for video, values in table.items():
        for number, segments in values["location"].items():
            key = f"{video}_{number}"
            if key in spans:
                span = to_seconds(spans[key], values["duration"]) if official["gs"] else spans[key]
                items.append(Grounding(span, segments, answers[key]["prediction"] == answers[key]["answer"]))
    result = grounding(items)
    assert len(items) == official["n_pred"]
    assert {name: round(value, 10) for name, value in result.items()} == official["precise"]
    assert {name: round(value, 1) for name, value in result.items()} == official["printed"]


def test_one_span_by_hand() -> None:
    assert overlap((2.0, 6.0), (4.0, 12.0)) == (0.5, 0.2)  # 2 of 4, 2 of the hull 2..12
    assert overlap((2.0, 3.0), (5.0, 6.0)) == (0.0, 0.0)
    assert overlap((5.0, 5.0), (5.0, 6.0)) == (1.0, 0.0)  # a point at the segment's start
    assert overlap((6.1, 6.1), (5.0, 6.0)) == (0.0, 0.0)
    assert overlap((-2.0, 2.0), (-1.0, 1.0)) == (0.5, 0.5)  # a segment may begin below 0
    assert overlap((0.0, 4.0), (1.0, 1.0)) == (0.0, 0.0)  # the segment is a point


def test_the_best_segment_counts_for_each_measure_by_itself() -> None:
    # IoP is best with the second segment (1), IoU with the first (4 / 12)
    result = grounding([Grounding((8.0, 12.0), [(0.0, 10.0), (7.0, 20.0)], True), Grounding((0.0, 9.0), [], True)])
    assert result["mIoP"] == 50 and result["mIoU"] == pytest.approx(100 * (4 / 13) / 2)
    assert result["TIoP@0.5"] == result["TIoP@0.3"] == result["TIoU@0.3"] == 50 and result["TIoU@0.5"] == 0
    assert result["Acc@GQA"] == 50


def test_an_answer_counts_when_it_is_right_and_grounded() -> None:
    truth = [(0.0, 5.0)]
    items = [
        Grounding((0.0, 10.0), truth, True),  # IoP .5, right
        Grounding((0.0, 10.5), truth, True),  # IoP below .5
        Grounding((0.0, 5.0), truth, False),
        Grounding((1.0, 1.0), truth, True),  # a point
    ]
    assert grounding(items)["Acc@GQA"] == 50


def test_parts_of_the_duration_become_tenths_of_a_second() -> None:
    assert to_seconds((0.25, 0.5), 33.0) == (8.2, 16.5)  # 8.25 goes to the even tenth, as numpy rounds
    assert to_seconds((0.0, 1.0), 34) == (0.0, 34.0)


def test_the_span_of_keyframes() -> None:
    assert keyframe_span([3.0003, 1.23456, 9.999]) == (1.23, 10.0)
    assert keyframe_span([2.0]) == (2.0, 2.0)


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(UserError, match="no question has a span"):
        grounding([])
    with pytest.raises(UserError, match=r"the span from 3.0 to 2.0 ends before it starts"):
        grounding([Grounding((3.0, 2.0), [(0.0, 1.0)], True)])


ends = st.tuples(st.integers(0, 40), st.integers(0, 40)).map(lambda p: (min(p) / 4, max(p) / 4))


@given(ends, st.lists(ends, min_size=1, max_size=4), st.booleans())
def test_bounds(span, segments, right) -> None:
    result = grounding([Grounding(span, segments, right)])
    assert all(0 <= value <= 100 for value in result.values())
    assert result["mIoU"] <= result["mIoP"] + 1e-9  # the hull is never shorter than the span
    assert result["Acc@GQA"] <= result["TIoP@0.5"]
