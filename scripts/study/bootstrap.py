"""Paired bootstrap intervals: how sure are means over questions, and differences of such means?

Questions about one video are not independent, nor are the answers of one training: videos are drawn with all their
questions, and trainings (seeds) as wholes. One set of draws serves all rows of a table, so that the difference of two
rows is taken between the same questions and seeds in every resample: it is paired. With few seeds such intervals are
too narrow: `few_seeds` corrects for that.

    draws = Draws.make(videos, seeds=5, rng=np.random.default_rng(0))
    low, high = interval(draws.means(better) - draws.means(worse))
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000
LEVEL = 95.0  # percent


@dataclass(frozen=True, eq=False)
class Draws:
    """How often each cluster of questions and each seed comes in each of R resamples.

    cluster_of   of each of N questions, its cluster 0..G-1: int [N]
    clusters     whole numbers [R, G]; a row adds up to G
    seeds        whole numbers [R, S]; a row adds up to S
    """

    cluster_of: np.ndarray
    clusters: np.ndarray
    seeds: np.ndarray

    @classmethod
    def make(
        cls, clusters: Sequence[Hashable], seeds: int, rng: np.random.Generator, resamples: int = RESAMPLES
    ) -> Draws:
        """Draw with replacement, clusters and seeds apart from each other.

        clusters   of each question, what it is drawn with, such as its video; all different: questions by themselves
        seeds      how many trainings there are; 1 where nothing was trained
        """
        if not clusters or seeds < 1 or resamples < 1:
            raise ValueError(
                f"{len(clusters)} questions, {seeds} seeds, {resamples} resamples: each must be at least 1"
            )
        numbers = {name: number for number, name in enumerate(dict.fromkeys(clusters))}
        cluster_of = np.array([numbers[name] for name in clusters])
        return cls(cluster_of, _drawn(len(numbers), rng, resamples), _drawn(seeds, rng, resamples))

    def means(self, values: np.ndarray) -> np.ndarray:
        """The mean of every resample: [R].

        values   float [S, N], or [1, N] where no seed changes them; a NaN does not count. A resample in which nothing
                 counts has the mean NaN
        """
        values = np.asarray(values, dtype=float)
        if (
            values.ndim != 2
            or values.shape[0] not in (1, self.seeds.shape[1])
            or values.shape[1] != len(self.cluster_of)
        ):
            wanted = f"[{self.seeds.shape[1]} or 1, {len(self.cluster_of)}]"
            raise ValueError(f"values of shape {list(values.shape)}, expected {wanted}")
        counted = ~np.isnan(values)
        totals = self._of_clusters(np.where(counted, values, 0.0))  # [S, G]
        numbers = self._of_clusters(counted.astype(float))
        weights = self.seeds if len(values) > 1 else np.ones((len(self.seeds), 1))
        total = ((self.clusters @ totals.T) * weights).sum(1)
        number = ((self.clusters @ numbers.T) * weights).sum(1)
        return np.divide(total, number, out=np.full(len(total), np.nan), where=number > 0)

    def _of_clusters(self, values: np.ndarray) -> np.ndarray:
        """Sums over the questions of each cluster: [S, N] -> [S, G]."""
        sums = np.zeros((self.clusters.shape[1], len(values)))
        np.add.at(sums, self.cluster_of, values.T)
        return sums.T


def interval(samples: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """The middle `level` percent of what resamples gave, by percentiles; NaN ones are left out.

    ValueError where nothing is left.
    """
    known = samples[~np.isnan(samples)]
    if not len(known):
        raise ValueError("no resample holds anything that counts")
    tail = (100.0 - level) / 2
    low, high = np.percentile(known, [tail, 100.0 - tail])
    return float(low), float(high)


def _drawn(number: int, rng: np.random.Generator, resamples: int) -> np.ndarray:
    return rng.multinomial(number, np.full(number, 1.0 / number), size=resamples)
