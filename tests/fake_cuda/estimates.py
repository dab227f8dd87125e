"""Operations and memory at the published sizes, in bfloat16: the table of docs/speed.md."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from fake_cuda import paths, runs

TARGETS = {"answer": 10, "pre-training": 24, "refinement": 24}  # GB, at batch 1
STEPS = {"pre-training": (paths.pretrain, 16), "refinement": (paths.refine, 16), "forward": (paths.forward, 8)}


def rows() -> Iterator[tuple[str, Any, str]]:
    """What is done, its path, and the target of its memory."""
    for number in (1, 9):
        target = f"{TARGETS['answer']}" if number == 1 else "-"
        yield f"answer, {number} question{'s' * (number > 1)}", partial(paths.answer_direct, number=number), target
    for name, (path, published) in STEPS.items():
        for batch in (1, published):
            target = f"{TARGETS[name]}" if batch == 1 and name in TARGETS else "-"
            for kept in (False, True):
                how = ", checkpointing" if kept else ""
                yield f"{name}, batch {batch}{how}", partial(path, batch=batch, checkpointing=kept), target


def show() -> None:
    print("| bfloat16 | operations | peak memory | target, GB |")
    print("| --- | --- | --- | --- |")
    for name, path, target in rows():
        found = runs.counted(path, padding=False)
        print(f"| {name} | {found['operations'] / 1e12:.1f} T | {found['peak'] / 1e9:.1f} GB | {target} |", flush=True)
