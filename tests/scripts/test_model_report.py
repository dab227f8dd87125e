"""The report of a model's size, on the tiny backbone; the published one is only counted."""

from __future__ import annotations

import json
from pathlib import Path
from subprocess import CompletedProcess

import pytest

import model_report
from model_size import WORK, GpuMemory, ResidentMemory, measure, parts, summary
from sevila import api
from sevila.config import load
from sevila.errors import UserError


@pytest.fixture(autouse=True)
def _quiet(one_thread: None) -> None: ...


def test_the_parts_are_those_of_the_model() -> None:
    rows = {(row.group, row.name): row for row in parts(load("eval", ["precision=bf16"]))}
    model = api.SeViLA.load().model
    count = {name: sum(p.numel() for p in part.parameters()) for name, part in model.backbone.named_children()}
    assert rows["backbone", "vision tower"].parameters == count["tower"]
    assert rows["backbone", "language model"].parameters == count["language"]
    assert rows["backbone", "language model"].bytes == {"bfloat16": 2 * count["language"]}
    head = model.localizer.head
    for group in ("localizer", "answerer"):
        assert rows[group, "queries"].parameters == head.queries.numel()
        assert rows[group, "layer norm"].parameters == 2 * head.config.vision_width
        own = [row for (of, _), row in rows.items() if of == group]
        assert sum(row.parameters for row in own) == sum(p.numel() for p in head.parameters())
        assert all(row.bytes == {"float32": 4 * row.parameters} for row in own)


def test_the_published_model_is_counted_without_files() -> None:
    found = summary(parts(load("eval", ["model=blip2_flan_t5_xl", "precision=bf16"])))
    assert found["parameters"] == 985_952_256 + 2_849_757_184 + 2 * 106_739_968
    assert (found["trainable"], found["trainable_percent"]) == (106_739_968, 2.64)
    assert found["bytes"] == {"bfloat16": 2 * 3_835_709_440, "float32": 4 * 2 * 106_739_968}


def test_the_published_precision_has_its_tower_in_float16() -> None:
    rows = {row.name: row for row in parts(load("eval", ["model=blip2_flan_t5_xl", "precision=published"]))}
    tower = rows["vision tower"].bytes
    assert rows["language model"].bytes == {"bfloat16": 2 * 2_849_757_184}
    assert set(tower) == {"float16", "float32"} and tower["float32"] < 0.01 * tower["float16"]


@pytest.mark.parametrize("name", list(WORK))
def test_every_piece_of_work_is_measured(name: str) -> None:
    config = load(
        "eval", ["model.weights=random", "model.checkpointing=true", "frames.n=5", "selector.k=2", "precision=fp32"]
    )
    row = measure(config, name)
    assert row["seconds"] > 0 and row["memory"] == "resident"
    assert row["peak_bytes"] > 100 * 2**20 and row["build_peak_bytes"] > 100 * 2**20
    if name == "answer":
        assert abs(row["answer"]) < 100
    else:  # noise: a little off the logarithm of the vocabulary's size
        assert 5 < row["loss"] < 8


def test_a_peak_of_resident_memory_is_seen_and_forgotten() -> None:
    memory = ResidentMemory()
    forgot, before = memory.forget(), memory.peak()
    block = bytearray(b"x" * 2**28)
    assert memory.peak() >= before + 0.9 * len(block)
    del block
    assert not forgot or (memory.forget() and memory.peak() < before + 2**27)
    assert GpuMemory.kind != memory.kind


def test_the_report_is_printed_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "report.json"
    assert model_report.main(["measure=pretrain", f"out={out}", "model.checkpointing=true", "precision=fp32"]) == 0
    text = capsys.readouterr().out
    model = api.SeViLA.load().model
    head = sum(p.numel() for p in model.localizer.head.parameters())
    total = sum(p.numel() for p in model.backbone.parameters()) + head  # two heads, without the spare one
    assert f"trainable in one run, one head: {head:,} of {total:,}, {100 * head / total:.2f} %" in text
    assert "pre-training step, 4 frames: " in text and f"written: {out}" in text
    stored = json.loads(out.read_text())
    assert stored["parameters"] == total and list(stored["measurements"]) == ["pretrain"]
    assert 5 < stored["measurements"]["pretrain"]["loss"] < 8


@pytest.mark.parametrize(
    ("code", "stderr", "error"),
    [
        (2, "sevila: error: device=cuda:9: no such GPU\n", "sevila: error: device=cuda:9: no such GPU"),
        (-9, "", "no message (killed by signal 9; 9 is often a lack of memory)"),
    ],
)
def test_a_process_that_fails_is_named(
    code: int, stderr: str, error: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(command: list[str], **_: object) -> CompletedProcess[str]:
        return CompletedProcess(command, code, "", stderr)

    monkeypatch.setattr(model_report.subprocess, "run", run)
    assert model_report.main(["measure=answer"]) == 1
    assert capsys.readouterr().out.endswith(f"one answer, 32 frames to 4 keyframes: failed: {error}\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["measure=all"], "measure=all: expected true, false, or some of answer,pretrain,refine,forward,forward_n"),
        (["out=report.txt"], "out=report.txt: expected a name that ends in .json"),
        (["measure=true", "selector.k=5", "frames.n=4"], "selector.k=5: only frames.n=4 frames are sampled; choose k"),
        (["measure=true", "model=blip2_flan_t5_xl"], "model.source=Salesforce/blip2-flan-t5-xl: no tokenizer there ("),
        (["bogus=1"], "unknown key 'bogus'"),
    ],
)
def test_a_mistake_is_one_line_before_anything_runs(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError) as caught:
        model_report.main(words)
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)
    assert capsys.readouterr().out == ""
