"""The recipes of CONTRIBUTING.md do what they say, on the drawn world."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from sevila import benchmarks, build, selection
from sevila import eval as evaluation
from sevila.config import load
from sevila.files import read_json, read_jsonl

PAGE = (Path(__file__).resolve().parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")


def blocks(heading: str, kind: str) -> list[str]:
    """The fenced blocks of one section."""
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    found = re.findall(rf"^```{kind}\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    assert found
    return found


def run_blocks(heading: str) -> dict[str, Any]:
    """What the Python blocks of a section define."""
    names: dict[str, Any] = {"__name__": "contributed"}
    for block in blocks(heading, "python"):
        exec(compile(block, f"CONTRIBUTING.md, {heading}", "exec", dont_inherit=True), names)
    return names


def written(heading: str) -> dict[str, Any]:
    """The configuration of a section."""
    return yaml.safe_load(blocks(heading, "yaml")[0])


def evaluated(world: list[str], run: Path, words: list[str], **changes: dict[str, Any]) -> dict[str, Any]:
    """metrics.json of an evaluation of the drawn world, its configuration's nodes changed."""
    config = load("eval", ["+exp=synthetic_eval", *world, f"run_dir={run}", "frames.n=6", "selector.k=2", *words])
    evaluation.run(replace(config, **changes))
    return read_json(run / "metrics.json")


def test_a_benchmark(small_world: list[str], tmp_path: Path, one_thread: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(benchmarks.BENCHMARKS, "petqa", run_blocks("A benchmark")["PetQA"])
    world = build.benchmark(load("eval", ["+exp=synthetic_eval", *small_world]))
    asked = world.questions("test")
    rows = [
        {"id": q.qid, "video": q.video, "ask": q.question, "choices": q.options, "right": q.options[q.answer]}
        for q in asked
    ]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    videos = world.folder().path(asked[0].video).parent
    node = {**written("A benchmark"), "root": str(tmp_path), "videos": str(videos)}
    found = evaluated(small_world, tmp_path / "pets", [], data=node)
    known = evaluated(small_world, tmp_path / "world", [])
    assert (found["n"], found["accuracy"]) == (known["n"], known["accuracy"])


def test_a_selector(small_world: list[str], tmp_path: Path, one_thread: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(selection.SELECTORS, "around", run_blocks("A selector")["Around"])
    evaluated(small_world, tmp_path / "run", [], selector={**written("A selector"), "k": 3})
    for row in read_jsonl(tmp_path / "run" / "predictions.jsonl"):
        scores = [frame["score"] for frame in row["frames"]]
        best = row["frames"][scores.index(max(scores))]["index"]
        assert len(row["keyframes"]) == 3 and best in [frame["index"] for frame in row["keyframes"]]


def test_a_task(small_world: list[str], tmp_path: Path, one_thread: None) -> None:
    from sevila.fit import training_run

    near = run_blocks("A task")["near"]
    words = ["+exp=synthetic_pretrain", *small_world, f"run_dir={tmp_path}", "trainer.max_steps=2", "frames.n=4"]
    config = load("train", [*words, "trainer.batch_size=2"])
    with training_run(config) as training:
        found = near(training, frames=3)
    assert "frame_accuracy" in found and (tmp_path / "localizer.safetensors").is_file()
