"""The numbers of a training: a step's losses and what else is logged, waited for once, and their running averages."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Number = float | Tensor  # a scalar of the host, or one [] of the device, which is not waited for
Sums = dict[str, list[float]]  # of what is to be logged: name -> [sum, count]


@dataclass(frozen=True)
class Pass:
    """A micro-batch that has gone through the model: what it was about, its loss and other numbers."""

    records: Sequence[Any]
    numbers: Mapping[str, Number]


def on_host(rows: Sequence[Mapping[str, Number]]) -> list[dict[str, float]]:
    """All these numbers as Python's, those on a device read together: one wait for it."""
    waiting = [number.detach() for row in rows for number in row.values() if isinstance(number, Tensor)]
    found = iter(torch.stack([number.to(waiting[-1].device, torch.float64) for number in waiting]).tolist())
    return [{k: next(found) if isinstance(v, Tensor) else float(v) for k, v in row.items()} for row in rows]


def not_finite(passes: Sequence[Pass], rows: Sequence[Mapping[str, float]]) -> str:
    """The first loss that is not finite, and its questions; nothing where all are. `rows`: the numbers of each pass."""
    for each, row in zip(passes, rows, strict=True):
        if not math.isfinite(row["loss"]):
            return f"the loss is {row['loss']} on the questions {', '.join(str(record.qid) for record in each.records)}"
    return ""


def add(sums: Sums, name: str, value: float) -> None:
    """Count one more value of `name`."""
    entry = sums.setdefault(name, [0.0, 0])
    entry[0] += float(value)
    entry[1] += 1


def merge(parts: Iterable[Sums]) -> Sums:
    """The sums of several processes together."""
    merged: Sums = {}
    for part in parts:
        for name, (total, count) in part.items():
            before = merged.get(name, [0.0, 0])
            merged[name] = [before[0] + total, before[1] + count]
    return merged
