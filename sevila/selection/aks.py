"""AKS: the best frames, but no stretch of the video left out unless one stands out (Tang et al. 2025)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from sevila.errors import UserError
from sevila.selection.base import Candidates, Selector, spread
from sevila.selection.scores import best, unit_scores


@dataclass(frozen=True)
class AdaptiveSplit(Selector):
    """Adaptive keyframe sampling (Tang et al., CVPR 2025, "Adaptive Keyframe Sampling for Long Video Understanding").

    Scores are brought to 0..1. Where the k best scores of a segment are in the mean more than `threshold` above the
    segment's mean, the segment is kept and gives its best frames; otherwise it is halved, at most `depth` times,
    and each half gives half as many.

    The paper rounds a segment's share int(k / 2^depth) down and so may choose fewer than k: of k = 4 a segment at
    depth 3 gives none, and where none stands out no frame at all is left. At so small a k this is another rule, and
    its results are not the paper's. Here shares always add up to k: a share is halved exactly; an odd frame goes to
    the half with the higher best score (of equals the earlier one), what a half is too short for goes to the other,
    and a share of one frame is not divided. Wherever the paper's shares are whole, and fit, the frames are the
    same. Constant scores give uniform frames.
    """

    needs_scores: ClassVar[bool] = True
    threshold: float = 0.8
    depth: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        if type(self.threshold) not in (int, float) or not math.isfinite(self.threshold):
            raise UserError(f"selector.threshold={self.threshold!r}: must be a number; scores are brought to 0..1")
        if type(self.depth) is not int or self.depth < 0:
            raise UserError(f"selector.depth={self.depth!r}: must be a whole number of halvings, at least 0")

    def _choose(self, candidates: Candidates) -> list[int]:
        scores = unit_scores(candidates)
        if scores is None:
            return spread(len(candidates), self.k)
        return self._take(scores, range(len(scores)), self.k, 0)

    def _take(self, scores: Sequence[float], segment: range, share: int, depth: int) -> list[int]:
        """`share` frames of a segment; it has at least so many."""
        if share <= 1 or depth == self.depth or self._stands_out(scores, segment):
            return best(scores, segment, share)
        middle = len(segment) // 2
        left, right = segment[:middle], segment[middle:]
        odd = share % 2 and max(scores[i] for i in left) >= max(scores[i] for i in right)
        first = min(share // 2 + odd, len(left))
        second = min(share - first, len(right))
        first = share - second
        return self._take(scores, left, first, depth + 1) + self._take(scores, right, second, depth + 1)

    def _stands_out(self, scores: Sequence[float], segment: range) -> bool:
        top = [scores[i] for i in best(scores, segment, self.k)]
        return sum(top) / len(top) - sum(scores[i] for i in segment) / len(segment) > self.threshold
