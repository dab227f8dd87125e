"""What the rules that go by scores share: the check, the scale, the best of some frames."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from sevila.errors import UserError
from sevila.selection.base import Candidates


def checked_scores(candidates: Candidates) -> Sequence[float]:
    """The candidates' scores. UserError names the first frame whose score is NaN; ValueError where nobody scored."""
    if candidates.scores is None:
        raise ValueError(f"question {candidates.qid}: this selector needs scores (needs_scores is True)")
    _refuse(candidates, candidates.scores, math.isnan)
    return candidates.scores


def unit_scores(candidates: Candidates) -> list[float] | None:
    """The scores brought to 0..1 by their least and greatest, or None where all are equal.

    Shifting all scores or multiplying them by a positive number changes nothing. UserError for a score that is
    NaN or infinite: there is no scale then.
    """
    scores = checked_scores(candidates)
    _refuse(candidates, scores, math.isinf)
    low, high = min(scores), max(scores)
    return None if low == high else [(score - low) / (high - low) for score in scores]


def best(scores: Sequence[float], positions: Iterable[int], k: int) -> list[int]:
    """The k of `positions` (rising) with the highest scores, best first; of equal scores the earlier position."""
    return sorted(positions, key=lambda i: -scores[i])[:k]  # a stable sort


def _refuse(candidates: Candidates, scores: Sequence[float], bad: Callable[[float], bool]) -> None:
    for position, score in enumerate(scores):
        if bad(score):
            raise UserError(
                f"question {candidates.qid}: the score of frame {candidates.indices[position]} is {score}; "
                "run the model in float32 or bfloat16 (float16 overflows in T5)"
            )
