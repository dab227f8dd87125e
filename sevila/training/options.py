"""How to train: every number of a run that is not the model's or the data's."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sevila.errors import UserError
from sevila.training.optim import Schedule


@dataclass(frozen=True)
class TrainOptions:
    """How to train.

    schedule        learning rate by position
    epochs          passes over the data
    max_steps       stop after so many optimiser steps, if earlier
    accumulate      micro-batches an optimiser step; the last step of an epoch may have fewer
    loss_divisor    what every micro-batch's loss is divided by. None: their number in the step, so that the
                    step sees their mean. 1: nothing is divided, the step sees their sum (as published)
    weight_decay    of AdamW
    betas           of AdamW
    clip_norm       largest norm of the gradient, None for no clipping
    metric          name in `task.evaluate()` that decides which checkpoint is best; higher is better
    evaluate_every  optimiser steps between evaluations, None for every epoch's end; the end is one too
    save_every      further checkpoints every so many optimiser steps, None for none but those of evaluations
    log_every       optimiser steps between log records
    keep_all        keep every checkpoint, not just best and last
    seed            of dropout and everything else random in training
    label           the run's name on the progress bar
    """

    schedule: Schedule
    epochs: int
    metric: str
    max_steps: int | None = None
    accumulate: int = 1
    loss_divisor: float | None = None
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.999)
    clip_norm: float | None = None
    evaluate_every: int | None = None
    save_every: int | None = None
    log_every: int = 10
    keep_all: bool = False
    seed: int = 0
    label: str = "training"

    def __post_init__(self) -> None:
        counts = "epochs", "max_steps", "accumulate", "evaluate_every", "save_every", "log_every"
        positive = (*counts, "loss_divisor", "clip_norm")
        for name in positive:
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise UserError(f"trainer.{name}={value}: must be above 0")

    def total_steps(self, batches_per_epoch: int) -> int:
        """Optimiser steps of the whole run."""
        total = self.epochs * math.ceil(batches_per_epoch / self.accumulate)
        return min(total, self.max_steps or total)
