"""AdamW over a head's parameters, and learning-rate schedules."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn


def parameter_groups(head: nn.Module, weight_decay: float) -> list[dict]:
    """Two groups of `head`'s trainable parameters: those that decay, and those that do not.

    Biases, norms and everything with fewer than two dimensions do not decay. The learned queries [1, Q, D]
    do. (As published: REFERENCE "AdamW".)
    """
    norms = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
    of_norms = {id(p) for m in head.modules() if isinstance(m, norms) for p in m.parameters(recurse=False)}
    decay, plain = [], []
    for name, parameter in head.named_parameters():
        if parameter.requires_grad:
            bias = name.rpartition(".")[2].endswith("bias")
            exempt = bias or parameter.ndim < 2 or id(parameter) in of_norms
            (plain if exempt else decay).append(parameter)
    return [{"params": decay, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]


def adamw(head: nn.Module, weight_decay: float = 0.05, betas: tuple[float, float] = (0.9, 0.999)) -> torch.optim.AdamW:
    """AdamW with eps 1e-8 over `parameter_groups`. The loop sets the learning rate before every step."""
    groups = parameter_groups(head, weight_decay)
    return torch.optim.AdamW(groups, lr=0.0, betas=betas, eps=1e-8)


class Schedule(Protocol):
    """Learning rate as a pure function of the position in training, so that there is no state to save."""

    def lr(self, epoch: int, batch: int, step: int) -> float:
        """Learning rate of an optimiser step.

        epoch   from 0
        batch   index of the micro-batch within the epoch, from 0 (the last one that the step accumulates)
        step    index of the optimiser step since the beginning of training, from 0
        """
        ...


@dataclass(frozen=True)
class PublishedSchedule:
    """SeViLA's schedule: warm-up within the first epoch, then a cosine that moves once an epoch.

    The warm-up is linear from `warmup_start`, counts micro-batches, and where the first epoch is shorter
    than `warmup_batches` it stops short of `peak`; where it is longer the rate stays at `peak` to the end of
    that epoch. Epoch e >= 1 has minimum + (peak - minimum) * (1 + cos(pi * e / epochs)) / 2.
    """

    peak: float
    epochs: int
    warmup_batches: int
    minimum: float = 0.0
    warmup_start: float = 1e-8

    def lr(self, epoch: int, batch: int, step: int) -> float:
        if epoch > 0:
            return _cosine(self.peak, self.minimum, epoch / self.epochs)
        return _warm_up(self.warmup_start, self.peak, batch, self.warmup_batches)


@dataclass(frozen=True)
class CosineSteps:
    """Linear warm-up over `warmup_steps` optimiser steps, then a cosine to `minimum` at `total_steps`."""

    peak: float
    total_steps: int
    warmup_steps: int = 0
    minimum: float = 0.0
    warmup_start: float = 0.0

    def lr(self, epoch: int, batch: int, step: int) -> float:
        if step < self.warmup_steps:
            return _warm_up(self.warmup_start, self.peak, step + 1, self.warmup_steps)
        span = max(1, self.total_steps - self.warmup_steps)
        return _cosine(self.peak, self.minimum, min(1.0, (step - self.warmup_steps) / span))


def _warm_up(start: float, peak: float, position: int, length: int) -> float:
    return min(peak, start + (peak - start) * position / max(1, length))


def _cosine(peak: float, minimum: float, progress: float) -> float:
    return minimum + (peak - minimum) * 0.5 * (1.0 + math.cos(math.pi * progress))
