"""The study in miniature: real runs of a very small world in two processes, then its pages from the runs alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import synthetic_study

ROWS = ["uniform", "zero_shot", "sr", "k1_zero_shot", "uniform_ft"]


@pytest.mark.slow
def test_the_study_in_miniature(small_world: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, *videos = small_world
    quick = ["trainer.max_steps=2", "trainer.warmup_steps=1", "trainer.batch_size=4", "frames.n=8"]
    words = ["--seeds", "1", "--worlds", "0", "--test-videos", "2", "--out", str(tmp_path), "--rows", *ROWS]
    settings = ["--set", root, *(word for word in videos if not word.startswith("data.test_videos")), *quick]
    assert synthetic_study.main([*words, *settings]) == 0
    done = capsys.readouterr()
    assert "localizer_beats_uniform, accuracy" in done.out and "8/8  " in done.err

    world = tmp_path / "runs/world_0"
    assert json.loads((world / "seed_0/refine/metrics.json").read_text())["step"] in (1, 2)
    claims = json.loads((tmp_path / "claims.json").read_text())
    measured = {"localizer_beats_uniform", "refinement_helps_five_orders_without_pretraining"}
    assert {claim["claim"] for claim in claims} == measured
    rows = {row["row"]: row for row in json.loads((tmp_path / "tables/main.json").read_text())["rows"]}
    for key, name in (("zero_shot", "eval_zero_shot"), ("sr", "seed_0/eval_sr")):
        metrics = json.loads((world / name / "metrics.json").read_text())
        assert rows[key]["accuracy"]["mean"] == pytest.approx(metrics["accuracy"], abs=0.006)
        assert rows[key]["recall"]["mean"] == pytest.approx(metrics["keyframe_recall"], abs=0.006)
        assert rows[key]["n"] == 8
    (label,) = json.loads((tmp_path / "tables/pseudo_labels.json").read_text())
    assert 0 < label["precision"] <= 100 and label["refinement"] == "SR"

    # the one keyframe is the best of the four
    base = [json.loads(line) for line in (world / "eval_zero_shot/predictions.jsonl").read_text().splitlines()]
    one = [json.loads(line) for line in (world / "eval_zero_shot_k1/predictions.jsonl").read_text().splitlines()]
    for many, single in zip(base, one, strict=True):
        (frame,) = single["keyframes"]
        assert frame["index"] == max(many["frames"], key=lambda frame: frame["score"])["index"]

    written = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if "runs" not in path.parts}
    assert synthetic_study.main([*words, *settings, "--report-only"]) == 0
    assert all(path.read_bytes() == content for path, content in written.items())
    again = tmp_path / "runs/again"
    assert synthetic_study.main(["--from-outcomes", str(tmp_path / "outcomes.npz"), "--out", str(again)]) == 0
    for path, content in written.items():
        assert (again / path.relative_to(tmp_path)).read_bytes() == content, path
    assert synthetic_study.main([*words, *settings, "trainer.lr=1e-5"]) == 2
    assert "was made with" in capsys.readouterr().err
