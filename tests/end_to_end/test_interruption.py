"""A run that SIGTERM stopped and SIGKILL killed ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sevila import refine

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE = 120.0  # seconds


@pytest.fixture
def words(chain_runs: Path, small_world: list[str]) -> list[str]:
    """Some 50 quick steps, a checkpoint after every third, an evaluation an epoch."""
    return [
        *("+exp=synthetic_reverse", f"localizer={chain_runs / 'R1'}", "task.frames=2", "task.crop=true"),
        *("frames.n=8", "selector.k=2"),
        *("trainer.batch_size=2", "trainer.epochs=4", "trainer.log_every=1", "trainer.save_every=3"),
        *small_world,
    ]


def step(run: Path) -> int:
    """The last step that the run has logged."""
    log = run / "metrics.jsonl"
    lines = log.read_text().splitlines()[:-1] if log.exists() else []
    return json.loads(lines[-1])["step"] if lines else 0


def interrupt(words: list[str], run: Path, at: int, number: signal.Signals) -> tuple[int, str]:
    """Start the run (or go on with it) in a process of its own and signal it after a step; exit code and stderr."""
    command = [sys.executable, "-m", "sevila.refine", *words, f"run_dir={run}", "resume=true"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    started = time.monotonic()
    with subprocess.Popen(command, cwd=run.parent, env=environment, stderr=subprocess.PIPE, text=True) as process:
        while step(run) < at and process.poll() is None and time.monotonic() - started < PATIENCE:
            time.sleep(0.01)
        process.send_signal(number)
        _, stderr = process.communicate(timeout=PATIENCE)
    assert step(run) >= at, stderr
    return process.returncode, stderr


@pytest.mark.slow
@pytest.mark.parametrize("frames_from", ["midpoints", "video"])
def test_a_stopped_and_killed_run_ends_with_the_same_bits(words: list[str], frames_from: str, tmp_path: Path) -> None:
    words = [*words, f"task.frames_from={frames_from}"]
    before = ["pseudo_labels.jsonl"] if frames_from == "midpoints" else []
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert refine.cli([*words, f"run_dir={whole}"]) == 0
    total = step(whole)

    code, stderr = interrupt(words, broken, 10, signal.SIGTERM)
    assert code == 143 and "stopped by SIGTERM at step" in stderr and "resume=true" in stderr
    stopped = step(broken)
    labels = [(broken / name).stat().st_mtime_ns for name in before]
    assert 10 <= stopped < total and not (broken / "metrics.json").exists()

    code, _ = interrupt(words, broken, stopped + 10, signal.SIGKILL)
    assert code == -signal.SIGKILL and stopped < step(broken) < total
    with (broken / "metrics.jsonl").open("a") as log:
        log.write('{"step": 9')  # half a line, as a kill may leave

    assert refine.cli([*words, f"run_dir={broken}", "resume=true"]) == 0
    for name in ("localizer.safetensors", "metrics.json", "metrics.jsonl", *before):
        assert (broken / name).read_bytes() == (whole / name).read_bytes(), name
    last = f"checkpoints/step_{total}/head.safetensors"
    assert (broken / last).read_bytes() == (whole / last).read_bytes()
    assert [(broken / name).stat().st_mtime_ns for name in before] == labels  # made once
    assert (whole / "pseudo_labels.jsonl").exists() == bool(before)
    assert [path.name for path in broken.rglob("*") if ".tmp-" in path.name] == []


def test_resuming_with_other_numbers_is_refused(
    words: list[str], chain_runs: Path, small_world: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run, before = chain_runs / "R3", (chain_runs / "R3" / "config.yaml").read_bytes()
    assert refine.cli([*words, f"run_dir={run}", "resume=true"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"sevila: error: run_dir={run}: started with ") and "resume with the same" in line
    assert (run / "config.yaml").read_bytes() == before
