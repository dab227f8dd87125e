"""The selectors that need no model of their own: Localizer top-k, uniform, random, oracle."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import ClassVar

from sevila.errors import UserError
from sevila.metrics.keyframes import true_positions
from sevila.selection.base import Candidates, Selector, spread


@dataclass(frozen=True)
class LocalizerTopK(Selector):
    """The k frames of highest score; of equal scores the earlier frame."""

    needs_scores: ClassVar[bool] = True

    def _choose(self, candidates: Candidates) -> list[int]:
        scores = candidates.scores
        if scores is None:
            raise ValueError(f"question {candidates.qid}: this selector needs scores (needs_scores is True)")
        for position, score in enumerate(scores):
            if math.isnan(score):
                raise UserError(
                    f"question {candidates.qid}: the score of frame {candidates.indices[position]} is nan; "
                    "run the model in float32 or bfloat16 (float16 overflows in T5)"
                )
        return sorted(range(len(candidates)), key=lambda i: -scores[i])[: self.k]  # a stable sort


@dataclass(frozen=True)
class Uniform(Selector):
    """k frames spread evenly over the candidates."""

    def _choose(self, candidates: Candidates) -> list[int]:
        return spread(len(candidates), self.k)


@dataclass(frozen=True)
class Random(Selector):
    """k frames drawn without replacement, from `seed` and the question's id alone.

    The order of the questions, workers and library versions do not matter: positions are ranked by a hash.
    """

    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if type(self.seed) is not int:
            raise UserError(f"selector.seed={self.seed!r}: must be a whole number")

    def _choose(self, candidates: Candidates) -> list[int]:
        def rank(position: int) -> bytes:
            return hashlib.sha256(f"{self.seed}:{candidates.qid}:{position}".encode()).digest()

        return sorted(range(len(candidates)), key=rank)[: self.k]


@dataclass(frozen=True)
class Oracle(Selector):
    """The true frames, evenly spread where there are more than k, then filled up to k with uniform ones.

    A question with no true frame among its candidates gets uniform frames. Raises UserError where the
    windows are not known at all.
    """

    def _choose(self, candidates: Candidates) -> list[int]:
        if candidates.windows is None:
            raise UserError(
                f"question {candidates.qid}: selector=oracle needs the true windows, which this data set "
                "does not give; choose another selector"
            )
        true = true_positions(candidates.times, candidates.windows)
        if len(true) >= self.k:
            return [true[i] for i in spread(len(true), self.k)]
        others = [i for i in spread(len(candidates), self.k) if i not in true]
        return true + [others[i] for i in spread(len(others), self.k - len(true))]
