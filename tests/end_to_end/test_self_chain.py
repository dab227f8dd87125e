"""Pre-train, fine-tune, refine, evaluate: what the run folders hold, and that the same command gives the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from sevila import api, refine, train
from sevila import eval as evaluation
from sevila.checkpoints.heads import load_head
from sevila.metrics.choice import Choice, multiple_choice
from sevila.metrics.keyframes import Selection, keyframe_metrics


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def metrics(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "metrics.json").read_text())


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


COMMON = {"config.yaml", "environment.json", "metrics.json", "report.html"}


def test_what_a_training_leaves(chain_runs: Path) -> None:
    trained = COMMON | {"metrics.jsonl", "checkpoints"}
    assert names(chain_runs / "R1") == trained | {"localizer.safetensors", "localizer.json"}
    assert names(chain_runs / "R2") == trained | {"answerer.safetensors", "answerer.json", "keyframes.jsonl"}
    assert names(chain_runs / "R3") == trained | {"localizer.safetensors", "localizer.json", "pseudo_labels.jsonl"}
    assert set(metrics(chain_runs / "R1")) == {"frame_accuracy", "frame_mAP", "step"}
    assert set(metrics(chain_runs / "R2")) == {"accuracy", "keyframe_recall", "keyframe_hit", "step"}
    labels = {"pseudo_label_yes", "pseudo_label_precision", "pseudo_label_recall"}
    assert set(metrics(chain_runs / "R3")) == {"accuracy", "keyframe_recall", "keyframe_hit", "step"} | labels
    for name in ("R1", "R2", "R3"):
        log = rows(chain_runs / name / "metrics.jsonl")
        steps = [row["step"] for row in log]
        assert steps == sorted(steps) and steps[-1] == metrics(chain_runs / name)["step"]
        losses = [row["train/loss"] for row in log if "train/loss" in row]
        assert len(losses) >= 2 and all(0 < loss < 20 for loss in losses)
        assert all(row["train/grad_norm"] > 0 for row in log if "train/loss" in row)
        values = {key[4:]: value for key, value in log[-1].items() if key.startswith("val/")}
        assert values.items() <= metrics(chain_runs / name).items()
        config = yaml.safe_load((chain_runs / name / "config.yaml").read_text())
        assert (config["seed"], config["trainer"]["batch_size"], config["data"]["val_videos"]) == (0, 8, 2)


def test_each_run_trains_its_own_head_and_nothing_else(chain_runs: Path) -> None:
    backbone = api.SeViLA.load().model.backbone
    own = backbone.zeroshot.state_dict()
    r1 = load_file(chain_runs / "R1" / "localizer.safetensors")
    r2 = load_file(chain_runs / "R2" / "answerer.safetensors")
    r3 = load_file(chain_runs / "R3" / "localizer.safetensors")
    for name in own:
        assert r1[name].shape == own[name].shape
    changed = [name for name in own if not torch.equal(own[name], r1[name])]
    assert {"queries", "norm.weight", "projection.weight"} <= set(changed)
    assert any(not torch.equal(r1[name], r3[name]) for name in own)
    assert max(float((r3[name] - r1[name]).abs().max()) for name in own) < 0.01  # R3 began where R1 ended
    assert any(not torch.equal(own[name], r2[name]) for name in own)
    described = json.loads((chain_runs / "R3" / "localizer.json").read_text())
    assert described["role"] == "localizer" and described["backbone"]["fingerprint"] == backbone.fingerprint
    assert described["training"]["localizer"] == str(chain_runs / "R1")
    assert described["training"]["step"] == metrics(chain_runs / "R3")["step"]


def test_what_the_forward_run_looked_at(chain_runs: Path) -> None:
    kept = rows(chain_runs / "R2" / "keyframes.jsonl")
    assert len({row["qid"] for row in kept}) == len(kept) > 20
    for row in kept:
        assert len(row["indices"]) == 4 and row["indices"] == sorted(set(row["indices"]))
        assert set(row["indices"]) <= set(range(1, 64, 2))


def test_the_pseudo_labels_of_the_reverse_run(chain_runs: Path) -> None:
    kept = rows(chain_runs / "R3" / "pseudo_labels.jsonl")
    assert all(row["indices"] == list(range(1, 64, 2)) and len(row["labels"]) == 32 for row in kept)
    share = sum(sum(row["labels"]) for row in kept) / (32 * len(kept))
    assert metrics(chain_runs / "R3")["pseudo_label_yes"] == round(100 * share, 2)


def test_what_an_evaluation_leaves(chain_runs: Path, small_world: list[str]) -> None:
    folder = chain_runs / "R4"
    assert names(folder) == COMMON | {"predictions.jsonl"}
    measured, predictions = metrics(folder), rows(folder / "predictions.jsonl")
    assert set(measured) == {"accuracy", "accuracy_by_type", "n", "keyframe_recall", "keyframe_hit"}
    assert set(measured["accuracy_by_type"]) == {row["qtype"] for row in predictions} > {"descriptive"}
    assert measured["n"] == len(predictions) and len({row["qid"] for row in predictions}) == len(predictions)
    (world,) = Path(small_world[0].removeprefix("data.root=")).glob("seed_0-*")
    windows = {
        f"{video}_{number}": spans
        for video, entry in json.loads((world / "windows_test.json").read_text()).items()
        for number, spans in entry["location"].items()
    }
    selections, choices = [], []
    for row in predictions:
        assert list(row) == [*("qid", "video", "qtype", "answer", "prediction", "option_logits", "keyframes", "frames")]
        assert len(row["frames"]) == 32 and len(row["keyframes"]) == 4 and len(row["option_logits"]) == 5
        assert row["prediction"] == max(range(5), key=row["option_logits"].__getitem__)
        scores = sorted((frame["score"] for frame in row["frames"]), reverse=True)
        assert min(frame["score"] for frame in row["keyframes"]) >= scores[3]
        assert [frame["time"] for frame in row["keyframes"]] == sorted({f["time"] for f in row["keyframes"]})
        assert all(frame["time"] == frame["index"] / 4 for frame in row["frames"])
        times = [frame["time"] for frame in row["frames"]]
        chosen = [times.index(frame["time"]) for frame in row["keyframes"]]
        selections.append(Selection(times, chosen, windows[row["qid"].partition("_")[2]]))
        choices.append(Choice(row["answer"], row["prediction"], row["qtype"]))
    assert measured == {**multiple_choice(choices), **keyframe_metrics(selections)}
    page = (folder / "report.html").read_text()
    assert page.lower().startswith("<!doctype html>")
    assert "Answered wrongly: " in page and "Answered rightly: " in page and f"{measured['accuracy']:.2f}" in page
    assert page.count("<article") == 12 and page.count("data:image/jpeg;base64,") == 12 * 4


def test_the_same_evaluation_gives_the_same_bytes(
    chain_runs: Path, small_world: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads = [f"localizer={chain_runs / 'R3'}", f"answerer={chain_runs / 'R2' / 'answerer.safetensors'}"]
    monkeypatch.chdir(tmp_path)
    assert evaluation.cli(["+exp=synthetic_eval", "run_dir=again", *heads, *small_world]) == 0
    for name in ("metrics.json", "predictions.jsonl"):
        assert (tmp_path / "again" / name).read_bytes() == (chain_runs / "R4" / name).read_bytes()
    assert evaluation.cli(["+exp=synthetic_eval", "selector=uniform", *small_world]) == 0
    (folder,) = (tmp_path / "runs" / "synthetic_eval").iterdir()
    (chosen,) = {tuple(f["index"] for f in row["keyframes"]) for row in rows(folder / "predictions.jsonl")}
    assert chosen == (9, 25, 41, 57) and metrics(folder) != metrics(chain_runs / "R4")


@pytest.mark.parametrize(
    ("cli", "words", "first", "head"),
    [
        (train.cli, ["+exp=synthetic_pretrain", "task.frames=4"], "R1", "localizer"),
        (train.cli, ["+exp=synthetic_forward", "localizer=R1"], "R2", "answerer"),
        (refine.cli, ["+exp=synthetic_reverse", "localizer=R1"], "R3", "localizer"),
    ],
    ids=["pretrain", "forward", "reverse"],
)
def test_the_same_training_gives_the_same_bytes(
    chain_runs: Path,
    small_world: list[str],
    short: list[str],
    tmp_path: Path,
    cli: Any,
    words: list[str],
    first: str,
    head: str,
) -> None:
    words = [word.replace("=R1", f"={chain_runs / 'R1'}") for word in words]
    again = tmp_path / "again"
    assert cli([*words, f"run_dir={again}", *short, *small_world]) == 0
    for name in (f"{head}.safetensors", "metrics.json", "metrics.jsonl"):
        assert (again / name).read_bytes() == (chain_runs / first / name).read_bytes(), name


def test_another_seed_gives_another_head(
    chain_runs: Path, small_world: list[str], short: list[str], tmp_path: Path
) -> None:
    words = ["+exp=synthetic_pretrain", "task.frames=4", f"run_dir={tmp_path / 'other'}", "seed=1", *short]
    assert train.cli([*words, *small_world]) == 0
    name = "localizer.safetensors"
    assert (tmp_path / "other" / name).read_bytes() != (chain_runs / "R1" / name).read_bytes()


def test_selection_in_every_step(small_world: list[str], tmp_path: Path) -> None:
    words = ["+exp=synthetic_forward", f"run_dir={tmp_path / 'r'}", "task.select_once=false", "task.crop=true"]
    more = ["trainer.max_steps=2", "trainer.batch_size=2", "frames.n=8", "frames.workers=1", "selector.k=2"]
    assert train.cli([*words, *more, *small_world]) == 0
    assert metrics(tmp_path / "r")["step"] == 2 and not (tmp_path / "r" / "keyframes.jsonl").exists()
    backbone = api.SeViLA.load().model.backbone
    head = load_head(str(tmp_path / "r"), "answerer", backbone)
    assert not torch.equal(head.projection.weight, backbone.zeroshot.projection.weight)
