"""Several processes under torchrun: one run folder, each labels its share of the videos, one result."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sevila import refine
from sevila.files import read_json, read_jsonl

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_a_refinement_in_two_processes(small_world: list[str], short: list[str], tmp_path: Path) -> None:
    """Without run_dir, whose name is then the time. Labels are those of one process, line by line."""
    words = ["+exp=synthetic_reverse", "device=cpu", *short, *small_world]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run(
        [*launch, "-m", "sevila.refine", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (two,) = (tmp_path / "runs/synthetic_reverse").iterdir()
    one = tmp_path / "one"
    assert refine.cli([*words, f"run_dir={one}"]) == 0
    assert (two / "pseudo_labels.jsonl").read_bytes() == (one / "pseudo_labels.jsonl").read_bytes()
    assert read_json(two / "metrics.json").keys() == read_json(one / "metrics.json").keys()
    assert (two / "localizer.safetensors").is_file()
    steps = [row["step"] for row in read_jsonl(two / "metrics.jsonl") if "lr" in row]
    assert steps == list(range(1, len(steps) + 1))  # one process logs
