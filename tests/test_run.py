from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import yaml

from sevila.config import load
from sevila.errors import UserError
from sevila.run import RunFolder, environment
from sevila.schema import Train


def config(**changes: object) -> Train:
    return replace(load("train", ["+exp=synthetic_pretrain"]), **changes)


def started(path: Path) -> RunFolder:
    run = RunFolder.create(str(path), "e")
    run.start(config(), "cpu")
    return run


def test_the_default_folder_is_the_experiment_and_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = RunFolder.create(None, "synthetic_pretrain")
    assert re.fullmatch(r"runs/synthetic_pretrain/\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d", run.path.as_posix())
    assert list(tmp_path.iterdir()) == []  # nothing is written before start


def test_two_runs_of_one_second_get_two_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock:
        @staticmethod
        def now() -> Clock:
            return Clock()

        def strftime(self, _: str) -> str:
            return "T"

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sevila.run.datetime", Clock)
    found = []
    for _ in range(3):
        found.append(RunFolder.create(None, "e").path)
        found[-1].mkdir(parents=True)
    assert [path.as_posix() for path in found] == ["runs/e/T", "runs/e/T-2", "runs/e/T-3"]


def test_start_writes_the_configuration_and_the_environment(tmp_path: Path) -> None:
    run = started(tmp_path / "a" / "run")
    stored = yaml.safe_load((run.path / "config.yaml").read_text())
    assert stored == asdict(config())
    assert stored["trainer"]["lr"] == 2e-4 and stored["data"]["name"] == "synthetic"
    where = json.loads((run.path / "environment.json").read_text())
    assert (where["device"], where["precision"]) == ("cpu", "fp32") and where["python"].startswith("3.")
    assert where["packages"]["torch"] and where["packages"]["transformers"]
    assert sorted(path.name for path in run.path.iterdir()) == ["config.yaml", "environment.json"]


def test_the_environment_names_no_commit_outside_a_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sevila.run.__file__", "/nowhere/site-packages/sevila/run.py")
    assert environment("cpu", "fp32")["commit"] is None


def test_a_folder_in_use_is_refused_without_resume(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty; give another one, or resume=true"):
        RunFolder.create(str(tmp_path), "e")
    with pytest.raises(UserError, match=r"holds no run to resume \(no config.yaml\)"):
        RunFolder.create(str(tmp_path), "e", resume=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_file_and_a_path_through_a_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    with pytest.raises(UserError, match="is a file, not a folder"):
        RunFolder.create(str(tmp_path / "f"), "e")
    with pytest.raises(UserError, match="cannot be written to"):
        RunFolder.create(str(tmp_path / "f" / "run"), "e")


def test_resume_needs_the_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="give run_dir=FOLDER"):
        RunFolder.create(None, "e", resume=True)


@pytest.mark.parametrize("content", [[], [".config.tmp-0123.yaml"]])
def test_resume_starts_where_nothing_was_written_yet(tmp_path: Path, content: list[str]) -> None:
    for name in content:  # what a killed run may leave
        (tmp_path / name).write_text("")
    run = RunFolder.create(str(tmp_path), "e", resume=True)
    assert not run.resumed
    run.start(config(), "cpu")
    assert RunFolder.create(str(tmp_path), "e", resume=True).resumed


def test_resume_keeps_the_configuration_and_allows_what_changes_no_number(tmp_path: Path) -> None:
    run = started(tmp_path / "run")
    before = (run.path / "config.yaml").read_bytes()
    again = RunFolder.create(str(run.path), "e", resume=True)
    base = config()
    again.start(replace(base, resume=True, device="cpu", run_dir="x", frames=replace(base.frames, workers=1)), "cpu")
    assert (run.path / "config.yaml").read_bytes() == before


def test_resume_with_another_setting_is_refused(tmp_path: Path) -> None:
    run = started(tmp_path / "run")
    (run.path / "environment.json").unlink()
    again = RunFolder.create(str(run.path), "e", resume=True)
    changed = config(trainer=replace(config().trainer, lr=3e-4))
    with pytest.raises(UserError, match=r"started with trainer.lr=0.0002, now trainer.lr=0.0003; "):
        again.start(changed, "cpu")
    assert not (run.path / "environment.json").exists()


def test_lines_are_appended_and_rewound(tmp_path: Path) -> None:
    run = started(tmp_path / "run")
    run.rewind(0, 0)  # nothing logged yet
    for step in (10, 20, 30):
        run.log({"step": step, "loss": 1 / step})
        run.log({"step": step, "val/accuracy": 1.0})
    with (run.path / "metrics.jsonl").open("ab") as file:
        file.write('{"step": 40, "note": "ä'.encode()[:-1])  # killed in the middle of a character
    run.rewind(20, 10)
    run.log({"step": 30, "loss": 0.5})
    rows = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    kept = [{"step": 10, "loss": 0.1}, {"step": 10, "val/accuracy": 1.0}, {"step": 20, "loss": 0.05}]
    assert rows == [*kept, {"step": 30, "loss": 0.5}]
    run.rewind(0, 0)
    assert (run.path / "metrics.jsonl").read_text() == ""


def test_equal_metrics_give_equal_bytes_in_two_folders(tmp_path: Path) -> None:
    one, two = started(tmp_path / "one"), started(tmp_path / "two")
    one.write_metrics({"n": 3, "accuracy": 66.67, "accuracy_by_type": {"b": 50.0, "a": 100.0}})
    two.write_metrics({"accuracy_by_type": {"a": 100.0, "b": 50.0}, "accuracy": 66.67, "n": 3})
    assert (one.path / "metrics.json").read_bytes() == (two.path / "metrics.json").read_bytes()
    one.write_predictions([{"qid": "q1", "prediction": 0}, {"qid": "q2", "prediction": 1}])
    lines = (one.path / "predictions.jsonl").read_text().splitlines()
    assert lines == ['{"qid": "q1", "prediction": 0}', '{"qid": "q2", "prediction": 1}']
    assert one.checkpoints == one.path / "checkpoints"
