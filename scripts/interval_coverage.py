"""How often do intervals over few trainings hold the true effect? Simulated, for the rule of the study's verdicts.

    python scripts/interval_coverage.py [--simulations 2000] [--out results/synthetic/coverage.json]

Answers are simulated as the study's rows give them: right or wrong of 1,050 questions about 150 videos, rows that share
which videos and questions are hard, and trainings (seeds) that differ as the study's do. The true effect is known by
integration. Three comparisons: two trained rows, a trained row and one that nothing trained, a trained row and the best
of three trained ones that are equally good. For each, how often the 95 % interval holds the true effect, and how often
its lower end lies above it (nominal 2.5 %): by percentiles of a bootstrap over videos and seeds, and by
`study.few_seeds`. Some minutes on one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from sevila.files import home_path, write_json
from study.bootstrap import Draws, interval
from study.few_seeds import Lead, Mean
from study.intervals import Estimate

VIDEOS, QUESTIONS = 150, 7  # of a world, and of a video
SEEDS = (3, 5, 10)
RESAMPLES = 1000  # of a bootstrap; the study's old rule took 10,000
BETTER, WORSE = 0.77, 0.735  # the true shares of right answers: the study's PT + SR and PT
SPREADS = (1.0, 2.5)  # points that a row's mean differs by from seed to seed; the study's rows: 0.4 to 4
# Shares of the variance of what makes a question easy: its video, itself, how a row is made for it, and a training.
VIDEO, QUESTION, ROW, TRAINING = 0.10, 0.80, 0.04, 0.06


@dataclass(frozen=True)
class Truth:
    """A row: the share of questions that it answers rightly over all seeds; points of spread between seeds, 0: one."""

    right: float
    spread: float


@dataclass(frozen=True)
class Comparison:
    name: str
    better: Truth
    others: tuple[Truth, ...]

    @property
    def effect(self) -> float:
        return 100 * (self.better.right - max(other.right for other in self.others))


def comparisons(spread: float) -> Iterator[Comparison]:
    trained, untrained = Truth(WORSE, spread), Truth(WORSE, 0.0)
    yield Comparison("two trained rows", Truth(BETTER, spread), (trained,))
    yield Comparison("trained, untrained", Truth(BETTER, spread), (untrained,))
    yield Comparison("best of three trained", Truth(BETTER, spread), (trained, trained, trained))


def answers(rows: Sequence[Truth], seeds: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Percent, 100 or 0, of every row: [S, N], or [1, N] of a row without spread.

    A question is right where the sum of normal terms lies below a threshold: of its video and of the question, the same
    for all rows, of the row, of the training's answer to it, and of the training as a whole.
    """
    count = VIDEOS * QUESTIONS
    shared = np.repeat(rng.normal(0, VIDEO**0.5, VIDEOS), QUESTIONS) + rng.normal(0, QUESTION**0.5, count)
    out = []
    for row in rows:
        trainings = seeds if row.spread else 1
        slope = 100 * NormalDist().pdf(
            NormalDist().inv_cdf(row.right)
        )  # points for a unit of the whole training's term
        own = row.spread / slope
        threshold = NormalDist(0, (1 + own**2) ** 0.5).inv_cdf(row.right)
        ease = shared + rng.normal(0, ROW**0.5, count) + rng.normal(0, TRAINING**0.5, (trainings, count))
        ease = ease + rng.normal(0, own, (trainings, 1))
        out.append(100.0 * (ease < threshold))
    return out


def by_percentiles(better: np.ndarray, others: Sequence[np.ndarray], seeds: int, rng: np.random.Generator) -> Estimate:
    """Videos and seeds are drawn, each alike for all rows; the best of several rows is the best in each resample."""
    draws = Draws.make(_videos(), seeds, rng, RESAMPLES)
    samples = draws.means(better) - np.max([draws.means(other) for other in others], axis=0)
    return Estimate(better.mean() - max(other.mean() for other in others), *interval(samples))


def by_student(better: np.ndarray, others: Sequence[np.ndarray], seeds: int, rng: np.random.Generator) -> Estimate:
    """The rule of the study."""
    return Lead(tuple(Mean.of(better, other, _videos()) for other in others)).estimate()


RULES: dict[str, Callable[..., Estimate]] = {"percentile bootstrap": by_percentiles, "Student": by_student}


def _videos() -> list[int]:
    return [i // QUESTIONS for i in range(VIDEOS * QUESTIONS)]


def coverage(comparison: Comparison, seeds: int, simulations: int, seed: int) -> dict[str, dict[str, float]]:
    """Of every rule, in percent: intervals that hold the true effect, that lie above it; points of mean width."""
    rng = np.random.default_rng(seed)
    found: dict[str, list[Estimate]] = {rule: [] for rule in RULES}
    for _ in range(simulations):
        better, *others = answers([comparison.better, *comparison.others], seeds, rng)
        for rule, estimates in found.items():
            estimates.append(RULES[rule](better, others, seeds, rng))
    return {rule: _counted(estimates, comparison.effect) for rule, estimates in found.items()}


def _counted(estimates: Sequence[Estimate], effect: float) -> dict[str, float]:
    low, high = (np.array([getattr(estimate, end) for estimate in estimates]) for end in ("low", "high"))
    held, above = (low <= effect) & (effect <= high), low > effect
    figures = {"held": 100 * held.mean(), "above": 100 * above.mean(), "width": (high - low).mean()}
    return {name: round(float(value), 2) for name, value in figures.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=2000, metavar="N", help="of every line")
    parser.add_argument("--seed", type=int, default=0, help="of the simulation")
    parser.add_argument("--out", type=home_path, help="a json file of the table")
    args = parser.parse_args()
    print(f"{'comparison':22} {'spread':>6} {'seeds':>5}  {'rule':20} {'holds %':>8} {'above %':>8} {'width':>6}")
    table: list[dict[str, Any]] = []
    for spread in SPREADS:
        for comparison in comparisons(spread):
            for seeds in SEEDS:
                for rule, row in coverage(comparison, seeds, args.simulations, args.seed).items():
                    table.append({"comparison": comparison.name, "spread": spread, "seeds": seeds, "rule": rule, **row})
                    start = f"{comparison.name:22} {spread:6.1f} {seeds:5}  {rule:20}"
                    print(f"{start} {row['held']:8.1f} {row['above']:8.1f} {row['width']:6.2f}", flush=True)
    if args.out:
        write_json(args.out, {"simulations": args.simulations, "seed": args.seed, "rows": table})


if __name__ == "__main__":
    main()
