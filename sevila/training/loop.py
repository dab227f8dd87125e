"""The one training loop: a head is trained, evaluated and saved, and everything goes on after an interruption.

Of the model only `task.head` is trained and stored. A run that was interrupted anywhere and resumed does the same
arithmetic as one that was not: positions, random generators and running averages are all part of the state, and the
loader is asked for the rest of the epoch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import torch
from accelerate import Accelerator
from torch import distributed, nn

from sevila.errors import UserError
from sevila.processes import check_same, from_main, gather_bytes, meet
from sevila.progress import ProgressBar
from sevila.training import checkpoint
from sevila.training.checkpoint import Snapshot, TrainState
from sevila.training.device import (
    Interrupted,
    Sigterm,
    Stopped,
    make_accelerator,
    rng_states,
    seed_all,
    set_rng_state,
    still_rng,
)
from sevila.training.numbers import Number, Pass, add, merge, not_finite, on_host
from sevila.training.optim import TrainOptions, adamw, average_gradients
from sevila.training.task import Annealed, Task

Log = Callable[[dict[str, Any]], None]
Loader = Callable[[int, int], Iterable[Any]]


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
    if options.carry_over and batches_per_epoch < options.accumulate:
        raise UserError(
            f"trainer.accumulate={options.accumulate}: an epoch has {batches_per_epoch} batches, too few for a step "
            "with trainer.carry_over=true; accumulate fewer"
        )
    run = _Run(task, loader, batches_per_epoch, options, folder, log, accelerator or make_accelerator())
    run.begin(resume)
    state, quiet = run.state, not run.accelerator.is_main_process
    with Sigterm() as run.sigterm, ProgressBar(options.label, run.total, state.step, "step", quiet) as run.bar:
        run.meet()
        run.between_steps()  # a run may have been stopped between a step and its evaluation
        while state.step < run.total:
            run.rest_of_epoch()
        if run.meet():  # it came after the last step's checks
            run.leave()
    run.optimizer.zero_grad()  # of an epoch's last micro-batches, which no step has taken
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
        self.stop = False  # whether SIGTERM came, to any process
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
        check_same(self.plan)
        last = from_main(lambda: self._last(resume))
        if last is not None:
            name, digest = last
            self._restore(checkpoint.load(self.folder / name, self.head, self.plan, digest))
        else:
            seed_all(self.options.seed + self.accelerator.process_index)
            if self.several:
                meet()
                for tensor in self.head.state_dict().values():
                    distributed.broadcast(tensor, 0)
        # a kill may have left folders that do not count
        from_main(lambda: checkpoint.tidy(self.folder, self.state))

    def _last(self, resume: bool) -> tuple[str, str] | None:
        """The last checkpoint's name and checksum. UserError for one that was not asked to be gone on with."""
        last = checkpoint.find(self.folder, "last")
        if last is not None and not resume:
            raise UserError(f"{self.folder}: holds checkpoints already; resume=true goes on, or name a new run_dir")
        return None if last is None else (last.name, checkpoint.mark(last))

    def _restore(self, snapshot: Snapshot) -> None:
        groups = self.optimizer.state_dict()["param_groups"]  # the options', not the checkpoint's
        self.optimizer.load_state_dict({"state": snapshot.optimizer, "param_groups": groups})
        set_rng_state(snapshot.rngs[self.accelerator.process_index])
        self.state = snapshot.state
        self.saved = (self.state.step, self.state.evaluated)
        for name, parameter in self.head.named_parameters():
            if name in snapshot.gradients:
                parameter.grad = snapshot.gradients[name].to(parameter)
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
        passes = self._passes(batches, count)
        # the learning rate follows from the position
        lr = options.schedule.lr(state.epoch, state.batch + count - 1, state.step)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        # the gradient, then AdamW
        loss = self._finish_gradient(passes)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        # where the next step stands
        state.step += 1
        state.batch += count
        left = self.batches_per_epoch - state.batch
        if options.carry_over and 0 < left < options.accumulate:
            self._carry(batches, left)
        if state.batch >= self.batches_per_epoch:
            state.epoch, state.batch = state.epoch + 1, 0
        self.bar.update(state.step, f"loss {loss:.4f}")
        if state.step % options.log_every == 0 or state.step == self.total:
            self._log_averages(lr)

    def _carry(self, batches: Iterator[Any], count: int) -> None:
        """An epoch's last micro-batches, too few for a step: the next epoch's first step adds to their gradient.

        As in SeViLA's training loop (lavis/tasks/base_task.py of Yui010206/SeViLA, `_train_inner_loop`): it steps, and
        clears the gradient, only where (i + 1) % accum_grad_iters == 0, i counting from each epoch's start. Those of
        the last epoch are in no step.
        """
        self._finish_gradient(self._passes(batches, count), whole=False)
        self.state.batch += count

    def _passes(self, batches: Iterator[Any], count: int) -> list[Pass]:
        """The task's losses of so many micro-batches, and their gradient; nothing waits for the device."""
        passes = []
        for batch in islice(batches, count):
            with self.accelerator.autocast():
                loss, numbers = self.task.loss(batch)
            self.accelerator.backward(loss / self._divisor(count))
            passes.append(Pass(batch.records, {**numbers, "loss": loss.detach()}))
        if len(passes) < count:
            done = self.state.batch + len(passes)
            raise ValueError(f"the loader gave {done} batches, not {self.batches_per_epoch}")
        return passes

    def _divisor(self, count: int) -> float:
        options = self.options
        return options.loss_divisor or (options.accumulate if options.carry_over else count)

    def _finish_gradient(self, passes: list[Pass], whole: bool = True) -> float:
        """Mean over the processes, finite, clipped if asked and if it is `whole`; the last micro-batch's loss.

        UserError, in all processes, for a loss that is not finite, which names the questions, and for such a gradient.
        """
        losses = [torch.as_tensor(each.numbers["loss"]) for each in passes]
        bad = torch.stack(losses).isfinite().logical_not().sum()
        if self.several:
            bad = average_gradients(self.parameters, bad, self.meet)
        last: dict[str, Number] = {"bad": bad}
        if whole:
            limit = self.options.clip_grad_norm
            last["grad_norm"] = nn.utils.clip_grad_norm_(self.parameters, math.inf if limit is None else limit)
        # the one wait for the device
        *rows, end = on_host([*(each.numbers for each in passes), last])
        if end.pop("bad"):
            self._refuse(passes, rows)
        norm = end.get("grad_norm", 0.0)
        if not math.isfinite(norm):
            raise UserError(
                f"step {self.state.step + 1}: the gradient's norm is {norm} though the loss is finite; "
                "a new run with precision=fp32 or a lower trainer.lr may help"
            )
        for row in (*rows, end):
            for name, number in row.items():
                add(self.state.averages, name, number)
        return rows[-1]["loss"]

    def _refuse(self, passes: list[Pass], rows: list[dict[str, float]]) -> NoReturn:
        """UserError for the first loss that is not finite, of whichever process."""
        told = not_finite(passes, rows)
        if told:
            told = (
                f"step {self.state.step + 1}: {told}; look at these rows; "
                "a new run with a lower trainer.lr or with trainer.clip_grad_norm may help"
            )
        raise UserError(next(filter(None, gather_bytes(told.encode()))).decode())

    # --- 4. between two steps: evaluate and save where it is time; save and leave where that was asked ---

    def between_steps(self) -> None:
        state, every = self.state, self.options.save_every
        save = state.step == self.total or (every is not None and state.step % every == 0)
        stop = self.stop if self.several else self.sigterm.requested
        if self._evaluation_due() and not stop:
            self._save()  # evaluation reads other videos: where one is faulty, the training is not lost
            stop = not self._evaluate()
            save = True
        if (save or stop) and state.step > 0:
            self._save()
        if stop:
            self.leave()

    def meet(self) -> bool:
        """Wait for all processes; whether SIGTERM came to any of them: all stop at the same step."""
        self.stop = meet(self.sigterm.requested)
        return self.stop

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
        metrics = from_main(lambda: metrics)  # the same of all processes, were their machines to round differently
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
        rngs = rng_states()
        if self.several:
            self._merge_averages()
        from_main(lambda: self._write(rngs))  # a full disk ends all processes
        self.saved = (state.step, state.evaluated)

    def _write(self, rngs: list[dict[str, Any]]) -> None:
        gradients = {name: p.grad for name, p in self.head.named_parameters() if p.grad is not None}
        snapshot = Snapshot(self.state, self.plan, self.optimizer.state_dict()["state"], rngs, gradients)
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
        parts = gather_bytes(json.dumps(self.state.averages).encode())
        merged = merge(json.loads(part) for part in parts)
        self.state.averages = merged if self.accelerator.is_main_process else {}

    def _record(self, numbers: dict[str, Any]) -> None:
        if self.accelerator.is_main_process:
            self.log({"step": self.state.step, "epoch": self.state.epoch, **numbers})
