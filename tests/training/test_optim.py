from __future__ import annotations

import json
import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from sevila.errors import UserError
from sevila.schema import Trainer
from sevila.training.optim import (
    CosineSteps,
    PublishedSchedule,
    TrainOptions,
    adamw,
    build_schedule,
    parameter_groups,
)


class Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm([2, 3])  # two dimensions, and yet a norm
        self.queries = nn.Parameter(torch.zeros(1, 5, 4))
        self.linear = nn.Linear(4, 6)
        self.offset_bias = nn.Parameter(torch.zeros(2, 2))
        self.frozen = nn.Parameter(torch.zeros(3, 3), requires_grad=False)


def test_groups_decay_weights_and_queries_only():
    head = Head()
    names = {id(p): name for name, p in head.named_parameters()}
    decay, plain = parameter_groups(head, 0.05)
    assert {names[id(p)] for p in decay["params"]} == {"queries", "linear.weight"}
    assert {names[id(p)] for p in plain["params"]} == {
        "norm.weight",
        "norm.bias",
        "linear.bias",
        "offset_bias",
    }
    assert (decay["weight_decay"], plain["weight_decay"]) == (0.05, 0.0)


def test_adamw_first_step():
    """The first step of AdamW is p * (1 - lr * decay) - lr * sign(gradient), up to eps."""
    layer = nn.Linear(1, 1)
    nn.init.constant_(layer.weight, 2.0)
    nn.init.constant_(layer.bias, 2.0)
    optimizer = adamw(layer, weight_decay=0.05)
    for group in optimizer.param_groups:
        assert (group["betas"], group["eps"]) == ((0.9, 0.999), 1e-8)
        group["lr"] = 0.1
    layer(torch.tensor([[3.0]])).sum().backward()
    optimizer.step()
    assert layer.weight.item() == pytest.approx(2.0 * (1 - 0.1 * 0.05) - 0.1, abs=1e-6)
    assert layer.bias.item() == pytest.approx(2.0 - 0.1, abs=1e-6)


def test_published_schedule_equals_the_official_one(shared):
    golden = json.loads((shared / "golden/model64/aux.json").read_text())["lr"]
    schedule = PublishedSchedule(
        peak=golden["init_lr"],
        epochs=golden["max_epoch"],
        warmup_batches=golden["warmup_steps"],
        minimum=golden["min_lr"],
        warmup_start=golden["warmup_lr"],
    )
    assert len(golden["rows"]) == 11
    for epoch, batch, expected in golden["rows"]:
        assert schedule.lr(epoch, batch, step=10**6) == pytest.approx(expected, rel=1e-12), (epoch, batch)


def test_published_schedule_by_hand():
    schedule = PublishedSchedule(peak=3e-5, epochs=10, warmup_batches=1000)
    assert schedule.lr(0, 0, 0) == 1e-8
    assert schedule.lr(0, 500, 0) == pytest.approx(1.5005e-5, rel=1e-12)
    assert schedule.lr(0, 1000, 0) == schedule.lr(0, 9999, 0) == 3e-5
    assert schedule.lr(1, 0, 0) == schedule.lr(1, 999, 7) == pytest.approx(2.9265847744427305e-05, rel=1e-12)
    assert schedule.lr(5, 0, 0) == pytest.approx(1.5e-5, rel=1e-12)


def test_published_schedule_without_warm_up_starts_at_once_above_zero():
    schedule = PublishedSchedule(peak=1.0, epochs=2, warmup_batches=0)
    assert [schedule.lr(0, batch, 0) for batch in (0, 1, 2)] == [1e-8, 1.0, 1.0]


def test_cosine_steps():
    schedule = CosineSteps(peak=1.0, total_steps=12, warmup_steps=4, minimum=0.2)
    rates = [schedule.lr(99, 99, step) for step in range(14)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4] == 1.0
    assert rates[8] == pytest.approx(0.6)
    assert rates[6] == pytest.approx(0.2 + 0.8 * (1 + math.cos(math.pi / 4)) / 2)
    assert rates[12] == rates[13] == pytest.approx(0.2)
    assert all(a > b for a, b in pairwise(rates[4:13]))


def test_options_of_a_config():
    trainer = Trainer(
        epochs=3, lr=1e-3, min_lr=1e-5, warmup_lr=1e-7, warmup_steps=4, accumulate=2, betas=[0.8, 0.9],
        weight_decay=0.1, loss_divisor=1, clip_grad_norm=1.0, eval_every=6, save_every=5, log_every=2,
    )  # fmt: skip
    options = TrainOptions.of(trainer, batches_per_epoch=7, metric="accuracy", seed=9, label="x")
    assert options.schedule == PublishedSchedule(1e-3, 3, 4, 1e-5, 1e-7)
    assert options.total_steps(7) == 12
    assert (options.epochs, options.accumulate, options.loss_divisor, options.metric) == (3, 2, 1, "accuracy")
    assert (options.weight_decay, options.betas, options.clip_grad_norm) == (0.1, (0.8, 0.9), 1.0)
    assert (options.eval_every, options.save_every, options.log_every) == (6, 5, 2)
    assert (options.seed, options.label) == (9, "x")


def test_cosine_ends_with_the_run():
    trainer = Trainer(epochs=3, lr=1e-3, accumulate=2, warmup_steps=4, schedule={"name": "cosine_steps"})
    options = TrainOptions.of(trainer, batches_per_epoch=7, metric="accuracy", seed=0, label="x")
    assert options.schedule == CosineSteps(1e-3, 12, 4, 0.0, 1e-8)
    assert options.loss_divisor is None


def test_unknown_schedule():
    with pytest.raises(UserError, match=r"trainer\.schedule\.name=cosine"):
        build_schedule(Trainer(schedule={"name": "cosine"}), 10)
    with pytest.raises(UserError, match=r"trainer\.schedule\.power"):
        build_schedule(Trainer(schedule={"name": "published", "power": 2}), 10)
