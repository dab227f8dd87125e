"""Running averages of what is logged, as plain sums and counts: name -> [sum, count].

They are part of the train state, so that a log record is the same whether or not the run was interrupted
since the one before.
"""

from __future__ import annotations

from collections.abc import Iterable

Sums = dict[str, list[float]]


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


def means(sums: Sums) -> dict[str, float]:
    """name -> mean."""
    return {name: total / count for name, (total, count) in sums.items()}
