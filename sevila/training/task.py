"""What the training loop asks of a task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from sevila.training.numbers import Number


class Task(Protocol):
    """What the loop trains. `loss` and `evaluate` move their data to the device themselves."""

    @property
    def head(self) -> nn.Module:
        """What is trained; all else is frozen."""
        ...

    def loss(self, batch: Any) -> tuple[Tensor, Mapping[str, Number]]:
        """Scalar loss [], the mean over the batch, and further numbers to log, which may be scalars on the device.

        These are read together, once a step. `batch.records` have a `qid`.
        """
        ...

    def evaluate(self) -> dict[str, float]:
        """Metrics on the validation set; the head is in eval mode and gradients are off."""
        ...


@runtime_checkable
class Annealed(Protocol):
    """A task whose loss changes in the course of a training."""

    def anneal(self, done: float) -> None:
        """Told before every optimiser step which share of the steps is done, 0 to below 1."""
        ...
