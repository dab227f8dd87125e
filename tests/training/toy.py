"""A task so small that a whole run takes milliseconds, yet all of it is random: data, dropout, evaluation.

As a script: `python toy.py CHECKPOINTS RESUME SECONDS_A_STEP`, one JSON line a log record on stdout.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sevila.data.records import Question
from sevila.training.checkpoint import TrainState
from sevila.training.device import make_accelerator
from sevila.training.loop import train
from sevila.training.optim import CosineSteps, TrainOptions

BATCHES = 7


@dataclass
class Batch:
    records: list[Question]
    x: Tensor
    y: Tensor


def loader(epoch: int, skip: int) -> Iterator[Batch]:
    """Micro-batches of two; their content follows from (epoch, index) alone."""
    for index in range(skip, BATCHES):
        generator = torch.Generator().manual_seed(1000 * epoch + index)
        x = torch.randn(2, 4, generator=generator)
        records = [Question(f"q{epoch}-{index}-{i}", "v", "?", ("a", "b"), 0) for i in range(2)]
        yield Batch(records, x, x.sum(1, keepdim=True))


@dataclass
class Toy:
    """Regression through dropout, with noise from all three generators."""

    head: nn.Module = field(default_factory=lambda: make_head())
    seconds: float = 0.0
    evaluations: int = 0

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        time.sleep(self.seconds)
        noise = random.random() + float(np.random.rand())
        error = (self.head(batch.x) - batch.y + 0.1 * noise).pow(2).mean()
        return error, {"noise": noise}

    def evaluate(self) -> dict[str, float]:
        assert not self.head.training and not torch.is_grad_enabled()
        self.evaluations += 1
        random.random(), np.random.rand(), torch.rand(3)  # an evaluation that moves every generator
        x = torch.eye(4)
        error = (self.head(x) - x.sum(1, keepdim=True)).pow(2).mean()
        return {"score": -float(error)}


def make_head() -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Dropout(0.5), nn.Linear(8, 1))


def make_options(**changes: Any) -> TrainOptions:
    values = {"epochs": 3, "metric": "score", "accumulate": 2, "log_every": 3, "save_every": 2}
    values["schedule"] = CosineSteps(0.05, total_steps=12, warmup_steps=2)
    return TrainOptions(**{**values, **changes})


def run(
    folder: Path,
    log: Any = lambda record: None,
    resume: bool = False,
    task: Toy | None = None,
    **changes: Any,
):
    """A whole run on the CPU: the task and the final state."""
    task = task or Toy()
    state: TrainState = train(
        task,
        loader,
        BATCHES,
        make_options(**changes),
        folder,
        log,
        accelerator=make_accelerator("cpu"),
        resume=resume,
    )
    return task, state


if __name__ == "__main__":
    torch.set_num_threads(1)
    run(
        Path(sys.argv[1]),
        lambda record: print(json.dumps(record), flush=True),
        resume=sys.argv[2] == "resume",
        task=Toy(seconds=float(sys.argv[3])),
        log_every=1,
    )
