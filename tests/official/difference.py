"""How far one of this library's numbers is from the official one, and how far it may be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

EXACT = 0.0
NOISE = 1e-6  # share of the whole gradient's norm below which a gradient is zero but for rounding


@dataclass(frozen=True)
class Tolerances:
    """The largest differences that are rounding. Of gradients and optimiser steps relative ones.

    In float64 any mistake in the model is above them, on every processor: the smallest known moves states by 1e-7.
    In float32 they are as wide as processors differ, and tell only gross mistakes.
    """

    states: float
    logits: float
    losses: float
    gradients: float
    vanishing: float  # of gradients that are zero but for rounding
    steps: float
    losses_of_steps: float

    @classmethod
    def of(cls, dtype: torch.dtype) -> Tolerances:
        if dtype == torch.float64:
            return cls(*[1e-9] * 7)
        return cls(1e-4, 1e-4, 2e-5, 2e-4, NOISE, 3e-4, 5e-4)


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
    """Tensors of any devices; of other shapes they are infinitely different."""
    if ours.shape != theirs.shape:
        return Difference(what, float("inf"), tolerance)
    return Difference(what, float((ours.double().cpu() - theirs.double().cpu()).abs().max()), tolerance)


def equal(what: str, ours: Any, theirs: Any) -> Difference:
    """1 where two lists, numbers or texts differ at all."""
    return Difference(what, float(ours != theirs), EXACT)


def largest(sizes: Sequence[float]) -> float:
    """The largest number, nan where one is nan, 0 where there are none."""
    return float(torch.tensor([0.0, *sizes], dtype=torch.float64).max())
