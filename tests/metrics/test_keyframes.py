from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sevila.metrics.keyframes import Selection, keyframe_metrics, true_positions

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
