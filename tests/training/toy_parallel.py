"""A run whose batches are shared out among the processes, and what can go wrong in one of them.

`toy_parallel.py FOLDER` does it all and leaves FOLDER/RANK.json, what each process was told. `toy_parallel.py FOLDER
kill` is a run whose process 1 is killed; with `stuck` that one fails while process 0 hears no signal.
"""

from __future__ import annotations

import atexit
import errno
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import distributed, nn

from sevila import processes
from sevila.cli import guarded
from sevila.data.records import Question
from sevila.errors import UserError
from sevila.processes import check_same, from_main, gather_bytes, meet, together
from sevila.training import checkpoint
from sevila.training.device import make_accelerator
from sevila.training.loop import train
from sevila.training.optim import CosineSteps, TrainOptions


@dataclass
class Batch:
    records: list
    x: torch.Tensor


class Task:
    """`broken` may spoil the loss of the third micro-batch."""

    def __init__(self, seed: int, broken: Callable[[torch.Tensor], torch.Tensor] | None = None) -> None:
        torch.manual_seed(seed)
        self.head = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 1))
        self.seed, self.broken, self.seen = seed, broken, 0

    def loss(self, batch: Batch):
        self.seen += 1
        loss = (self.head(batch.x) - batch.x.sum(1, keepdim=True)).pow(2).mean()
        return (self.broken(loss) if self.broken and self.seen == 3 else loss), {"rank": float(self.seed)}

    def evaluate(self):
        return {"score": -float(self.head(torch.eye(4)).pow(2).mean())}


def loader_of(rank: int, processes: int, rows: int = 2, faulty: int | None = None):
    def loader(epoch: int, skip: int):
        for index in range(skip, 5):
            if index == faulty:
                raise UserError(f"video v{rank}.mp4: cannot be read")
            x = torch.randn(rows, 4, generator=torch.Generator().manual_seed(10 * epoch + index))
            yield Batch([Question(f"q{rank}-{index}", "v", "?", ("a", "b"), 0)], x[rank::processes])

    return loader


def run(folder: Path, accelerator: Accelerator, **changes: Any) -> tuple[Task, list[dict]]:
    """Each process starts from other weights (the first one's count) and sees its rows of a batch."""
    rank, records = accelerator.process_index, []
    loader = loader_of(rank, accelerator.num_processes, faulty=changes.pop("faulty", None))
    task, batches = Task(rank, changes.pop("broken", None)), changes.pop("batches", 5)
    options = TrainOptions(
        **{"epochs": 2, "metric": "score", "accumulate": 2, "log_every": 2, **changes}, schedule=CosineSteps(0.02, 6)
    )
    train(task, loader, batches, options, folder, records.append, accelerator=accelerator)
    assert bool(records) == accelerator.is_main_process
    return task, records


def check_collectives(rank: int) -> None:
    """What the first process makes is everybody's; bytes of any length come together; one asks for all."""
    assert from_main(lambda: {"rank": rank, "é": [1.5, None]}) == {"rank": 0, "é": [1.5, None]}
    assert gather_bytes(b"x" * (3 - 2 * rank)) == [b"xxx", b"x"] and gather_bytes(b"") == [b"", b""]
    assert meet(rank == 1) is True and meet() is False
    check_same({"seed": 1})


# -- faults of one process; the other is told ---


def lose_memory(loss: torch.Tensor) -> torch.Tensor:
    raise MemoryError


def sleep(seconds: float) -> None:
    """As a long share of labels does: nothing of torch's, and no look at the others."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(seconds / 2)


def divide(rank: int) -> None:
    """Process 1 fails while process 0 is busy for long."""
    sleep(200) if rank == 0 else 1 // 0


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device", "run/x")


def no_room(folder: Path, accelerator: Accelerator) -> None:
    """The first process cannot write a checkpoint."""
    save, checkpoint.save = checkpoint.save, full
    try:
        run(folder, accelerator)
    finally:
        checkpoint.save = save


def faults(folder: Path, accelerator: Accelerator) -> dict[str, Callable[[], object]]:
    rank = accelerator.process_index
    second = rank == 1
    return {
        "loader": lambda: run(folder / "a", accelerator, faulty=3 if second else None),
        "loss": lambda: run(folder / "b", accelerator, broken=(lambda loss: loss * float("nan")) if second else None),
        "memory": lambda: run(folder / "c", accelerator, broken=lose_memory if second else None),
        "disk": lambda: no_room(folder / "d", accelerator),
        "data": lambda: run(folder / "e", accelerator, batches=5 - rank),
        "words": lambda: check_same({"seed": 3, "trainer.lr": 0.1 * (rank + 1)}),
        "busy": lambda: divide(rank),
        "first": lambda: from_main(lambda: 1 // 0),
    }


def told(fault: Callable[[], object]) -> list[str]:
    try:
        with together():
            fault()
    except Exception as error:
        return [type(error).__name__, str(error)]
    return []


def kill(folder: Path, accelerator: Accelerator) -> None:
    die = (lambda loss: os.kill(os.getpid(), signal.SIGKILL)) if accelerator.process_index == 1 else None
    run(folder, accelerator, broken=die)


def stuck(folder: Path, accelerator: Accelerator) -> None:
    """As in a call of a device that does not return."""
    processes.LEAVE = 0.5
    if accelerator.process_index == 1:
        raise UserError("no such file")
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGURG})
    time.sleep(200)


def parted() -> None:
    """Called after what the library does at the end: threads of a group would still be at work."""
    if distributed.is_initialized():
        print("the process group was not left", file=sys.stderr)
        os._exit(3)


def main(folder: Path, only: str) -> None:
    atexit.register(parted)
    accelerator = make_accelerator("cpu" if torch.cuda.is_available() else "auto")  # two have no GPU each
    rank = accelerator.process_index
    if only:
        with together():
            {"kill": kill, "stuck": stuck}[only](folder, accelerator)
    answers = {name: told(fault) for name, fault in faults(folder, accelerator).items()}
    (folder / f"{rank}.json").write_text(json.dumps(answers))
    with together():
        check_collectives(rank)
        task, records = run(folder / "run", accelerator)
        carried, _ = run(folder / "carried", accelerator, carry_over=True)
    if records:
        heads = {"head": task.head.state_dict(), "carried": carried.head.state_dict()}
        torch.save({**heads, "records": records}, folder / "result.pt")


if __name__ == "__main__":
    raise SystemExit(guarded(lambda: main(Path(sys.argv[1]), "".join(sys.argv[2:]))))
