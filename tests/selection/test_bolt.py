"""BOLT: quantiles of the scores' running sum, against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sevila.errors import UserError
from sevila.selection.rules import Candidates, InverseTransform


def of(scores: list[float]) -> Candidates:
    return Candidates("q1", [float(i) for i in range(len(scores))], list(range(len(scores))), scores)


def test_quantiles() -> None:
    """Scores 0 1 3 1 0 3 0 2 0 0, power 1: the sum runs 0 1 4 5 5 8 8 10 10 10; quantiles 1/4, 5/12, 7/12, 3/4."""
    scores = [0.0, 1.0, 3.0, 1.0, 0.0, 3.0, 0.0, 2.0, 0.0, 0.0]
    # 2.5 -> frame 2, 4.17 -> frame 3, 5.83 -> frame 5, 7.5 -> frame 5 again: the best one left is 7
    assert InverseTransform(4, power=1).select(of(scores)) == [2, 3, 5, 7]
    # cubed: 0 1 28 29 29 56 56 64: 16 -> 2, 26.7 -> 2, 37.3 -> 5, 48 -> 5; then 7, then 1 before 3
    assert InverseTransform(4, power=3).select(of(scores)) == [1, 2, 5, 7]
    assert InverseTransform(4).power == 3


def test_one_keyframe_is_the_median() -> None:
    assert InverseTransform(1, power=1).select(of([0.0, 2.0, 1.0, 2.0, 2.0])) == [3]  # 0 2 3 5 7: half is 3.5
    assert InverseTransform(1).select(of([0.0, 0.0, 7.0])) == [2]


def test_two_keyframes_share_the_median_and_the_next_best_fills() -> None:
    """For k = 2 both quantiles are one half."""
    assert InverseTransform(2, power=1).select(of([0.0, 3.0, 1.0, 2.0, 2.0])) == [1, 2]  # 0 3 4 6 8, half: 4


def test_infinite_scores_have_no_scale() -> None:
    with pytest.raises(UserError, match="the score of frame 0 is inf"):
        InverseTransform(1).select(of([float("inf"), 0.0]))


@given(st.data(), st.integers(3, 12), st.floats(0.5, 4))
def test_every_frame_that_a_quantile_hits_is_taken(data: st.DataObject, k: int, power: float) -> None:
    scores = data.draw(st.lists(st.integers(0, 9), min_size=k, max_size=60))
    assume(min(scores) < max(scores))
    weights = ((np.array(scores) - min(scores)) / (max(scores) - min(scores))) ** power
    shares = np.cumsum(weights) / weights.sum()
    chosen = InverseTransform(k, power).select(of(scores))
    for quantile in np.linspace(1 / k, 1 - 1 / k, k):
        hit = next(i for i, share in enumerate(shares) if share >= quantile - 1e-12)
        near = next(i for i, share in enumerate(shares) if share >= quantile + 1e-12)
        assert {hit, near} & set(chosen)
