from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from sevila.errors import UserError
from sevila.training import checkpoint
from sevila.training.device import Stopped, make_accelerator
from sevila.training.loop import train
from sevila.training.numbers import Sums, add, merge
from sevila.training.optim import CosineSteps, PublishedSchedule, adamw


@pytest.fixture(scope="module")
def whole(toy, tmp_path_factory):
    """An uninterrupted run: (final head bytes, best head bytes, log records, state)."""
    folder = tmp_path_factory.mktemp("whole")
    records = []
    _, state = toy.run(folder, records.append)
    return head_bytes(folder, "last"), head_bytes(folder, "best"), records, state


def head_bytes(folder: Path, which: str) -> bytes:
    return (checkpoint.find(folder, which) / "head.safetensors").read_bytes()


def test_positions_and_log_of_a_whole_run(toy, tmp_path):
    """7 micro-batches by 2: four steps an epoch, the last one of a single batch."""
    records = []
    task, state = toy.run(tmp_path, records.append)
    assert (state.step, state.epoch, state.batch, state.evaluated) == (12, 3, 0, 12)
    assert task.evaluations == 3 and not task.head.training
    losses = [(r["step"], r["epoch"]) for r in records if "train/loss" in r]
    assert losses == [(3, 0), (6, 1), (9, 2), (12, 3)]
    scores = {r["step"]: r["val/score"] for r in records if "val/score" in r}
    assert list(scores) == [4, 8, 12]
    assert state.best_metric == max(scores.values()) and scores[state.best_step] == state.best_metric
    assert set(records[0]) == {"step", "epoch", "lr", "train/loss", "train/noise", "train/grad_norm"}
    assert records[0]["lr"] == 0.05


def test_it_learns(toy, tmp_path):
    records = []
    toy.run(tmp_path, records.append, epochs=12, save_every=None, schedule=CosineSteps(0.05, total_steps=48))
    scores = [r["val/score"] for r in records if "val/score" in r]
    assert scores[0] < -1.0 and scores[-1] > -0.15


def test_only_best_and_last_are_kept(toy, tmp_path):
    _, state = toy.run(tmp_path)
    kept = {p.name for p in tmp_path.iterdir()}
    assert kept == {"last", "best", "step_12", f"step_{state.best_step}"}
    assert (tmp_path / "last").read_text() == "step_12\n"
    assert (tmp_path / "best").read_text() == f"step_{state.best_step}\n"


def test_a_task_may_hear_how_much_is_done(toy, tmp_path, monkeypatch):
    """Before every step, also after a crash; tasks without `anneal` are not told."""

    def hearing(heard):
        task = toy.Toy()
        task.anneal = heard.append
        return task

    whole, first, rest = [], [], []
    toy.run(tmp_path / "whole", task=hearing(whole))
    assert whole == [step / 12 for step in range(12)]
    broken = hearing(first)
    monkeypatch.setattr(broken, "loss", lambda batch: 1 / 0 if first[-1] == 7 / 12 else toy.Toy.loss(broken, batch))
    with pytest.raises(ZeroDivisionError):
        toy.run(tmp_path / "broken", task=broken)
    toy.run(tmp_path / "broken", task=hearing(rest), resume=True)
    assert first == whole[:8] and rest == whole[6:]  # saved every two steps


def test_same_seed_same_bytes_other_seed_other_bytes(toy, tmp_path, whole):
    torch.rand(3)  # the state of the generators before the run does not matter
    toy.run(tmp_path / "a")
    toy.run(tmp_path / "b", seed=1)
    assert head_bytes(tmp_path / "a", "last") == whole[0] != head_bytes(tmp_path / "b", "last")


def test_eval_every_step_count_does_not_change_the_weights(toy, tmp_path, whole):
    records = []
    toy.run(tmp_path, records.append, eval_every=5)
    assert [r["step"] for r in records if "val/score" in r] == [5, 10, 12]
    assert head_bytes(tmp_path, "last") == whole[0]


def test_max_steps(toy, tmp_path):
    _, state = toy.run(tmp_path, max_steps=5)
    assert (state.step, state.epoch, state.batch) == (5, 1, 2)
    assert checkpoint.last_step(tmp_path) == 5


class Linear:
    """loss = weight * x, so that the gradient is the mean (or sum) of the x."""

    def __init__(self) -> None:
        self.head = nn.Linear(1, 1, bias=False)
        nn.init.constant_(self.head.weight, 1.0)

    def loss(self, batch):
        return self.head(batch.x).mean(), {}

    def evaluate(self):
        return {"score": 0.0}


@pytest.mark.parametrize(
    ("changes", "norms"),
    [({}, [2.0, 5.0]), ({"loss_divisor": 1}, [6.0, 5.0]), ({"clip_grad_norm": 0.5}, [2.0, 5.0])],
)
def test_accumulation_divides_by_the_batches_of_the_step_or_sums(toy, tmp_path, changes, norms):
    """Batches 1, 2, 3 make one step and 5 the next, shorter one."""
    records = []
    options = toy.make_options(epochs=1, accumulate=3, log_every=1, **changes)
    data = [toy.Batch([], torch.tensor([[value]]), torch.empty(0)) for value in (1.0, 2.0, 3.0, 5.0)]
    train(
        Linear(), lambda epoch, skip: data[skip:], 4, options, tmp_path, records.append,
        accelerator=make_accelerator("cpu"),
    )  # fmt: skip
    assert [r["train/grad_norm"] for r in records if "lr" in r] == norms
    assert records[0]["train/loss"] == pytest.approx(2.0)


def test_what_an_epoch_leaves_over_goes_into_the_next_ones_first_step(toy, tmp_path):
    """As in SeViLA's own loop: a step only after every third batch of an epoch, no clearing of the gradient but there.

    1 + 2 + 3, then 5 + 1 + 2 + 3; the 5 that the last epoch leaves is in no step.
    """
    records, task = [], Linear()
    options = toy.make_options(epochs=2, accumulate=3, log_every=1, loss_divisor=1, carry_over=True, weight_decay=0.0)
    data = [toy.Batch([], torch.tensor([[value]]), torch.empty(0)) for value in (1.0, 2.0, 3.0, 5.0)]
    state = train(
        task, lambda epoch, skip: data[skip:], 4, options, tmp_path, records.append,
        accelerator=make_accelerator("cpu"),
    )  # fmt: skip
    logged = [r for r in records if "lr" in r]
    assert [r["train/grad_norm"] for r in logged] == [6.0, 11.0]
    # the losses of all of an epoch's batches, at the weight that the first step made of 1
    assert logged[0]["train/loss"] == pytest.approx((1 + 2 + 3 + 5 * (1 - options.schedule.lr(0, 2, 0))) / 4, rel=1e-4)
    assert [r["step"] for r in records if "val/score" in r] == [1, 2]
    assert (state.step, state.epoch, state.batch) == (2, 2, 0) and task.head.weight.grad is None


def test_resumed_with_a_gradient_that_waits(toy, tmp_path):
    """7 batches by 2: the seventh one's gradient is kept with the checkpoint of the epoch's end."""
    _, whole = toy.run(tmp_path / "whole", carry_over=True)
    toy.run(tmp_path / "parts", carry_over=True, epochs=1)
    file = checkpoint.find(tmp_path / "parts", "last") / checkpoint.TRAINING
    assert len(torch.load(file, weights_only=True)["gradients"]) == 6
    _, state = toy.run(tmp_path / "parts", carry_over=True, resume=True)
    assert (state, state.step) == (whole, 9)
    assert head_bytes(tmp_path / "parts", "last") == head_bytes(tmp_path / "whole", "last")


def test_too_few_batches_for_any_step(toy, tmp_path):
    with pytest.raises(UserError, match=r"trainer.accumulate=8: an epoch has 7 batches, too few for a step"):
        toy.run(tmp_path, accumulate=8, carry_over=True)


def test_a_step_reads_the_device_once(toy, tmp_path, monkeypatch):
    """Three micro-batches a step, each logged, with a number of the task's that lies on the device, and clipping."""
    reads: list[str] = []

    def counted(name):
        read = getattr(torch.Tensor, name)
        return lambda tensor, *others: (reads.append(name), read(tensor, *others))[1]

    task, batch = Linear(), toy.Batch([], torch.ones(2, 1), torch.empty(0))
    original = task.loss
    task.loss = lambda batch: (original(batch)[0], {"share": batch.x.mean(), "host": 0.5})
    options = toy.make_options(epochs=1, accumulate=3, log_every=1, save_every=None, clip_grad_norm=1.0)
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self: reads.append("step"))  # reads its own, of the host
    for name in ("tolist", "item", "cpu", "__float__", "__bool__", "__int__", "__index__"):
        monkeypatch.setattr(torch.Tensor, name, counted(name))
    records = []
    train(
        task, lambda epoch, skip: [batch] * 6, 6, options, tmp_path, records.append, accelerator=make_accelerator("cpu")
    )
    assert reads[: reads.index("cpu")] == ["tolist", "step", "tolist", "step"]  # then the checkpoint
    assert records[0] == {"step": 1, "epoch": 0, "lr": records[0]["lr"]} | {
        "train/share": 1.0, "train/host": 0.5, "train/loss": 1.0, "train/grad_norm": 1.0
    }  # fmt: skip


def test_clipping_limits_the_gradient_that_the_optimiser_sees(toy, tmp_path, monkeypatch):
    seen = []

    def spy(head, *others):
        optimizer = adamw(head, *others)
        optimizer.register_step_pre_hook(lambda *_: seen.append(head.weight.grad.item()))
        return optimizer

    monkeypatch.setattr("sevila.training.loop.adamw", spy)
    batch = toy.Batch([], torch.tensor([[3.0]]), torch.empty(0))
    for name, clip in (("free", None), ("clipped", 0.5)):
        options = toy.make_options(epochs=1, accumulate=1, clip_grad_norm=clip)
        train(
            Linear(), lambda epoch, skip: [batch], 1, options, tmp_path / name,
            lambda record: None, accelerator=make_accelerator("cpu"),
        )  # fmt: skip
    assert seen == [3.0, pytest.approx(0.5, rel=1e-5)]


def test_learning_rate_is_that_of_the_last_micro_batch_of_the_step(toy, tmp_path):
    records = []
    schedule = PublishedSchedule(peak=1.0, epochs=2, warmup_batches=10)
    options = toy.make_options(epochs=2, log_every=1, schedule=schedule)
    train(
        toy.Toy(), toy.loader, toy.BATCHES, options, tmp_path, records.append,
        accelerator=make_accelerator("cpu"),
    )  # fmt: skip
    rates = [r["lr"] for r in records if "lr" in r]
    assert rates == pytest.approx([0.1, 0.3, 0.5, 0.6, 0.5, 0.5, 0.5, 0.5], abs=1e-7)


def test_bfloat16_autocast_trains_float32_weights(toy, tmp_path):
    task = toy.Toy()
    seen = []
    task.head[0].register_forward_hook(lambda m, i, o: seen.append(o.dtype))
    accelerator = make_accelerator("cpu", "bf16")
    train(task, toy.loader, 7, toy.make_options(epochs=1), tmp_path, lambda r: None, accelerator=accelerator)
    assert seen[0] == torch.bfloat16 and task.head[0].weight.dtype == torch.float32
    assert make_accelerator("cpu").mixed_precision == "no"  # settings do not stick to the process


def test_sums_of_what_is_averaged():
    sums: Sums = {}
    for value in (1.0, 2.0, 6.0):
        add(sums, "loss", value)
    add(sums, "rare", 4.0)
    assert sums == {"loss": [9.0, 3], "rare": [4.0, 1]}
    merged = merge([sums, {"loss": [1.0, 1]}, {}])
    assert merged == {"loss": [10.0, 4], "rare": [4.0, 1]}
    assert sums["loss"] == [9.0, 3]


# --- interruption ---


class Crash(BaseException):
    """Stands for SIGKILL: the process is gone between two file operations."""


def test_resume_after_a_crash_at_every_file_operation(toy, tmp_path, whole, monkeypatch):
    last, best, records, final = whole
    survived = 0
    while True:
        folder = tmp_path / str(survived)
        seen: list[dict] = []
        with monkeypatch.context() as patch:
            count = crash_after(patch, survived)
            try:
                toy.run(folder, seen.append, save_every=6)
            except Crash:
                crashed = True
            else:
                crashed = False
        if not crashed:
            break
        start = checkpoint.last_step(folder)
        known = checkpoint.last_evaluated(folder)
        seen = [r for r in seen if r["step"] <= (known if "val/score" in r else start)]
        _, state = toy.run(folder, seen.append, resume=True, save_every=6)
        assert (head_bytes(folder, "last"), head_bytes(folder, "best")) == (last, best), survived
        assert state == final and seen == records, survived
        left = {p.name for p in folder.iterdir()}
        assert left == {"last", "best", "step_12", f"step_{final.best_step}"}, survived
        survived += 1
    assert survived == count[0] > 40


def crash_after(patch: pytest.MonkeyPatch, operations: int) -> list[int]:
    """Let the checkpoint code do so many file operations and crash in the next one."""
    count = [0]

    def guarded(function):
        def call(*args, **kwargs):
            if count[0] >= operations:  # and nothing after it, no cleaning up either
                raise Crash
            count[0] += 1
            return function(*args, **kwargs)

        return call

    for target, name in (
        (checkpoint.os, "replace"),
        (shutil, "rmtree"),
        (checkpoint.safetensors.torch, "save_file"),
        (checkpoint.torch, "save"),
        (Path, "mkdir"),
        (Path, "write_bytes"),
        (Path, "unlink"),
    ):
        patch.setattr(target, name, guarded(getattr(target, name)))
    return count


def test_a_folder_that_never_counted_is_not_taken_over(toy, tmp_path):
    """Killed between the first folder and the first `last`, then started anew without resume."""
    toy.run(tmp_path, seed=1, max_steps=2)
    (tmp_path / "last").unlink()
    assert (tmp_path / "step_2").is_dir()
    toy.run(tmp_path, max_steps=2)
    toy.run(tmp_path / "clean", max_steps=2)
    second = "step_2/head.safetensors"
    assert (tmp_path / second).read_bytes() == (tmp_path / "clean" / second).read_bytes()


def start_process(folder: Path, seconds: float) -> subprocess.Popen:
    command = [sys.executable, str(Path(__file__).with_name("toy.py")), str(folder), "new", str(seconds)]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p) + os.pathsep + os.getcwd(),
    }
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_killed_process_resumes_to_the_same_bytes(toy, tmp_path, whole, number, code):
    process = start_process(tmp_path, seconds=0.05)
    for line in process.stdout:
        if json.loads(line)["step"] == 5:
            break
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    step = checkpoint.last_step(tmp_path)
    if number == signal.SIGTERM:
        assert step in (5, 6)
        message = errors.strip().splitlines()[-1]
        assert message.startswith(f"sevila: stopped by SIGTERM at step {step} of 12") and "resume=true" in message
    else:
        assert step in (4, 6)
    _, state = toy.run(tmp_path, resume=True)
    assert (head_bytes(tmp_path, "last"), head_bytes(tmp_path, "best")) == whole[:2]
    assert state == whole[3]


@pytest.mark.parametrize("moment", ["loss", "evaluate"])
def test_sigterm_in_a_step_or_in_an_evaluation(toy, tmp_path, whole, moment):
    """In a step it waits for the step's end, in an evaluation it does not; resumed, all is as without it."""
    task = toy.Toy()
    records, calls = [], []
    original = getattr(task, moment)

    def interrupting(*args):
        calls.append(1)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(*args)

    setattr(task, moment, interrupting)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped) as stopped:
        toy.run(tmp_path, records.append, task=task)
    assert stopped.value.code == 143 and signal.getsignal(signal.SIGTERM) == before
    assert checkpoint.last_step(tmp_path) == {"loss": 1, "evaluate": 8}[moment]
    _, state = toy.run(tmp_path, records.append, resume=True)
    assert (head_bytes(tmp_path, "last"), head_bytes(tmp_path, "best")) == whole[:2]
    assert state == whole[3] and records == whole[2]


def test_resuming_a_finished_run_does_nothing(toy, tmp_path, whole):
    toy.run(tmp_path)
    task, state = toy.run(tmp_path, resume=True)
    assert task.evaluations == 0 and state == whole[3]


def test_a_resumed_run_may_be_longer(toy, tmp_path):
    toy.run(tmp_path, epochs=2)
    _, state = toy.run(tmp_path, resume=True, epochs=3)
    assert state.step == 12


# --- bad input ---


def test_existing_checkpoints_without_resume(toy, tmp_path):
    toy.run(tmp_path, epochs=1)
    before = head_bytes(tmp_path, "last")
    with pytest.raises(UserError, match="resume=true"):
        toy.run(tmp_path)
    assert head_bytes(tmp_path, "last") == before


def test_non_finite_loss_names_step_and_questions_and_saves_nothing(toy, tmp_path):
    task = toy.Toy()
    original = task.loss

    def loss(batch):
        value, numbers = original(batch)
        return (value * float("nan") if batch.records[0].qid == "q1-2-0" else value), numbers

    task.loss = loss
    with pytest.raises(UserError, match=r"step 6: the loss is nan on the questions q1-2-0, q1-2-1;"):
        toy.run(tmp_path, task=task)
    assert checkpoint.last_step(tmp_path) == 4


def test_non_finite_gradient(toy, tmp_path):
    task = toy.Toy()
    original = task.loss
    task.loss = lambda batch: (original(batch)[0] + torch.sqrt(task.head[0].weight.sum() * 0), {})
    with pytest.raises(UserError, match="step 1: the gradient's norm is nan"):
        toy.run(tmp_path, task=task)
    assert checkpoint.find(tmp_path, "last") is None


def test_unknown_metric_keeps_the_weights(toy, tmp_path, whole):
    with pytest.raises(UserError, match="chosen by acc, of which evaluation gave None; it gave: score"):
        toy.run(tmp_path, metric="acc")
    assert checkpoint.last_step(tmp_path) == 4
    toy.run(tmp_path, resume=True)
    assert head_bytes(tmp_path, "last") == whole[0]


def test_resume_with_another_plan(toy, tmp_path):
    toy.run(tmp_path, epochs=1)
    with pytest.raises(UserError, match="written with accumulate=2, this run has accumulate=1"):
        toy.run(tmp_path, resume=True, accumulate=1)


@pytest.mark.parametrize("name", ["epochs", "accumulate", "log_every", "clip_grad_norm", "eval_every"])
def test_options_that_cannot_be(toy, name):
    with pytest.raises(UserError, match=f"trainer.{name}=0"):
        toy.make_options(**{name: 0})


def test_devices_and_precisions():
    with pytest.raises(UserError, match="precision=float16: must be one of fp32, bf16, published, fp64"):
        make_accelerator("cpu", "float16")
    for device in ("tpu", "cpu:1", "cuda:x"):
        with pytest.raises(UserError, match=f"device={device}: must be auto, cpu, cuda or cuda:N"):
            make_accelerator(device)
    with pytest.raises(UserError, match="device=cuda:99: this machine has"):
        make_accelerator("cuda:99")
