"""Runs with a store end as runs without one, to the bit, also when they were interrupted between."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from sevila import eval as evaluation
from sevila import predict, refine, train
from sevila.data.video import VideoReader
from sevila.model.backbone import Backbone
from sevila.tasks.refine import RefineTask

QUICK = ["frames.n=6", "selector.k=2", "trainer.log_every=1", "trainer.warmup_steps=1"]
FILES = {
    "localizer.safetensors", "answerer.safetensors", "metrics.json", "metrics.jsonl", "keyframes.jsonl",
    "pseudo_labels.jsonl", "predictions.jsonl",
}  # fmt: skip


def outcome(run: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in run.iterdir() if file.name in FILES}


@pytest.fixture
def go(small_world: list[str], tmp_path: Path) -> Callable[..., dict[str, bytes]]:
    """go(entry point, name of the run, *words) -> its files"""

    def run(entry: ModuleType, name: str, *words: str, code: int = 0) -> dict[str, bytes]:
        assert entry.cli([*words, *small_world, f"run_dir={tmp_path / name}"]) == code
        return outcome(tmp_path / name)

    return run


def lone(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on nothing may be decoded or encoded."""
    monkeypatch.setattr(VideoReader, "decode", lambda *_: pytest.fail("decoded"))
    monkeypatch.setattr(Backbone, "encode", lambda *_: pytest.fail("encoded"))


def test_refinement(go: Callable[..., dict[str, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["+exp=synthetic_reverse", "task.frames=3", *QUICK]
    words += ["trainer.batch_size=4", "trainer.max_steps=4", "trainer.save_every=1"]
    store = f"store.folder={tmp_path / 'store'}"
    plain = go(refine, "plain", *words)
    assert set(plain) == {"localizer.safetensors", "metrics.json", "metrics.jsonl", "pseudo_labels.jsonl"}

    loss, done = RefineTask.loss, []

    def interrupted(self: RefineTask, batch: object):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(batch)
        return loss(self, batch)

    with monkeypatch.context() as patch:  # a cold run that stops, and goes on with a store that is partly warm
        patch.setattr(RefineTask, "loss", interrupted)
        go(refine, "broken", *words, store, code=130)
    assert go(refine, "broken", *words, store, "resume=true") == plain
    lone(monkeypatch)
    assert go(refine, "warm", *words, store) == plain


def test_forward_training(go: Callable[..., dict[str, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["+exp=synthetic_forward", "task.select_once=true", "task.crop=true", "store.views=1", *QUICK]
    words += ["trainer.batch_size=13", "trainer.epochs=2"]  # the second epoch has the first one's crops
    store = f"store.folder={tmp_path / 'store'}"
    plain = go(train, "plain", *words)
    assert set(plain) == {"answerer.safetensors", "metrics.json", "metrics.jsonl", "keyframes.jsonl"}
    assert go(train, "cold", *words, store, "frames.workers=1") == plain
    lone(monkeypatch)
    assert go(train, "warm", *words, store) == plain


def test_evaluation_and_prediction_share_a_store(
    go: Callable[..., dict[str, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_world: list[str]
) -> None:
    words = ["+exp=synthetic_eval", "frames.n=4", "selector.k=1", f"store.folder={tmp_path / 'store'}"]
    cold = go(evaluation, "cold", *words)
    first = json.loads(cold["predictions.jsonl"].splitlines()[0])
    (video,) = Path(small_world[0].partition("=")[2]).glob(f"seed_0-*/videos/{first['video']}.mp4")
    monkeypatch.setattr(Backbone, "encode", lambda *_: pytest.fail("encoded"))  # pictures are decoded to be shown
    assert go(evaluation, "warm", *words) == cold
    asked = [str(video), "what?", "red", "blue", "--n-frames", "4", "--k", "1", "--precision", "fp32"]
    assert predict.cli([*asked, "--store", str(tmp_path / "store")]) == 0
