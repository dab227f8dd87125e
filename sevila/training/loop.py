"""The one training loop: a head is trained, evaluated and saved, and everything goes on after an interruption.

Of the model only `task.head` is trained and stored. A run that was interrupted anywhere and resumed does the same
arithmetic as one that was not: positions, random generators and running averages are all part of the state, and the
loader is asked for the rest of the epoch.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor, nn

from sevila.errors import UserError
from sevila.progress import ProgressBar
from sevila.training import checkpoint
from sevila.training.checkpoint import Snapshot, TrainState
from sevila.training.device import (
    Interrupted,
    Sigterm,
    Stopped,
    from_main,
    gather_bytes,
    make_accelerator,
    rng_state,
    seed_all,
    set_rng_state,
    still_rng,
)
from sevila.training.optim import TrainOptions, adamw

Log = Callable[[dict[str, Any]], None]
Loader = Callable[[int, int], Iterable[Any]]
Sums = dict[str, list[float]]  # of what is to be logged: name -> [sum, count]


class Task(Protocol):
    """What the loop trains. `loss` and `evaluate` move their data to the device themselves."""

    @property
    def head(self) -> nn.Module:
        """What is trained; all else is frozen."""
        ...

    def loss(self, batch: Any) -> tuple[Tensor, dict[str, float]]:
        """Scalar loss [], the mean over the batch, and further numbers to log. `batch.records` have a `qid`."""
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


def train(
    task: Task,
    loader: Loader,
    batches_per_epoch: int,
    options: TrainOptions,
    folder: Path,
    log: Log,
    *,
    accelerator: Accelerator | None = None,
    resume: bool = False,
) -> TrainState:
    """Train `task.head`, which ends with the *last* weights; the best are in `checkpoint.find(folder, "best")`.

    loader(epoch, skip) gives the micro-batches of an epoch (of this process) without the first `skip`;
    `batches_per_epoch` is their number. Their order must follow from the epoch alone, and a DataLoader needs
    a `generator` of its own. `folder` receives the checkpoints. `log` receives flat records: always "step"
    and "epoch", then "lr" and "train/..." or "val/...", no times; on the main process only. After a kill a
    resumed run logs again what came after its checkpoint: the owner of `log` drops records beyond the step
    that it starts from (`checkpoint.last_step(folder)`), and evaluations beyond `checkpoint.last_evaluated(folder)`.

    Raises UserError where there is something to resume and `resume` is off, for a checkpoint that does not
    fit, and for a loss or gradient that is not finite (nothing is saved over then). Weights are saved before they
    are evaluated. On SIGTERM the current step is finished and saved, and Stopped (SystemExit, code 143) is raised.
    """
    if batches_per_epoch < 1:
        raise UserError("the training set gives no batch; check the data set's split and the batch size")
    run = _Run(task, loader, batches_per_epoch, options, folder, log, accelerator or make_accelerator())
    run.begin(resume)
    state, quiet = run.state, not run.accelerator.is_main_process
    with Sigterm() as run.sigterm, ProgressBar(options.label, run.total, state.step, "step", quiet) as run.bar:
        run.between_steps()  # a run may have been stopped between a step and its evaluation
        while state.step < run.total:
            run.rest_of_epoch()
        if run.sigterm.requested:  # it came after the last step's checks
            run.leave()
    run.head.eval()
    return state


@dataclass
class _Run:
    """One call of `train`: what it holds, and its steps in the order in which they are done."""

    task: Task
    loader: Loader
    batches_per_epoch: int
    options: TrainOptions
    folder: Path
    log: Log
    accelerator: Accelerator

    def __post_init__(self) -> None:
        self.several = self.accelerator.num_processes > 1
        self.total = self.options.total_steps(self.batches_per_epoch)
        self.head = self.task.head.to(self.accelerator.device)
        self.parameters = [p for p in self.head.parameters() if p.requires_grad]
        self.optimizer = adamw(self.head, self.options.weight_decay, self.options.betas)
        self.state = TrainState()
        self.saved = (0, 0)  # step and evaluation of the newest checkpoint
        self.plan = {  # what a run must not change when it goes on
            "batches_per_epoch": self.batches_per_epoch,
            "accumulate": self.options.accumulate,
            "seed": self.options.seed,
            "processes": self.accelerator.num_processes,
        }
        self.sigterm: Sigterm
        self.bar: ProgressBar

    # --- 1. begin: at the last checkpoint, or at the seed with the first process's weights ---

    def begin(self, resume: bool) -> None:
        last = from_main(self.accelerator, lambda: self._last(resume))
        if last is not None:
            self._restore(checkpoint.load(self.folder / last, self.head, self.plan))
        else:
            seed_all(self.options.seed + self.accelerator.process_index)
            if self.several:
                with torch.no_grad():
                    for tensor in self.head.state_dict().values():
                        tensor.copy_(broadcast(tensor, from_process=0))
        # a kill may have left folders that do not count
        from_main(self.accelerator, lambda: checkpoint.tidy(self.folder, self.state))

    def _last(self, resume: bool) -> str | None:
        """The name of the last checkpoint. UserError for one that was not asked to be gone on with."""
        last = checkpoint.find(self.folder, "last")
        if last is not None and not resume:
            raise UserError(f"{self.folder}: holds checkpoints already; resume=true goes on, or name a new run_dir")
        return None if last is None else last.name

    def _restore(self, snapshot: Snapshot) -> None:
        groups = self.optimizer.state_dict()["param_groups"]  # the options', not the checkpoint's
        self.optimizer.load_state_dict({"state": snapshot.optimizer, "param_groups": groups})
        set_rng_state(snapshot.rngs[self.accelerator.process_index])
        self.state = snapshot.state
        self.saved = (self.state.step, self.state.evaluated)
        if not self.accelerator.is_main_process:
            self.state.averages = {}

    # --- 2. an epoch, from the micro-batch where the run stands ---

    def rest_of_epoch(self) -> None:
        epoch = self.state.epoch
        with still_rng():
            batches = iter(self.loader(epoch, self.state.batch))
        self.head.train()
        try:
            while self.state.epoch == epoch and self.state.step < self.total:
                self._step(batches)
                self.between_steps()
        finally:
            if isinstance(batches, Generator):
                batches.close()  # its workers end now, not when a traceback lets go of it

    # --- 3. an optimiser step ---

    def _step(self, batches: Iterator[Any]) -> None:
        state, options = self.state, self.options
        if isinstance(self.task, Annealed):
            self.task.anneal(state.step / self.total)
        # forward and backward of the next micro-batches: their gradients add up
        count = min(options.accumulate, self.batches_per_epoch - state.batch)
        done = 0
        for batch in islice(batches, count):
            loss = self._backward(batch, options.loss_divisor or count)
            done += 1
        if done < count:
            raise ValueError(f"the loader gave {state.batch + done} batches, not {self.batches_per_epoch}")
        # the learning rate follows from the position
        lr = options.schedule.lr(state.epoch, state.batch + count - 1, state.step)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        # the gradient, then AdamW
        self._finish_gradient()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        # where the next step stands
        state.step += 1
        state.batch += count
        if state.batch >= self.batches_per_epoch:
            state.epoch, state.batch = state.epoch + 1, 0
        self.bar.update(state.step, f"loss {loss:.4f}")
        if state.step % options.log_every == 0 or state.step == self.total:
            self._log_averages(lr)

    def _backward(self, batch: Any, divisor: float) -> float:
        """The task's loss of a micro-batch and its gradient. UserError, which names the questions, for NaN."""
        with self.accelerator.autocast():
            loss, numbers = self.task.loss(batch)
        value = float(loss.detach())
        if not math.isfinite(value):
            qids = ", ".join(str(record.qid) for record in batch.records)
            raise UserError(
                f"step {self.state.step + 1}: the loss is {value} on the questions {qids}; "
                "look at these rows; a new run with a lower trainer.lr or with trainer.clip_grad_norm may help"
            )
        self.accelerator.backward(loss / divisor)
        for name, number in {**numbers, "loss": value}.items():
            add(self.state.averages, name, number)
        return value

    def _finish_gradient(self) -> None:
        """Mean over the processes, finite, clipped if asked."""
        if self.several:
            for parameter in self.parameters:
                gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                parameter.grad = self.accelerator.reduce(gradient, reduction="mean")
        limit = self.options.clip_grad_norm
        norm = float(nn.utils.clip_grad_norm_(self.parameters, math.inf if limit is None else limit))
        if not math.isfinite(norm):
            raise UserError(
                f"step {self.state.step + 1}: the gradient's norm is {norm} though the loss is finite; "
                "a new run with precision=fp32 or a lower trainer.lr may help"
            )
        add(self.state.averages, "grad_norm", norm)

    # --- 4. between two steps: evaluate and save where it is time; save and leave where that was asked ---

    def between_steps(self) -> None:
        state, every = self.state, self.options.save_every
        save = state.step == self.total or (every is not None and state.step % every == 0)
        stop = self._stop_requested()
        if self._evaluation_due() and not stop:
            self._save()  # evaluation reads other videos: where one is faulty, the training is not lost
            stop = not self._evaluate()
            save = True
        if (save or stop) and state.step > 0:
            self._save()
        if stop:
            self.leave()

    def _stop_requested(self) -> bool:
        if not self.several:
            return self.sigterm.requested
        asked = torch.tensor(float(self.sigterm.requested), device=self.accelerator.device)
        return bool(self.accelerator.reduce(asked, reduction="sum") > 0)  # all processes stop at the same step

    def _evaluation_due(self) -> bool:
        state, every = self.state, self.options.eval_every
        if state.step == 0 or state.evaluated == state.step:
            return False
        regular = state.batch == 0 if every is None else state.step % every == 0
        return regular or state.step == self.total

    def _evaluate(self) -> bool:
        """Evaluate and remember the best; False when SIGTERM came first (a resumed run does it again)."""
        self.head.eval()
        try:
            with still_rng(), torch.no_grad(), nullcontext() if self.several else self.sigterm.at_once():
                metrics = self.task.evaluate()
        except Interrupted:
            return False
        finally:
            self.head.train()
        name, state = self.options.metric, self.state
        value = metrics.get(name)
        if value is None or not math.isfinite(value):
            known = ", ".join(sorted(metrics)) or "none"
            raise UserError(f"the best head is chosen by {name}, of which evaluation gave {value}; it gave: {known}")
        state.evaluated = state.step
        if state.best_metric is None or value > state.best_metric:
            state.best_metric, state.best_step = float(value), state.step
            state.best_metrics = dict(metrics)
        self._record({f"val/{key}": number for key, number in metrics.items()})
        best = f"(best {state.best_metric:.2f} at step {state.best_step})"
        self.bar.note(state.step, f"val {name} {value:.2f} {best}")
        return True

    def _save(self) -> None:
        state = self.state
        if self.saved == (state.step, state.evaluated):
            return
        rngs = [rng_state()]
        if self.several:
            rngs = [_from_bytes(data) for data in gather_bytes(self.accelerator, _to_bytes(rngs[0]))]
            self._merge_averages()
        from_main(self.accelerator, lambda: self._write(rngs))  # a full disk ends all processes
        self.saved = (state.step, state.evaluated)

    def _write(self, rngs: list[dict[str, Any]]) -> None:
        snapshot = Snapshot(self.state, self.plan, self.optimizer.state_dict()["state"], rngs)
        checkpoint.save(self.folder, self.head, snapshot)

    def leave(self) -> None:
        state = self.state
        kept = "its checkpoint is saved" if state.step else "nothing was done yet"
        self.bar.say(
            f"sevila: stopped by SIGTERM at step {state.step} of {self.total}: {kept}; "
            "the same command with resume=true goes on from there"
        )
        raise Stopped

    # --- what is logged: running averages since the last record, of all processes ---

    def _log_averages(self, lr: float) -> None:
        if self.several:
            self._merge_averages()
        means = {name: total / count for name, (total, count) in self.state.averages.items()}
        self.state.averages = {}
        if self.accelerator.is_main_process:
            self._record({"lr": lr, **{f"train/{name}": mean for name, mean in means.items()}})
            self.bar.note(self.state.step, f"loss {means['loss']:.4f}  lr {lr:.2e}")

    def _merge_averages(self) -> None:
        """Bring the processes' sums together on the main one."""
        parts = gather_bytes(self.accelerator, json.dumps(self.state.averages).encode())
        merged = merge(json.loads(part) for part in parts)
        self.state.averages = merged if self.accelerator.is_main_process else {}

    def _record(self, numbers: dict[str, Any]) -> None:
        if self.accelerator.is_main_process:
            self.log({"step": self.state.step, "epoch": self.state.epoch, **numbers})


def add(sums: Sums, name: str, value: float) -> None:
    """Count one more value of `name`."""
    entry = sums.setdefault(name, [0.0, 0])
    entry[0] += float(value)
    entry[1] += 1


def merge(parts: Iterable[Sums]) -> Sums:
    """The sums of several processes together."""
    merged: Sums = {}
    for part in parts:
        for name, (total, count) in part.items():
            before = merged.get(name, [0.0, 0])
            merged[name] = [before[0] + total, before[1] + count]
    return merged


def _to_bytes(state: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def _from_bytes(data: bytes) -> dict[str, Any]:
    return torch.load(io.BytesIO(data), weights_only=True)
