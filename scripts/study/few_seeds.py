"""Means over few trainings and many videos, and differences of them: how sure are they?

A bootstrap over five trainings draws from five numbers: too narrow (results/synthetic/coverage.json: by how much).
Here the variance of a mean has two parts, each with its degrees of freedom, and the interval is Student's:

    difference = Mean.of(better, worse, videos)     # values of questions, [S, N] each: the same seeds and questions
    difference.estimate()                           # mean -+ t * sqrt(variance of the videos + variance of the seeds)

Videos: the cluster-robust variance of the mean over seeds, the questions of a video taken together. Seeds: the variance
of the seeds' own means, by S. Degrees of freedom of the sum: Welch and Satterthwaite.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from study.intervals import Estimate

LEVEL = 95.0  # percent


@dataclass(frozen=True)
class Part:
    """A variance of a mean, and the degrees of freedom that it was estimated with."""

    variance: float
    freedom: float


@dataclass(frozen=True)
class Mean:
    """A mean, or a difference of means, and the independent parts of its variance."""

    value: float
    parts: tuple[Part, ...]

    @classmethod
    def of(cls, values: np.ndarray, others: np.ndarray | None, videos: Sequence[Hashable]) -> Mean:
        """The mean of values, or how much it is above that of others: paired by question, and by seed where both have.

        values   float [S, N], or [1, N] where nothing was trained; a NaN does not count
        others   the same of another row, or None
        videos   of each of N questions, its video

        ValueError where no question counts, or both have several seeds but not as many.
        """
        values = _checked(values, videos)
        others = None if others is None else _checked(others, videos)
        seeds = np.nanmean(values, axis=1)  # [S]
        influence = _influence(values)
        if others is not None:
            if 1 < len(others) != len(values) > 1:
                raise ValueError(f"{len(values)} seeds and {len(others)} seeds are not paired")
            seeds = seeds - np.nanmean(others, axis=1)
            influence = influence - _influence(others)
        return cls(float(seeds.mean()), (*_of_videos(influence, videos), *of_seeds(seeds)))

    @classmethod
    def over(cls, means: Iterable[Mean]) -> Mean:
        """The mean of independent means, such as of worlds."""
        means = list(means)
        parts = [Part(part.variance / len(means) ** 2, part.freedom) for mean in means for part in mean.parts]
        return cls(sum(mean.value for mean in means) / len(means), tuple(parts))

    @property
    def error(self) -> float:
        """The standard error."""
        return math.sqrt(sum(part.variance for part in self.parts))

    @property
    def freedom(self) -> float:
        """Degrees of freedom of the variance, by Welch and Satterthwaite; infinite where it is 0."""
        spread = sum(part.variance**2 / part.freedom for part in self.parts)
        return sum(part.variance for part in self.parts) ** 2 / spread if spread else math.inf

    def estimate(self, level: float = LEVEL) -> Estimate:
        """The mean with its two-sided interval of `level` percent."""
        reach = student_quantile(level, self.freedom) * self.error if self.error else 0.0
        return Estimate(self.value, self.value - reach, self.value + reach)

    def p_value(self, bound: float = 0.0) -> float:
        """Two-sided, of the hypothesis that the true mean is `bound`."""
        if not self.error:
            return float(self.value == bound)
        return student_tails((self.value - bound) / self.error, self.freedom)


@dataclass(frozen=True)
class Lead:
    """How much something is above the best of several others.

    means   how much it is above each of them
    """

    means: tuple[Mean, ...]

    @property
    def closest(self) -> Mean:
        """Above the best of the others as it was measured."""
        return min(self.means, key=lambda mean: mean.value)

    def estimate(self) -> Estimate:
        """The interval's lower end is the lowest of all, so that it lies above a bound only where each one does."""
        closest = self.closest.estimate()
        return Estimate(closest.mean, min(mean.estimate().low for mean in self.means), closest.high)

    def p_value(self, bound: float = 0.0) -> float:
        """Of the interval's verdict: above the bound, the highest one; else that of the closest."""
        if self.closest.value > bound:
            return max(mean.p_value(bound) for mean in self.means)
        return self.closest.p_value(bound)


def of_seeds(means: Sequence[float] | np.ndarray) -> Iterable[Part]:
    """What trainings add to the variance of their mean: none where there is one mean only."""
    if len(means) > 1:
        yield Part(float(np.var(means, ddof=1)) / len(means), len(means) - 1)


def _checked(values: np.ndarray, videos: Sequence[Hashable]) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    if values.ndim != 2 or values.shape[1] != len(videos) or not len(values):
        raise ValueError(f"values of shape {list(values.shape)}, expected [seeds, {len(videos)}]")
    if np.isnan(values).all(axis=1).any():
        raise ValueError("of a seed no question counts")
    return values


def _influence(values: np.ndarray) -> np.ndarray:
    """How much each question moves the mean over seeds: [S, N] -> [N], which adds up to 0."""
    counted = ~np.isnan(values)
    off = np.where(counted, values - np.nanmean(values, axis=1, keepdims=True), 0.0)
    return (off / counted.sum(axis=1, keepdims=True)).mean(axis=0)


def _of_videos(influence: np.ndarray, videos: Sequence[Hashable]) -> Iterable[Part]:
    numbers = {video: number for number, video in enumerate(dict.fromkeys(videos))}
    sums = np.zeros(len(numbers))
    np.add.at(sums, [numbers[video] for video in videos], influence)
    clusters = len(numbers)
    if clusters < 2:
        raise ValueError("one video: nothing says how much videos differ")
    yield Part(float((sums**2).sum()) * clusters / (clusters - 1), clusters - 1)


def student_tails(t: float, freedom: float) -> float:
    """P(|T| > |t|) of Student's distribution; the normal one where `freedom` is infinite."""
    if math.isinf(freedom):
        return math.erfc(abs(t) / math.sqrt(2))
    return _incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t))


def student_quantile(level: float, freedom: float) -> float:
    """The t within which, to both sides, `level` percent of Student's distribution lie."""
    low, high, tails = 0.0, 1.0, 1 - level / 100
    while student_tails(high, freedom) > tails:
        high *= 2
    for _ in range(100):  # bisection, to the last bit
        middle = (low + high) / 2
        low, high = (middle, high) if student_tails(middle, freedom) > tails else (low, middle)
    return high


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function I_x(a, b), by its continued fraction (Abramowitz and Stegun 26.5.8)."""
    if x in (0.0, 1.0):
        return x
    if x > (a + 1) / (a + b + 2):  # where the fraction converges slowly
        return 1 - _incomplete_beta(b, a, 1 - x)
    ratio, numerator, denominator = 1.0, 1.0, 0.0
    for i in range(500):  # Lentz's way of computing it
        m = i // 2
        if i == 0:
            step = 1.0
        elif i % 2:
            step = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            step = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        denominator = 1 / (1 + step * denominator)
        numerator = 1 + step / numerator
        ratio *= numerator * denominator
        if i and abs(numerator * denominator - 1) < 1e-15:
            break
    scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    return math.exp(scale) * (ratio - 1) / a


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for their number after Holm (1979), in the order given."""
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted
