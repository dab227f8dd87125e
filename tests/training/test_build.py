from __future__ import annotations

import pytest

from sevila.errors import UserError
from sevila.schema import Trainer
from sevila.training.build import build_options, build_schedule
from sevila.training.optim import CosineSteps, PublishedSchedule


def test_options_of_a_config():
    trainer = Trainer(
        epochs=3, lr=1e-3, min_lr=1e-5, warmup_lr=1e-7, warmup_steps=4, accumulate=2, betas=[0.8, 0.9],
        weight_decay=0.1, loss_divisor=1, clip_grad_norm=1.0, eval_every=6, save_every=5, log_every=2,
    )  # fmt: skip
    options = build_options(trainer, batches_per_epoch=7, metric="accuracy", seed=9, label="x")
    assert options.schedule == PublishedSchedule(1e-3, 3, 4, 1e-5, 1e-7)
    assert options.total_steps(7) == 12
    assert (options.epochs, options.accumulate, options.loss_divisor, options.metric) == (3, 2, 1, "accuracy")
    assert (options.weight_decay, options.betas, options.clip_norm) == (0.1, (0.8, 0.9), 1.0)
    assert (options.evaluate_every, options.save_every, options.log_every) == (6, 5, 2)
    assert (options.seed, options.label) == (9, "x")


def test_cosine_ends_with_the_run():
    trainer = Trainer(epochs=3, lr=1e-3, accumulate=2, warmup_steps=4, schedule={"name": "cosine_steps"})
    options = build_options(trainer, batches_per_epoch=7, metric="accuracy", seed=0, label="x")
    assert options.schedule == CosineSteps(1e-3, 12, 4, 0.0, 1e-8)
    assert options.loss_divisor is None


def test_unknown_schedule():
    with pytest.raises(UserError, match=r"trainer\.schedule\.name=cosine"):
        build_schedule(Trainer(schedule={"name": "cosine"}), 10)
    with pytest.raises(UserError, match=r"trainer\.schedule\.power"):
        build_schedule(Trainer(schedule={"name": "published", "power": 2}), 10)
