"""AKS: shares of segments, and the paper's own rule where its shares are whole."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sevila.errors import UserError
from sevila.selection.rules import AdaptiveSplit, Candidates


def of(scores: list[float]) -> Candidates:
    return Candidates("q1", [float(i) for i in range(len(scores))], list(range(len(scores))), scores)


def test_an_outstanding_stretch_is_not_divided() -> None:
    scores = [0.0] * 32
    scores[4:8] = [1.0, 0.9, 0.98, 0.95]  # mean of the top 4: 0.9575, of all: 0.12
    assert AdaptiveSplit(4).select(of(scores)) == [4, 5, 6, 7]
    assert AdaptiveSplit(4, threshold=0.9).select(of(scores)) != [4, 5, 6, 7]


def test_otherwise_every_half_gives_half() -> None:
    """0.5, 1, 0.5, 1, ...: nothing stands out; the quarters give their first best frame."""
    scores = [0.5, 1.0] * 8
    assert AdaptiveSplit(4).select(of(scores)) == [1, 5, 9, 13]
    assert AdaptiveSplit(4, depth=0).select(of(scores)) == [1, 3, 5, 7]  # undivided: top-k
    assert AdaptiveSplit(4, depth=1).select(of(scores)) == [1, 3, 9, 11]
    assert AdaptiveSplit(4, depth=0).select(of([0.0, *scores])) == [2, 4, 6, 8]


def test_an_odd_frame_goes_to_the_half_with_the_best_score() -> None:
    assert AdaptiveSplit(3).select(of([0.1, 0.2, 0.3, 0.0, 0.4, 0.5, 0.6, 0.7])) == [2, 5, 7]
    assert AdaptiveSplit(3).select(of([0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0])) == [0, 2, 4]
    assert AdaptiveSplit(3).select(of([0.7, 0.0, 0.1, 0.0, 0.0, 0.0, 0.2, 0.7])) == [0, 2, 7]  # a tie: the earlier half


def test_what_does_not_fit_into_a_half_goes_to_the_other() -> None:
    """Five frames make halves of two and three, the three then one and two: the best score's half is full."""
    assert AdaptiveSplit(4).select(of([0.9, 0.1, 0.0, 0.4, 0.3])) == [0, 1, 2, 3]
    assert AdaptiveSplit(5).select(of([0.9, 0.1, 0.0, 0.4, 0.3])) == [0, 1, 2, 3, 4]


def test_infinite_scores_have_no_scale() -> None:
    with pytest.raises(UserError, match="the score of frame 1 is -inf"):
        AdaptiveSplit(1).select(of([0.0, float("-inf")]))


def as_published(scores: list[float], k: int, threshold: float, depth: int) -> list[int]:
    """The paper's rule, level by level, with its rounded shares."""
    low, high = min(scores), max(scores)
    unit = [(score - low) / (high - low) for score in scores]
    level, kept = [list(range(len(unit)))], []
    for d in range(depth + 1):
        following = []
        for segment in level:
            top = sorted((unit[i] for i in segment), reverse=True)[:k]
            if sum(top) / len(top) - sum(unit[i] for i in segment) / len(segment) > threshold or d == depth:
                kept.append((segment, k // 2**d))
            else:
                following += [segment[: len(segment) // 2], segment[len(segment) // 2 :]]
        level = following
    return sorted(i for segment, share in kept for i in sorted(segment, key=lambda i: -unit[i])[:share])


@given(st.data(), st.integers(0, 3), st.integers(1, 3), st.floats(0.05, 0.9))
def test_whole_shares_are_the_papers(data: st.DataObject, depth: int, quarter: int, threshold: float) -> None:
    k = quarter * 2**depth
    scores = data.draw(st.lists(st.sampled_from([0.0, 0.1, 0.3, 0.9, 1.0]), min_size=2 * k, max_size=64))
    assume(min(scores) < max(scores) and len(scores) >= 2 * k)
    assert AdaptiveSplit(k, threshold, depth).select(of(scores)) == as_published(scores, k, threshold, depth)
