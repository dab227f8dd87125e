"""One resumable practice loop for both halves of the tiny backbone."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

WARM_UP, COOL_DOWN = 100, 0.3  # steps of linear warm-up; share of all steps in which the rate falls to zero


def rate(step: int, steps: int) -> float:
    """Warm up, hold, fall linearly: 0..1."""
    left = (steps - step) / (COOL_DOWN * steps)
    return min(1.0, (step + 1) / WARM_UP, left)


def optimisers(model: nn.Module, plain: Callable[[str], bool], lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for everything else (`plain` names those by parameter name)."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    matrices = [p for name, p in named if p.ndim == 2 and not plain(name)]
    rest = [p for name, p in named if p.ndim != 2 or plain(name)]
    return [
        torch.optim.Muon(matrices, lr=2 * lr, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=lr, weight_decay=0.01, betas=(0.9, 0.98)),
    ]


def practise(
    name: str,
    model: nn.Module,
    loss_of: Callable[[int], Tensor],
    steps: int,
    folder: Path,
    plain: Callable[[str], bool],
    report: Callable[[], dict[str, float]],
    lr: float = 1e-3,
    report_every: int = 500,
) -> None:
    """Train `model` on `loss_of(step)` and keep `folder/NAME.pt` so that a later call goes on where this one ended.

    The loss of a step depends on its number alone (and on the weights), so that stopping changes nothing.
    """
    optims = optimisers(model, plain, lr)
    base = [[group["lr"] for group in optim.param_groups] for optim in optims]
    path, start = folder / f"{name}.pt", 0
    if path.exists():
        saved = torch.load(path, weights_only=True)
        model.load_state_dict(saved["model"])
        for optim, state in zip(optims, saved["optims"], strict=True):
            optim.load_state_dict(state)
        start = saved["step"]
    total, since = 0.0, time.time()
    for step in range(start, steps):
        model.train()
        loss = loss_of(step)
        for optim, rates in zip(optims, base, strict=True):
            optim.zero_grad()
            for group, r in zip(optim.param_groups, rates, strict=True):
                group["lr"] = r * rate(step, steps)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optim in optims:
            optim.step()
        total += loss.item()
        if (step + 1) % 50 == 0:
            pace = (time.time() - since) / 50
            print(f"{name} {step + 1}/{steps} loss {total / 50:.4f} {pace:.2f} s/step", flush=True)
            total, since = 0.0, time.time()
        if (step + 1) % report_every == 0 or step + 1 == steps:
            model.eval()
            print(name, {kind: round(value, 1) for kind, value in report().items()}, flush=True)
            state = {"model": model.state_dict(), "optims": [o.state_dict() for o in optims], "step": step + 1}
            torch.save(state, path.with_suffix(".part"))
            os.replace(path.with_suffix(".part"), path)
            since = time.time()
