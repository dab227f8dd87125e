"""Axes with round ticks, and the curves of a training as a block of a page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from typing import Any, ClassVar

PERCENT_SPAN = 10.0  # of an axis of percent at least: a change of 0.01 is not to look like a leap


@dataclass(frozen=True)
class Axis:
    """A range of numbers, low < high, as places from 0 to 100 percent of a drawing's side."""

    low: float
    high: float

    @classmethod
    def around(cls, values: Iterable[float], span: float = 0.0, within: tuple[float, float] | None = None) -> Axis:
        """The range of the values with a rim, at least `span` wide, and inside `within` where that is given."""
        known = list(values)
        low, high = min(known), max(known)
        rim = max(0.08 * (high - low), (span - (high - low)) / 2, 1e-3 * max(abs(low), abs(high))) or 0.5
        low, high = low - rim, high + rim
        if within is not None:  # what would stand out on one side is given to the other
            width = min(high - low, within[1] - within[0])
            low = min(max(low, within[0]), within[1] - width)
            high = low + width
        return cls(low, high)

    def at(self, value: float) -> float:
        """The place of a value, from low (0) to high (100)."""
        return round(100 * (value - self.low) / (self.high - self.low), 2)

    def ticks(self, most: int = 5, whole: bool = False) -> list[float]:
        """At most `most` + 1 round numbers in the range, whole ones if so asked."""
        rough = (self.high - self.low) / most
        power = 10.0 ** floor(log10(rough))
        step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))
        step = max(1.0, step) if whole else step
        first, last = ceil(self.low / step - 1e-9), floor(self.high / step + 1e-9)
        return [float(f"{number * step:.12g}") for number in range(first, last + 1)]


@dataclass(frozen=True)
class Curve:
    """A number over the steps of a training.

    name     its key in metrics.jsonl: train/loss, or val/ and a metric in percent
    points   (step, value), in order
    """

    name: str
    points: Sequence[tuple[int, float]]

    @property
    def title(self) -> str:
        kind, _, metric = self.name.partition("/")
        return f"validation: {metric.replace('_', ' ')}, percent" if kind == "val" else f"training {metric}"

    @property
    def values(self) -> Axis:
        numbers = [value for _, value in self.points]
        if self.name.startswith("val/"):
            inside = (0.0, 100.0) if all(0 <= number <= 100 for number in numbers) else None
            return Axis.around(numbers, PERCENT_SPAN, inside)
        return Axis.around([0.0, *numbers])


@dataclass(frozen=True)
class Charts:
    """A panel for each curve, side by side where there is room; `best` is the step that is marked, if any."""

    curves: Sequence[Curve]
    best: int | None = None
    template: ClassVar[str] = "charts.html.j2"

    def places(self, curve: Curve) -> list[tuple[float, float]]:
        """Where the curve's points stand, in percent from the left and from below."""
        return [(self.steps.at(step), curve.values.at(value)) for step, value in curve.points]

    @property
    def steps(self) -> Axis:
        last = max(step for curve in self.curves for step, _ in curve.points)
        return Axis(0, 1.03 * max(last, 1))


def curves_of(records: Sequence[Mapping[str, Any]]) -> list[Curve]:
    """The curves of train/loss and then of every val/... metric by name, from the lines of metrics.jsonl."""
    points: dict[str, list[tuple[int, float]]] = {}
    for record in records:
        for name, value in record.items():
            if name == "train/loss" or name.startswith("val/"):
                points.setdefault(name, []).append((record["step"], value))
    return [Curve(name, points[name]) for name in sorted(points)]
