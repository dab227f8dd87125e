"""From the config's trainer group to the options of the loop."""

from __future__ import annotations

import math

from sevila.schema import Trainer, named
from sevila.training.optim import CosineSteps, PublishedSchedule, Schedule
from sevila.training.options import TrainOptions


def build_schedule(trainer: Trainer, total_steps: int) -> Schedule:
    """The schedule `trainer.schedule.name`: published or cosine_steps.

    `trainer.warmup_steps` are micro-batches for the published one and optimiser steps for the other.
    """

    def published() -> PublishedSchedule:
        return PublishedSchedule(trainer.lr, trainer.epochs, trainer.warmup_steps, trainer.min_lr, trainer.warmup_lr)

    def cosine_steps() -> CosineSteps:
        return CosineSteps(trainer.lr, total_steps, trainer.warmup_steps, trainer.min_lr, trainer.warmup_lr)

    classes = {"published": published, "cosine_steps": cosine_steps}
    return named("trainer.schedule", trainer.schedule, classes)


def build_options(
    trainer: Trainer,
    batches_per_epoch: int,
    metric: str,
    seed: int,
    label: str,
) -> TrainOptions:
    """The loop's options; `metric` as in TrainOptions, `label` for the progress bar."""
    total_steps = trainer.epochs * math.ceil(batches_per_epoch / trainer.accumulate)
    total_steps = min(total_steps, trainer.max_steps or total_steps)
    return TrainOptions(
        schedule=build_schedule(trainer, total_steps),
        epochs=trainer.epochs,
        max_steps=trainer.max_steps,
        metric=metric,
        accumulate=trainer.accumulate,
        loss_divisor=trainer.loss_divisor,
        weight_decay=trainer.weight_decay,
        betas=(trainer.betas[0], trainer.betas[1]),
        clip_norm=trainer.clip_grad_norm,
        evaluate_every=trainer.eval_every,
        save_every=trainer.save_every,
        log_every=trainer.log_every,
        seed=seed,
        label=label,
    )
