from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevila.errors import UserError
from sevila.metrics.keyframes import (
    Selection,
    average_precision,
    keyframe_metrics,
    mean_average_precision,
    true_positions,
)

TIMES = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]


def test_window_ends_are_included():
    assert true_positions(TIMES, [(1.0, 2.0), (4.5, 5.0)]) == [1, 2, 5]
    assert true_positions(TIMES, [(2.1, 2.9)]) == []
    assert true_positions(TIMES, None) == true_positions(TIMES, []) == []
    assert true_positions(TIMES, [(1.0, 3.0), (2.0, 3.0)]) == [1, 2, 3]


def test_by_hand():
    selections = [
        Selection(TIMES, [1, 4], [(1.0, 3.0)]),  # one of two possible: .5, hit
        Selection(TIMES, [0, 2, 5], [(2.0, 2.0)]),  # the only one: 1, hit
        Selection(TIMES, [0], [(3.0, 5.0)]),  # none: 0, no hit
        Selection(TIMES, [0, 1], [(0.2, 0.8)]),  # no true frame: not counted
        Selection(TIMES, [0, 1], None),  # not known: not counted
    ]
    assert keyframe_metrics(selections) == {"keyframe_recall": 50.0, "keyframe_hit": 66.67}


def test_without_any_true_frame_there_is_no_number():
    assert keyframe_metrics([Selection(TIMES, [0], None), Selection(TIMES, [0], [])]) == {}


positions = st.sets(st.integers(0, 5), min_size=1)


@given(positions, positions)
def test_recall_is_full_exactly_when_nothing_better_could_be_chosen(selected, true):
    windows = [(TIMES[i], TIMES[i]) for i in true]
    result = keyframe_metrics([Selection(TIMES, sorted(selected), windows)])
    assert (result["keyframe_recall"] == 100.0) == (selected <= true or true <= selected)
    assert (result["keyframe_hit"] == 100.0) == bool(selected & true)


def test_average_precision_by_hand() -> None:
    # ranks 1 and 3 are true: (1/1 + 2/3) / 2
    assert average_precision([0.9, 0.1, 0.5, 0.7], [True, False, True, False]) == pytest.approx(5 / 6)
    assert average_precision([0.1, 0.2, 0.3], [True, False, False]) == pytest.approx(1 / 3)
    assert average_precision([1.0, 1.0], [False, True]) == pytest.approx(1 / 2)  # of equals the earlier comes first


def test_the_mean_leaves_out_queries_without_a_true_frame() -> None:
    ranked = [([3.0, 2.0, 1.0], [True, False, False]), ([3.0, 2.0], [False, True]), ([1.0, 2.0], [False, False])]
    assert mean_average_precision(ranked) == 75.0
    with pytest.raises(UserError, match="no query has a frame inside its windows"):
        mean_average_precision(ranked[2:])


@given(st.lists(st.tuples(st.floats(-5, 5), st.booleans()), min_size=1).filter(lambda rows: any(r[1] for r in rows)))
def test_true_frames_first_is_the_best_there_is(rows: list[tuple[float, bool]]) -> None:
    scores, labels = zip(*rows, strict=True)
    value = average_precision(scores, labels)
    assert 0 < value <= 1
    assert average_precision([float(label) for label in labels], labels) == 1
