"""Short trainings on the drawn world: the loss beside the CPU's, and a run that is stopped and goes on."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

from gpu_parts.base import Check, Found, Grid, Lines, Setting
from sevila.checkpoints.backbone import load
from sevila.checkpoints.heads import ZEROSHOT, load_head, save_head
from sevila.files import parse_jsonl
from sevila.synthetic.world import Recipe, make

NEAR = 0.1  # of the CPU's mean loss: dropout draws other numbers on a GPU
NOISE = 0.1  # standard deviation of what a head's queries and last layer begin with
WORLD = {"train_videos": 6, "val_videos": 1, "test_videos": 1, "moment_train_videos": 6, "moment_val_videos": 1}
STOPPED = 128 + signal.SIGTERM


@dataclass(frozen=True)
class Kind:
    """A training: its command, and the head that it begins with and leaves; the other one is BLIP-2's own."""

    words: Sequence[str]
    role: str


KINDS = {
    "pretrain": Kind(["sevila.train", "+exp=synthetic_pretrain"], "localizer"),
    "forward": Kind(
        ["sevila.train", "+exp=synthetic_forward", "localizer=zeroshot", "task.select_once=false"], "answerer"
    ),
    "refine": Kind(["sevila.refine", "+exp=synthetic_reverse", "answerer=zeroshot", "task.orders=1"], "localizer"),
}


def command(setting: Setting, kind: Kind, run: Path, device: str, steps: int, *more: str) -> list[str]:
    """The words that train `steps` steps in bfloat16 into the folder `run`, a line of metrics.jsonl a step."""
    root = setting.work / "world"
    make(Recipe(**WORLD), root, workers=0 if setting.small else 4)
    world = [f"data.root={root}", *(f"data.{name}={number}" for name, number in WORLD.items())]
    size = [f"frames.n={4 if setting.small else 16}", f"selector.k={1 if setting.small else 4}"]
    batch = 2 if setting.small else 8
    steps_of = [
        f"trainer.max_steps={steps}",
        f"trainer.eval_every={steps}",
        "trainer.epochs=100",
        "trainer.log_every=1",
    ]
    rest = [f"trainer.batch_size={batch}", "trainer.warmup_steps=1", "precision=bf16", f"device={device}"]
    rest += [f"{kind.role}={unlearned(setting.work, kind.role)}"]
    return [sys.executable, "-m", *kind.words, f"run_dir={run}", *world, *size, *steps_of, *rest, *more]


def unlearned(work: Path, role: str) -> Path:
    """The file of a head that has something to learn: BLIP-2's own, its queries and last layer drawn anew."""
    file = work / f"{role}.safetensors"
    if not file.exists():
        backbone = load("tiny")
        head = load_head(ZEROSHOT, role, backbone)
        generator = torch.Generator().manual_seed(0)
        for parameter in (head.queries, head.projection.weight):
            parameter.normal_(0.0, NOISE, generator=generator)
        save_head(file, head, backbone, role)
    return file


def losses(run: Path) -> list[tuple[int, float]]:
    """(step, loss) of every step in a run's metrics.jsonl; of none while there is no such file."""
    file = run / "metrics.jsonl"
    whole, _, _ = (file.read_text() if file.exists() else "").rpartition("\n")  # a line may be half written
    rows = [row for _, row in parse_jsonl(whole, file)]
    return [(row["step"], row["train/loss"]) for row in rows if "train/loss" in row]


# -- the loss beside the CPU's ---


def curves(setting: Setting, name: str) -> Found:
    """The same training, from the same batches, on the CPU and on the device at once."""
    kind, steps = KINDS[name], 4 if setting.small else 20
    runs = {place: setting.work / f"{name}_{place}" for place in ("cpu", "device")}
    devices = {"cpu": "cpu", "device": setting.device}
    words = {place: command(setting, kind, run, devices[place], steps) for place, run in runs.items()}
    processes = {place: subprocess.Popen(given) for place, given in words.items()}
    codes = {place: process.wait() for place, process in processes.items()}
    found = {place: losses(run) for place, run in runs.items()}
    means = {place: sum(loss for _, loss in row) / max(1, len(row)) for place, row in found.items()}
    whole = all(len(row) == steps and all(math.isfinite(loss) for _, loss in row) for row in found.values())
    off = abs(means["device"] - means["cpu"]) / means["cpu"] if means["cpu"] else math.inf
    checks = [
        Check(
            "exit codes", ", ".join(f"{place} {code}" for place, code in codes.items()), "0", not any(codes.values())
        ),
        Check("losses", ", ".join(f"{place} {len(row)}" for place, row in found.items()), f"{steps} finite", whole),
        Check("mean loss", f"{means['device']:.4f}, on the CPU {means['cpu']:.4f}", f"within {NEAR:.0%}", off <= NEAR),
    ]
    lines = {"CPU": found["cpu"], setting.device: found["device"]}
    return Found(checks, charts=[Lines(f"Training loss, {name}, bfloat16", lines)])


# -- a run that is stopped and goes on ---


def resumed(setting: Setting) -> Found:
    """A pre-training in one go and one that SIGTERM stops: the same weights, with deterministic=true."""
    kind, steps = KINDS["pretrain"], 6 if setting.small else 30
    whole, parted = setting.work / "whole", setting.work / "parted"
    subprocess.run(command(setting, kind, whole, setting.device, steps, "deterministic=true"), check=True)
    words = command(setting, kind, parted, setting.device, steps, "deterministic=true")
    code = stopped(words, parted)
    at = len(losses(parted))
    subprocess.run([*words, "resume=true"], check=True)
    heads = [load_file(run / f"{kind.role}.safetensors") for run in (whole, parted)]
    off = max(float((heads[0][name] - heads[1][name]).abs().max()) for name in heads[0])
    same = all(torch.equal(tensor, heads[1][name]) for name, tensor in heads[0].items())
    logs = [(run / "metrics.jsonl").read_bytes() for run in (whole, parted)]
    checks = [
        Check("stopped by SIGTERM", f"exit code {code} after {at} of {steps} steps", str(STOPPED), code == STOPPED),
        Check("weights", "equal" if same else f"off by {off:.2g}", "equal to the bit", same),
        Check("metrics.jsonl", "equal" if logs[0] == logs[1] else "differ", "equal to the byte", logs[0] == logs[1]),
    ]
    rows = [[step, loss, dict(losses(parted)).get(step)] for step, loss in losses(whole)]
    return Found(checks, [Grid("Loss of every step.", ["step", "in one go", "stopped and resumed"], rows)])


def stopped(words: Sequence[str], run: Path, after: int = 2) -> int:
    """Start a training, send SIGTERM once it has logged so many steps; its exit code.

    It stays in this process's group, so that it ends with this part where that has used up its time.
    """
    process = subprocess.Popen(words)
    try:
        while process.poll() is None and len(losses(run)) < after:
            time.sleep(0.02)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGTERM)
        return process.wait()
    finally:
        process.kill()  # nothing where it has ended
