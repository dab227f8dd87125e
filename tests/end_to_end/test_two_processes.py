"""Several processes under torchrun: one run folder, each works on its share of the videos, one result."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from sevila import eval as evaluation
from sevila import refine
from sevila.files import read_json, read_jsonl


@pytest.mark.slow
def test_a_refinement_and_its_evaluation(
    small_world: list[str],
    short: list[str],
    tmp_path: Path,
    torchrun: Callable[..., None],
    two_nodes: Callable[..., list[tuple[int, str]]],
) -> None:
    """Labels and answers are those of one process, line by line. Without run_dir the folder's name is the time.

    The evaluation goes to two machines, and is refused where they do not share the run folder.
    """
    words = ["+exp=synthetic_reverse", "device=cpu", *short, *small_world]
    torchrun("-m", "sevila.refine", *words, cwd=tmp_path)
    (two,) = (tmp_path / "runs/synthetic_reverse").iterdir()
    one = tmp_path / "one"
    assert refine.cli([*words, f"run_dir={one}"]) == 0
    assert (two / "pseudo_labels.jsonl").read_bytes() == (one / "pseudo_labels.jsonl").read_bytes()
    assert read_json(two / "metrics.json").keys() == read_json(one / "metrics.json").keys()
    steps = [row["step"] for row in read_jsonl(two / "metrics.jsonl") if "lr" in row]
    assert steps == list(range(1, len(steps) + 1))  # one process logs

    words = ["+exp=synthetic_eval", "device=cpu", f"localizer={two}", *small_world]
    nodes = two_nodes("-m", "sevila.eval", *words, "run_dir=both", folders=(tmp_path, tmp_path))
    assert [code for code, _ in nodes] == [0, 0], nodes
    assert evaluation.cli([*words, f"run_dir={tmp_path / 'alone'}"]) == 0
    for name in ("predictions.jsonl", "metrics.json"):
        assert (tmp_path / "both" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    assert sorted(file.name for file in (tmp_path / "both").iterdir()) == sorted(
        file.name for file in (tmp_path / "alone").iterdir()
    )

    apart = tmp_path / "first", tmp_path / "second"
    for folder in apart:
        folder.mkdir()
    for code, said in two_nodes("-m", "sevila.eval", *words, "run_dir=both", folders=apart):
        (line,) = [line for line in said.splitlines() if line.startswith("sevila: error:")]
        assert code == 1 and re.search(r"run_dir=both: process 1, on .*, does not see the folder that process 0", line)


@pytest.mark.slow
def test_labels_in_the_step(
    small_world: list[str], short: list[str], tmp_path: Path, torchrun: Callable[..., None]
) -> None:
    """Two processes with 4 videos a batch label what one with 8 does: the same frames, drawn by question and epoch."""
    words = ["+exp=synthetic_reverse", "device=cpu", *short, *small_world, "task.frames_from=video", "task.frames=4"]
    words += ["task.orders=1", "trainer.max_steps=2"]
    torchrun("-m", "sevila.refine", *words, "trainer.batch_size=4", "run_dir=two", cwd=tmp_path)
    assert refine.cli([*words, "trainer.batch_size=8", f"run_dir={tmp_path / 'one'}"]) == 0
    seen = [
        [row["train/yes_share"] for row in read_jsonl(tmp_path / name / "metrics.jsonl") if "lr" in row]
        for name in ("one", "two")
    ]
    assert len(seen[0]) == 2 and all(0.05 < share < 1 for share in seen[0])
    assert seen[1] == pytest.approx(seen[0], abs=1e-9)
