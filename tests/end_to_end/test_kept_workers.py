"""Trainings whose workers stay over the epochs end as those without, also when they were interrupted."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from sevila import refine
from sevila.tasks.refine import RefineTask

FILES = ("localizer.safetensors", "metrics.json", "metrics.jsonl")


def test_a_run_that_goes_on_in_its_second_epoch(
    small_world: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["+exp=synthetic_reverse", "localizer=zeroshot", "task.frames=2", "task.crop=true"]
    words += ["frames.n=4", "selector.k=2", "trainer.batch_size=8", "trainer.epochs=3", "trainer.save_every=1"]
    words += ["trainer.log_every=1", "trainer.warmup_steps=1", "task.frames_from=video", *small_world]
    loss, workers = RefineTask.loss, []

    def watched(self: RefineTask, batch: object):
        workers.append(frozenset(worker.pid for worker in multiprocessing.active_children()))
        return loss(self, batch)

    def interrupted(self: RefineTask, batch: object):
        if len(workers) == 4:  # in the middle of the second epoch
            raise KeyboardInterrupt
        return watched(self, batch)

    def run(name: str, *more: str, code: int = 0) -> list[bytes]:
        workers.clear()
        assert refine.cli([*words, f"run_dir={tmp_path / name}", *more]) == code
        assert multiprocessing.active_children() == []
        return [(tmp_path / name / file).read_bytes() for file in FILES] if code == 0 else []

    plain = run("plain")
    monkeypatch.setattr(RefineTask, "loss", watched)
    assert run("kept", "frames.workers=2") == plain
    (same,) = set(workers)  # those of the first step are those of the last one
    assert len(same) == 2 and len(workers) == 9
    monkeypatch.setattr(RefineTask, "loss", interrupted)
    run("broken", "frames.workers=2", code=130)
    monkeypatch.setattr(RefineTask, "loss", loss)
    assert run("broken", "frames.workers=2", "resume=true") == plain
