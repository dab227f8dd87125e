"""The one training loop: steps, logging, evaluation, checkpoints, resume.

Of the model only `task.head` is trained and stored. A run that was interrupted anywhere and resumed does the
same arithmetic as one that was not: positions, random generators and running averages are all part of the
state, and the loader is asked for the rest of the epoch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, gather_object
from torch import Tensor, nn

from sevila.errors import UserError
from sevila.training import averages, checkpoint
from sevila.training.checkpoint import Snapshot, TrainState
from sevila.training.device import make_accelerator
from sevila.training.interrupt import Interrupted, Sigterm, Stopped
from sevila.training.optim import adamw
from sevila.training.options import TrainOptions
from sevila.training.progress import ProgressBar
from sevila.training.rng import rng_state, seed_all, set_rng_state, still_rng

Log = Callable[[dict[str, Any]], None]
Loader = Callable[[int, int], Iterable[Any]]


class Task(Protocol):
    """What the loop trains. `loss` and `evaluate` move their data to the device themselves."""

    head: nn.Module

    def loss(self, batch: Any) -> tuple[Tensor, dict[str, float]]:
        """Scalar loss, the mean over the batch, and further numbers to log. `batch.records` have a `qid`."""
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
    run = _Run(task, loader, batches_per_epoch, options, folder, log, accelerator or make_accelerator())
    run.start(resume)
    run.train()
    return run.state


class _Run:
    """One call of `train`."""

    def __init__(
        self,
        task: Task,
        loader: Loader,
        batches_per_epoch: int,
        options: TrainOptions,
        folder: Path,
        log: Log,
        accelerator: Accelerator,
    ) -> None:
        if batches_per_epoch < 1:
            raise UserError("the training set gives no batch; check the data set's split and the batch size")
        self.task, self.loader, self.options = task, loader, options
        self.batches_per_epoch = batches_per_epoch
        self.folder, self.log, self.accelerator = folder, log, accelerator
        self.total = options.total_steps(batches_per_epoch)
        self.head = task.head.to(accelerator.device)
        self.parameters = [p for p in self.head.parameters() if p.requires_grad]
        self.optimizer = adamw(self.head, options.weight_decay, options.betas)
        self.state = TrainState()
        self.saved = (0, 0)
        self.plan = {
            "batches_per_epoch": batches_per_epoch,
            "accumulate": options.accumulate,
            "seed": options.seed,
            "processes": accelerator.num_processes,
        }

    # --- beginning ---

    def start(self, resume: bool) -> None:
        last = checkpoint.find(self.folder, "last")
        if last is not None and not resume:
            raise UserError(f"{self.folder}: holds checkpoints already; resume=true goes on, or name a new run_dir")
        if last is None:
            seed_all(self.options.seed + self.accelerator.process_index)
            self._share_weights()
        else:
            self._restore(checkpoint.load(last, self.head, self.plan))
        if self.accelerator.is_main_process:  # a kill may have left folders that do not count
            checkpoint.tidy(self.folder, self.state, self.options.keep_all)
        self.accelerator.wait_for_everyone()

    def _restore(self, snapshot: Snapshot) -> None:
        groups = self.optimizer.state_dict()["param_groups"]  # the options', not the checkpoint's
        self.optimizer.load_state_dict({"state": snapshot.optimizer, "param_groups": groups})
        set_rng_state(snapshot.rngs[self.accelerator.process_index])
        self.state = snapshot.state
        self.saved = (self.state.step, self.state.evaluated)
        if not self.accelerator.is_main_process:
            self.state.averages = {}

    def _share_weights(self) -> None:
        if self.accelerator.num_processes > 1:
            with torch.no_grad():
                for tensor in self.head.state_dict().values():
                    tensor.copy_(broadcast(tensor, from_process=0))

    # --- the loop ---

    def train(self) -> None:
        label, main = self.options.label, self.accelerator.is_main_process
        bar = ProgressBar(label, self.state.step, self.total, quiet=not main)
        with Sigterm() as sigterm, bar:
            self.sigterm, self.bar = sigterm, bar
            self._between_steps()  # a run may have been stopped between a step and its evaluation
            while self.state.step < self.total:
                self._rest_of_epoch()
            if sigterm.requested:  # it came after the last step's checks
                self._leave()
        self.head.eval()

    def _rest_of_epoch(self) -> None:
        epoch = self.state.epoch
        with still_rng():
            batches = iter(self.loader(epoch, self.state.batch))
        self.head.train()
        try:
            while self.state.epoch == epoch and self.state.step < self.total:
                self._step(batches)
                self._between_steps()
        finally:
            if isinstance(batches, Generator):
                batches.close()  # its workers end now, not when a traceback lets go of it

    def _step(self, batches: Iterator[Any]) -> None:
        """One optimiser step over the next micro-batches."""
        state, options = self.state, self.options
        count = min(options.accumulate, self.batches_per_epoch - state.batch)
        divisor = options.loss_divisor or count
        if isinstance(self.task, Annealed):
            self.task.anneal(state.step / self.total)
        done = 0
        for batch in islice(batches, count):
            loss = self._backward(batch, divisor)
            done += 1
        if done < count:
            raise ValueError(f"the loader gave {state.batch + done} batches, not {self.batches_per_epoch}")
        lr = options.schedule.lr(state.epoch, state.batch + count - 1, state.step)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self._finish_gradient()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._advance(count)
        self.bar.step(state.step, loss)
        if state.step % options.log_every == 0 or state.step == self.total:
            self._log_averages(lr)

    def _backward(self, batch: Any, divisor: float) -> float:
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
            averages.add(self.state.averages, name, number)
        return value

    def _finish_gradient(self) -> None:
        """Mean over the processes, finite, clipped if asked."""
        for parameter in self.parameters:
            if self.accelerator.num_processes > 1:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                parameter.grad = self.accelerator.reduce(parameter.grad, reduction="mean")
        limit = self.options.clip_norm
        norm = float(nn.utils.clip_grad_norm_(self.parameters, math.inf if limit is None else limit))
        if not math.isfinite(norm):
            raise UserError(
                f"step {self.state.step + 1}: the gradient's norm is {norm} though the loss is finite; "
                "a new run with precision=fp32 or a lower trainer.lr may help"
            )
        averages.add(self.state.averages, "grad_norm", norm)

    def _advance(self, count: int) -> None:
        state = self.state
        state.step += 1
        state.batch += count
        if state.batch >= self.batches_per_epoch:
            state.epoch, state.batch = state.epoch + 1, 0

    # --- between two steps ---

    def _between_steps(self) -> None:
        """Evaluate and save where it is time; save and leave where that was asked."""
        state, options = self.state, self.options
        every = options.save_every
        save = state.step == self.total or (every is not None and state.step % every == 0)
        stop = self._stop_requested()
        if self._evaluation_due() and not stop:
            self._save()  # it reads other videos: where one is faulty, the training is not lost
            stop = not self._evaluate()
            save = True
        if (save or stop) and state.step > 0:
            self._save()
        if stop:
            self._leave()

    def _stop_requested(self) -> bool:
        if self.accelerator.num_processes == 1:
            return self.sigterm.requested
        asked = torch.tensor(float(self.sigterm.requested), device=self.accelerator.device)
        total = self.accelerator.reduce(asked, reduction="sum")
        return bool(total > 0)  # all processes stop at the same step

    def _evaluation_due(self) -> bool:
        state, every = self.state, self.options.evaluate_every
        if state.step == 0 or state.evaluated == state.step:
            return False
        regular = state.batch == 0 if every is None else state.step % every == 0
        return regular or state.step == self.total

    def _evaluate(self) -> bool:
        """Evaluate and remember the best; False when SIGTERM came first (a resumed run does it again)."""
        alone = self.accelerator.num_processes == 1
        self.head.eval()
        try:
            with still_rng(), torch.no_grad(), self.sigterm.at_once() if alone else nullcontext():
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
        position = (state.step, state.evaluated)
        if self.saved == position:
            return
        rngs = [rng_state()]
        if self.accelerator.num_processes > 1:
            rngs = gather_object(rngs)
            self._merge_averages()
        if self.accelerator.is_main_process:
            optimizer = self.optimizer.state_dict()["state"]
            snapshot = Snapshot(state, self.plan, optimizer, rngs)
            checkpoint.save(self.folder, self.head, snapshot, self.options.keep_all)
        self.saved = position
        self.accelerator.wait_for_everyone()

    def _leave(self) -> None:
        state = self.state
        kept = "its checkpoint is saved" if state.step else "nothing was done yet"
        self.bar.say(
            f"sevila: stopped by SIGTERM at step {state.step} of {self.total}: {kept}; "
            "the same command with resume=true goes on from there"
        )
        raise Stopped

    # --- numbers ---

    def _merge_averages(self) -> None:
        """Bring the processes' sums together on the main one."""
        merged = averages.merge(gather_object([self.state.averages]))
        self.state.averages = merged if self.accelerator.is_main_process else {}

    def _log_averages(self, lr: float) -> None:
        if self.accelerator.num_processes > 1:
            self._merge_averages()
        means = averages.means(self.state.averages)
        self.state.averages = {}
        if self.accelerator.is_main_process:
            self._record({"lr": lr, **{f"train/{name}": mean for name, mean in means.items()}})
            self.bar.note(self.state.step, f"loss {means['loss']:.4f}  lr {lr:.2e}")

    def _record(self, numbers: dict[str, Any]) -> None:
        if self.accelerator.is_main_process:
            self.log({"step": self.state.step, "epoch": self.state.epoch, **numbers})
