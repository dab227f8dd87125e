"""A run whose batches are shared out among the processes: `torchrun ... toy_parallel.py CHECKPOINTS`."""

from __future__ import annotations

import errno
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn

from sevila.errors import UserError
from sevila.training import checkpoint
from sevila.training.device import from_main, gather_bytes, make_accelerator
from sevila.training.loop import train
from sevila.training.optim import CosineSteps, TrainOptions


@dataclass
class Batch:
    records: list
    x: torch.Tensor


class Task:
    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.head = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 1))
        self.seed = seed

    def loss(self, batch: Batch):
        return (self.head(batch.x) - batch.x.sum(1, keepdim=True)).pow(2).mean(), {"rank": float(self.seed)}

    def evaluate(self):
        return {"score": -float(self.head(torch.eye(4)).pow(2).mean())}


def run(folder: Path, accelerator: Accelerator) -> tuple[Task, list[dict]]:
    """Each process starts from other weights (the first one's count) and sees its rows of a batch."""
    rank, processes, records = accelerator.process_index, accelerator.num_processes, []

    def loader(epoch: int, skip: int):
        for index in range(skip, 5):
            x = torch.randn(2, 4, generator=torch.Generator().manual_seed(10 * epoch + index))
            yield Batch([], x[rank::processes])

    options = TrainOptions(CosineSteps(0.02, 6), epochs=2, metric="score", accumulate=2, log_every=2)
    task = Task(seed=rank)
    train(task, loader, 5, options, folder, records.append, accelerator=accelerator)
    assert bool(records) == accelerator.is_main_process
    return task, records


def check_collectives(accelerator: Accelerator) -> None:
    """What the first process makes or refuses is everybody's; bytes of any length come together."""
    rank = accelerator.process_index
    assert from_main(accelerator, lambda: {"rank": rank, "é": [1.5, None]}) == {"rank": 0, "é": [1.5, None]}
    assert gather_bytes(accelerator, b"x" * (3 - 2 * rank)) == [b"xxx", b"x"]

    def refuse() -> None:
        raise UserError(f"refused by {rank}")

    def fail() -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "run/x")

    for make, kind, told in ((refuse, UserError, "refused by 0"), (fail, OSError, "run/x: No space left on device")):
        try:
            from_main(accelerator, make)
        except Exception as error:
            assert isinstance(error, UserError if rank else kind)
            assert rank == 0 or str(error).startswith(told)
        else:
            raise AssertionError("not refused")


def check_full_disk(folder: Path, accelerator: Accelerator) -> None:
    """A checkpoint that the first process cannot write ends all of them."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "run/x")

    save, checkpoint.save = checkpoint.save, full
    try:
        run(folder, accelerator)
    except (UserError, OSError) as error:
        assert isinstance(error, OSError if accelerator.is_main_process else UserError)
    else:
        raise AssertionError("written")
    checkpoint.save = save


if __name__ == "__main__":
    accelerator = make_accelerator("cpu")
    check_collectives(accelerator)
    check_full_disk(Path(sys.argv[1]), accelerator)
    task, records = run(Path(sys.argv[1]), accelerator)
    if records:
        torch.save({"head": task.head.state_dict(), "records": records}, Path(sys.argv[1]) / "result.pt")
