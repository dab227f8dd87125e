"""Means of rows over the test questions, effects between rows, and how sure they are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from study.few_seeds import Lead, Mean
from study.intervals import Estimate
from study.outcomes import Outcomes
from study.rows import all_rows

MEASURES = {"accuracy": "accuracy", "recall": "keyframe recall"}


class Values:
    """The values of all rows that are complete.

    The mean of a row is the mean over worlds of the mean over seeds and questions. Its variance is estimated in each
    world by itself, from its videos and its seeds; worlds are not taken as drawn from anything, there are too few.
    """

    def __init__(self, outcomes: Outcomes) -> None:
        self.outcomes = outcomes
        self.default, self.seeds, self.worlds = outcomes.default, list(outcomes.seeds), list(outcomes.tests)
        rows = [row for row in all_rows(outcomes.default) if row.key in outcomes.rows]
        self._runs = {row.key: row.run.name for row in rows}  # rows may share one
        self.rows = [row for row in rows if self.has(row.key)]
        self.missing = [row for row in rows if not self.has(row.key)]

    def has(self, key: str) -> bool:
        return self._runs.get(key) in self.outcomes.runs

    def count(self) -> int:
        """Test questions of all worlds."""
        return sum(len(tests.qid) for tests in self.outcomes.tests.values())

    def counted(self, key: str, measure: str) -> int:
        """Test questions that count in a measure: recall needs a sampled frame that is true."""
        return sum(int((~np.isnan(self._of(key, world, measure)[0])).sum()) for world in self.worlds)

    def most_windows(self) -> int:
        """The number of windows that a question needs at most: of frames, one for each."""
        return max(int(tests.windows.max()) for tests in self.outcomes.tests.values())

    # -- means ---

    def estimate(self, key: str, measure: str) -> Estimate:
        parts = [Mean.of(self._of(key, world, measure), None, self._videos(world)) for world in self.worlds]
        return Mean.over(parts).estimate()

    def mean(self, key: str, measure: str) -> float:
        return float(np.mean([self.world_mean(key, measure, world) for world in self.worlds]))

    def world_mean(self, key: str, measure: str, world: int) -> float:
        return float(np.nanmean(self._of(key, world, measure)))

    def seed_means(self, key: str, measure: str, world: int) -> list[float]:
        """One number a seed; one alone where nothing was trained."""
        return [float(mean) for mean in np.nanmean(self._of(key, world, measure), axis=1)]

    def type_means(self, key: str, measure: str) -> dict[str, float]:
        """Means over worlds of the questions of each type, types in alphabetical order."""
        types = sorted({str(qtype) for tests in self.outcomes.tests.values() for qtype in tests.type})
        out = {}
        for qtype in types:
            parts = []
            for world, tests in self.outcomes.tests.items():
                values = self._of(key, world, measure)[:, tests.type == qtype]
                if not np.isnan(values).all():
                    parts.append(np.nanmean(values))
            if parts:
                out[qtype] = float(np.mean(parts))
        return out

    # -- effects ---

    def effect(self, better: str, others: Sequence[str], measure: str) -> Lead:
        """How much higher a row is than the best of the others."""
        means = [
            Mean.over([self._difference(better, other, measure, world) for world in self.worlds]) for other in others
        ]
        return Lead(tuple(means))

    def world_effects(self, better: str, others: Sequence[str], measure: str) -> dict[int, Estimate]:
        """The same in each world by itself, against the row that is best in all of them together."""
        best = max(others, key=lambda key: self.mean(key, measure))
        return {world: self._difference(better, best, measure, world).estimate() for world in self.worlds}

    def _difference(self, better: str, other: str, measure: str, world: int) -> Mean:
        return Mean.of(self._of(better, world, measure), self._of(other, world, measure), self._videos(world))

    def _of(self, key: str, world: int, measure: str) -> np.ndarray:
        return getattr(self.outcomes.runs[self._runs[key]][world], measure)

    def _videos(self, world: int) -> list[str]:
        return self.outcomes.tests[world].video.tolist()
