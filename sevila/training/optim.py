"""How a head is optimised: AdamW, learning-rate schedules, and the options of a training."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Protocol

import torch
from torch import Tensor, distributed, nn

from sevila.errors import UserError
from sevila.schema import Trainer, named


def parameter_groups(head: nn.Module, weight_decay: float) -> list[dict]:
    """Two groups of `head`'s trainable parameters: those that decay, and those that do not.

    Biases, norms and everything with fewer than two dimensions do not decay. The learned queries [1, Q, D]
    do. (As published: REFERENCE "AdamW".)
    """
    norms = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
    of_norms = {id(p) for m in head.modules() if isinstance(m, norms) for p in m.parameters(recurse=False)}
    decay: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
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


def average_gradients(parameters: Sequence[nn.Parameter], count: Tensor, meet: Callable[[], object]) -> Tensor:
    """Put the mean over several processes into each parameter's gradient; the mean of `count` [] rides along.

    One collective of the devices. `meet` lets all processes arrive before it: from there on nobody is late, and nothing
    can fail.
    """
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flat = torch.cat([*(gradient.flatten() for gradient in gradients), count.to(gradients[0]).view(1)])
    meet()
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    *means, mean_count = flat.split([*(p.numel() for p in parameters), 1])
    for parameter, mean in zip(parameters, means, strict=True):
        parameter.grad = mean.view_as(parameter)
    return mean_count[0]


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


def build_schedule(trainer: Trainer, total_steps: int) -> Schedule:
    """The schedule `trainer.schedule.name`: published or cosine_steps. UserError for another one.

    `trainer.warmup_steps` are micro-batches for the published one and optimiser steps for the other.
    """

    def published() -> PublishedSchedule:
        return PublishedSchedule(trainer.lr, trainer.epochs, trainer.warmup_steps, trainer.min_lr, trainer.warmup_lr)

    def cosine_steps() -> CosineSteps:
        return CosineSteps(trainer.lr, total_steps, trainer.warmup_steps, trainer.min_lr, trainer.warmup_lr)

    classes: dict[str, Callable[[], Schedule]] = {"published": published, "cosine_steps": cosine_steps}
    return named("trainer.schedule", trainer.schedule, classes)


@dataclass(frozen=True)
class TrainOptions:
    """How to train, in the words of the configuration's group `trainer`.

    schedule         learning rate by position
    epochs           passes over the data
    metric           name in `task.evaluate()` that decides which checkpoint is best; higher is better
    max_steps        stop after so many optimiser steps, if earlier
    accumulate       micro-batches an optimiser step
    carry_over       what becomes of an epoch's last micro-batches where they are fewer than that. False: a step of
                     their own. True: their gradient is added to that of the next epoch's first step (as published)
    loss_divisor     what every micro-batch's loss is divided by. None: their number in the step (`accumulate` with
                     `carry_over`), so that the step sees their mean. 1: nothing is divided, it sees their sum (as
                     published)
    weight_decay     of AdamW
    betas            of AdamW
    clip_grad_norm   largest norm of the gradient, None for no clipping
    eval_every       optimiser steps between evaluations, None for every epoch's end; the end is one too
    save_every       further checkpoints every so many optimiser steps, None for none but those of evaluations
    log_every        optimiser steps between log records
    seed             of dropout and everything else random in training
    label            the run's name on the progress bar
    """

    schedule: Schedule
    epochs: int
    metric: str
    max_steps: int | None = None
    accumulate: int = 1
    carry_over: bool = False
    loss_divisor: float | None = None
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.999)
    clip_grad_norm: float | None = None
    eval_every: int | None = None
    save_every: int | None = None
    log_every: int = 10
    seed: int = 0
    label: str = "training"

    @classmethod
    def of(cls, trainer: Trainer, batches_per_epoch: int, metric: str, seed: int, label: str) -> TrainOptions:
        """The options of a configuration; `batches_per_epoch` says where a schedule by steps ends."""
        given = {item.name: getattr(trainer, item.name) for item in fields(cls) if hasattr(trainer, item.name)}
        given["schedule"] = build_schedule(trainer, _total_steps(trainer, batches_per_epoch))
        given["betas"] = tuple(trainer.betas)
        return cls(**given, metric=metric, seed=seed, label=label)

    def __post_init__(self) -> None:
        counts = "epochs", "max_steps", "accumulate", "eval_every", "save_every", "log_every"
        for name in (*counts, "loss_divisor", "clip_grad_norm"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise UserError(f"trainer.{name}={value}: must be above 0")

    def total_steps(self, batches_per_epoch: int) -> int:
        """Optimiser steps of the whole run."""
        return _total_steps(self, batches_per_epoch)


def _total_steps(options: TrainOptions | Trainer, batches_per_epoch: int) -> int:
    steps = batches_per_epoch / options.accumulate
    total = options.epochs * (math.floor(steps) if options.carry_over else math.ceil(steps))
    return min(total, options.max_steps or total)
