"""The check of a GPU, dry: parts that fail, hang or miss what is wanted, and the files that tell of them."""

from __future__ import annotations

import fcntl
import json
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

import gpu_check
from gpu_parts import measures, numerics, trainings
from gpu_parts.base import Check, Found, Grid, Lines, Part, Setting
from parsed_page import read_page
from sevila.api import SeViLA
from sevila.checkpoints.heads import load_head
from sevila.config import load
from sevila.errors import UserError

FOUND = Found(
    [Check("mean loss", "0.50", "within 10%", True), Check("rate", "700 TFLOP/s")],
    [Grid("A caption.", ["work", "seconds"], [["answer", 0.25], ["step", None]])],
    [Lines("Training loss", {"CPU": [(1, 0.7), (2, 0.3)], "cuda": [(1, 0.8), (2, 0.2)]})],
)
MISSED = Found([Check("memory", "30.00 GB", "at most 24 GB", False)])


def leaving(found: Found, name: str, work: Path) -> str:
    file, text = str(work / f"{name}.json"), json.dumps(found.to_json())
    return f"import pathlib; pathlib.Path({file!r}).write_text({text!r})"


def part(name: str, limit: float = 60) -> Part:
    return Part(name, f"Part {name}", limit, lambda _: FOUND)


@pytest.fixture(autouse=True)
def _quiet(one_thread: None) -> None: ...


def test_each_part_ends_as_it_ends_and_loses_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One passes; others fail, hang with a child of their own, miss what is wanted, leave nothing, come too late."""
    held, alive = tmp_path / "held", tmp_path / "alive"
    child = (
        f"import fcntl, pathlib, time; held = open({str(held)!r}, 'w'); fcntl.flock(held, fcntl.LOCK_EX);"
        f"time.sleep(20); pathlib.Path({str(alive)!r}).touch()"
    )
    hanging = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    codes: Sequence[tuple[Part, str]] = (
        (part("good"), leaving(FOUND, "good", tmp_path)),
        (part("bad"), "raise RuntimeError('CUDA out of <memory>')"),
        (part("slow", 1), hanging),
        (part("short"), leaving(MISSED, "short", tmp_path)),
        (part("silent"), "pass"),
    )
    commands = [(each, [sys.executable, "-S", "-c", code]) for each, code in codes]
    late = (part("late", limit=0), [sys.executable, "-c", ""])
    outcomes = gpu_check.check([*commands, late], tmp_path, tmp_path / "out", {"Device": "cpu"}, 60)
    assert [each.state for each in outcomes] == ["passed", "failed", "timed out", "missed", "failed", "not reached"]
    assert outcomes[0].found == Found.of(json.loads(json.dumps(FOUND.to_json())))
    assert capsys.readouterr().out.splitlines()[1].startswith("bad: failed, ")

    stored = json.loads((tmp_path / "out/gpu_check.json").read_text())
    assert stored["facts"] == {"Device": "cpu"}
    assert [row["state"] for row in stored["parts"]] == [each.state for each in outcomes]
    assert stored["parts"][0]["found"]["checks"][0]["found"] == "0.50"
    page = read_page(tmp_path / "out/gpu_check.html")
    rows = {row[0]: (row[1], row[4] if len(row) > 4 else "") for row in page.cells if row[0].startswith("Part ")}
    assert rows == {
        "Part good": ("passed", ""),
        "Part bad": ("failed", "RuntimeError: CUDA out of <memory>"),
        "Part slow": ("timed out", "Ended after 1 s: its limit."),
        "Part short": ("missed", "memory: 30.00 GB (wanted: at most 24 GB)"),
        "Part silent": ("failed", "exit code 0, no results"),
        "Part late": ("not reached", "Not begun: the time of the whole was used up."),
    }
    assert ["mean loss", "0.50", "within 10%", "yes"] in page.cells and ["answer", "0.25"] in page.cells
    log = (tmp_path / "out/gpu_check.log").read_text()
    assert "== slow: timed out" in log and "CUDA out of <memory>" in log
    with held.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # what hung, and its child, are gone: nobody else holds it
    assert not alive.exists()


def test_what_is_known_is_written_after_every_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(gpu_check, "write_all", lambda *given: seen.append([each.state for each in given[2]]))
    code = [sys.executable, "-S", "-c", "raise SystemExit(3)"]
    gpu_check.check([(part("a"), code), (part("b"), code)], tmp_path, tmp_path, {}, 60)
    assert seen == [["failed", "not reached"], ["failed", "failed"]]


def test_a_part_runs_in_its_own_process(tmp_path: Path) -> None:
    words = ["--device", "cpu", "--small", "--out", str(tmp_path / "out"), "--parts", "attention"]
    assert gpu_check.main(words) == 0
    (row,) = json.loads((tmp_path / "out/gpu_check.json").read_text())["parts"]
    assert row["state"] == "passed" and len(row["found"]["grids"][0]["rows"]) == len(measures.SHAPES)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--limit", "memory"], "--limit memory: expected NAME=SECONDS, NAME one of tests, numerics,"),
        (["--limit", "nothing=3"], "--limit nothing=3: expected NAME=SECONDS"),
        (["--device", "cuda:99"], "device=cuda:99: this machine has"),
    ],
)
def test_a_mistake_is_told_before_anything_runs(words: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        gpu_check.main([*words, "--out", str(tmp_path / "out")])
    assert str(caught.value).startswith(message)
    assert not (tmp_path / "out").exists()


def test_the_limits_leave_room_for_what_is_most_wanted() -> None:
    names = list(gpu_check.PARTS)
    assert names[:3] == ["tests", "numerics", "waits"]
    assert sum(gpu_check.PARTS[name].limit for name in names[: names.index("bench")]) <= 600


# -- the parts themselves, small ---


def test_numbers_that_differ_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    setting = Setting("cpu", True, tmp_path)
    found = numerics.tiny(setting)
    assert [check.passed for check in found.checks] == [True, True, True]
    assert [row[0] for row in found.grids[0].rows] == ["fp32", "bf16", "published"]
    assert found.grids[0].rows[0][1:] == ["0", "0", "0", "yes", "yes"]

    true = numerics.answered

    def planted(sevila: SeViLA) -> tuple[torch.Tensor, ...]:
        return tuple(tensor + (sevila.model.backbone.dtype != torch.float32) for tensor in true(sevila))

    monkeypatch.setattr(numerics, "answered", planted)
    assert [check.passed for check in numerics.tiny(setting).checks] == [True, False, False]


def test_golden_scenarios_outside_of_their_tolerance_are_named(
    shared: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from official.difference import Difference

    def planted(_: Path, dtype: torch.dtype, device: str) -> dict[str, Difference]:
        half, here = dtype == torch.bfloat16, device != "cpu"
        off = Difference("forward.loss", 0.5 if half and here else 1e-2 if half else 3e-4 if here else 1e-6, 1e-4)
        other = Difference("best.frame", float(half), 0.0), Difference("best.logits", 1e-6 + 9 * (half and here), 1e-4)
        rows = (off, Difference("chain.keyframes", 0.0, 0.0), *other)
        return {row.what: row for row in rows}

    monkeypatch.setattr(numerics, "run_all", planted)
    found = numerics.scenarios(Setting("cuda", True, tmp_path), shared)
    assert [check.passed for check in found.checks] == [False, False, None]
    assert found.checks[0].found == "3 of 4; not forward.loss"
    assert found.checks[1].found == "0 of 1; not forward.loss (0.5, on the CPU 0.01)"
    assert found.checks[2].found == "best"
    assert found.grids[0].rows[0] == ["forward.loss", "1e-04", "1e-06", "0.0003", "0.01", "0.5"]


def test_a_golden_scenario_runs_on_a_named_device(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from official import scenarios

    whole = scenarios.scenarios
    monkeypatch.setattr(scenarios, "scenarios", lambda golden: {"localizer": whole(golden)["localizer"]})
    rows = numerics.run_all(shared, torch.float32, "cpu")
    assert len(rows) > 5 and all(d.passed for d in rows.values())


def test_curves_are_read_and_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By stand-ins for the trainings: the device's loss is a fifth higher, then not a number."""
    code = (
        "import pathlib, sys; run = pathlib.Path(sys.argv[1]); run.mkdir();"
        'lines = [f\'{{"step": {i}, "train/loss": {float(sys.argv[2]) / i}}}\' for i in (1, 2, 3, 4)];'
        "(run / 'metrics.jsonl').write_text('\\n'.join(lines) + '\\n{\"step\": 5, \"tr')"
    )

    def command(setting: Setting, kind: object, run: Path, device: str, steps: int) -> list[str]:
        return [sys.executable, "-S", "-c", code, str(run), "1.2" if run.name.endswith("device") else "1.0"]

    monkeypatch.setattr(trainings, "command", command)
    found = trainings.curves(Setting("cpu", True, tmp_path), "forward")
    assert [check.passed for check in found.checks] == [True, True, False]
    assert found.checks[2].found == "0.6250, on the CPU 0.5208"
    assert dict(found.charts[0].lines)["CPU"] == [(1, 1.0), (2, 0.5), (3, 1.0 / 3), (4, 0.25)]


@pytest.mark.parametrize("name", list(trainings.KINDS))
@pytest.mark.parametrize("small", [True, False])
def test_a_training_is_what_its_entry_point_takes(
    name: str, small: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainings, "make", lambda *_, **__: None)
    kind = trainings.KINDS[name]
    words = trainings.command(Setting("cuda", small, tmp_path), kind, tmp_path / "run", "cuda:0", 7)
    config = load(kind.words[0].removeprefix("sevila."), words[3:])
    assert (config.precision, config.device, config.trainer.max_steps) == ("bf16", "cuda:0", 7)
    assert Path(getattr(config, kind.role)).is_file() and config.data["train_videos"] == trainings.WORLD["train_videos"]
    other = {"localizer": "answerer", "answerer": "localizer"}[kind.role]
    assert getattr(config, other) == "zeroshot"


def test_a_training_is_stopped_and_belongs_to_its_part(tmp_path: Path) -> None:
    """In a group of its own it would go on after a part that was killed."""
    code = (
        "import os, pathlib, signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(143));"
        "run = pathlib.Path(sys.argv[1]); (run / 'group').write_text(str(os.getpgrp()));"
        'lines = [f\'{{"step": {i}, "train/loss": 1.0}}\\n\' for i in (1, 2)];'
        "(run / 'metrics.jsonl').write_text(''.join(lines)); time.sleep(20)"
    )
    assert trainings.stopped([sys.executable, "-S", "-c", code, str(tmp_path)], tmp_path) == trainings.STOPPED
    assert (tmp_path / "group").read_text() == str(os.getpgrp())


def test_an_unlearned_head_fits_and_has_something_to_learn(tmp_path: Path) -> None:
    place = trainings.unlearned(tmp_path, "answerer")
    backbone = SeViLA.load("tiny", dtype="fp32").model.backbone
    head = load_head(str(place), "answerer", backbone)
    assert not torch.equal(head.projection.weight, backbone.zeroshot.projection.weight)
    assert torch.equal(head.norm.weight, backbone.zeroshot.norm.weight)


def test_the_measures_run_without_a_gpu(tmp_path: Path) -> None:
    setting = Setting("cpu", True, tmp_path)
    waits = measures.waits(setting)
    assert [(check.wanted, check.passed) for check in waits.checks] == [
        ("at most 2", None), ("at most 2", None), ("at most 2", None), ("at most 3", None),
    ]  # fmt: skip
    bench = measures.bench(setting)
    stages = ["vision tower", "Localizer", "Answerer", "forward chain"]
    heads = ["float32", "float32 as TF32", "bfloat16"]
    assert [row[:2] for row in bench.grids[0].rows] == [[kind, stage] for kind in heads for stage in stages]
    assert bench.checks[1].what == "forward chain" and bench.checks[1].found.endswith(" % of it")


def test_the_lines_at_which_the_host_waits_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA warns once a wait; what else warns is no wait."""
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    modes: list[str] = []
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)

    def work() -> None:
        for _ in range(3):
            warnings.warn("called a synchronizing CUDA operation", stacklevel=1)
        warnings.warn("something else", stacklevel=1)

    found = measures.waited(work)
    ((place, count),) = found.items()
    assert count == 3 and place.startswith("tests/scripts/test_gpu_check.py:") and modes == ["warn", "default"]
