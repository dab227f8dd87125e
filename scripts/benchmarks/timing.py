"""Two or more ways to do one thing, in turn, so that whatever else the machine does falls on all of them alike."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from sevila.model import precision


@dataclass(frozen=True)
class Row:
    """A line of the table. `ratio` is baseline_s / ours_s; `notes` hold what else was found, by name."""

    name: str
    baseline_s: float
    ours_s: float
    equal: bool
    runs: int
    target: float
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        return self.baseline_s / self.ours_s

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "baseline_s": round(self.baseline_s, 4),
            "ours_s": round(self.ours_s, 4),
            "ratio": round(self.ratio, 3),
            "equal": self.equal,
            "runs": self.runs,
            "target": self.target,
            **self.notes,
        }


@dataclass(frozen=True)
class Taken:
    """Median seconds of a way: by the clock, and of this process's processor time (all threads together)."""

    wall: float
    processor: float


def interleaved(
    ways: Mapping[str, Callable[[], Any]], runs: int, warm: bool = True
) -> tuple[dict[str, Taken], dict[str, Any]]:
    """What each way takes, and what it returned last. Each is run once before it counts, unless `warm` is not.

    The order of the ways turns around after every round.
    """
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    results: dict[str, Any] = {}
    if warm:
        for way in ways.values():
            way()
    names = list(ways)
    for _ in range(runs):
        for name in names:
            synchronize()
            started = time.perf_counter(), time.process_time()
            results[name] = ways[name]()
            synchronize()
            taken[name].append((time.perf_counter() - started[0], time.process_time() - started[1]))
        names.reverse()
    medians = {name: Taken(*map(statistics.median, zip(*times, strict=True))) for name, times in taken.items()}
    return medians, results


def compared(
    name: str, baseline: Taken, ours: Taken, equal: bool, runs: int, target: float, notes: Mapping[str, Any]
) -> Row:
    """A row by the clock; beside it the ratio of processor times, which a busy machine disturbs less."""
    processor = {"processor_ratio": round(baseline.processor / ours.processor, 3)}
    return Row(name, baseline.wall, ours.wall, equal, runs, target, {**processor, **notes})


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def machine() -> str:
    """A line: the processor's name, its bfloat16 units, and what `precision=auto` takes on it."""
    units = ", ".join(precision.bf16_units()) or "none"
    taken = str(precision.fast_dtype("cpu")).removeprefix("torch.")
    return f"{_name()}: bfloat16 units: {units}; precision=auto takes {taken}"


def _name() -> str:
    try:
        lines = precision.CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (value.strip() for key, _, value in (line.partition(":") for line in lines) if key.strip() == "model name")
    return next(names, platform.processor() or platform.machine())
