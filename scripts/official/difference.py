"""How far one of this library's numbers is from the official one, and how far it may be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

EXACT, STATES, LOGITS, GRADIENTS = 0.0, 5e-6, 1e-5, 1e-4
NOISE = 1e-6  # share of the whole gradient's norm below which a gradient is zero but for rounding


@dataclass(frozen=True)
class Difference:
    """`size` is the largest absolute difference; of gradients and steps, relative to the official value."""

    what: str
    size: float
    tolerance: float
    relative: bool = False

    @property
    def passed(self) -> bool:
        return self.size <= self.tolerance  # False for nan, too


def compared(what: str, ours: Tensor, theirs: Tensor, tolerance: float) -> Difference:
    """Tensors of other shapes are infinitely different."""
    if ours.shape != theirs.shape:
        return Difference(what, float("inf"), tolerance)
    return Difference(what, float((ours.double() - theirs.double()).abs().max()), tolerance)


def equal(what: str, ours: Any, theirs: Any) -> Difference:
    """1 where two lists, numbers or texts differ at all."""
    return Difference(what, float(ours != theirs), EXACT)


def largest(sizes: Sequence[float]) -> float:
    """The largest number, nan where one is nan, 0 where there are none."""
    return float(torch.tensor([0.0, *sizes], dtype=torch.float64).max())
