from __future__ import annotations

import errno
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path

import pytest
import yaml

from sevila.config import load
from sevila.errors import UserError
from sevila.run_folder import RunFolder, check_not_of_run, environment
from sevila.schema import Train


def config(**changes: object) -> Train:
    return replace(load("train", ["+exp=synthetic_pretrain"]), **changes)


def started(path: Path) -> RunFolder:
    """The folder of a run that began and left it."""
    with RunFolder.create(str(path), "e") as run:
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

        def astimezone(self) -> datetime:
            return datetime.now().astimezone()

        def strftime(self, _: str) -> str:
            return "T"

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sevila.run_folder.datetime", Clock)
    runs = [RunFolder.create(None, "e") for _ in range(3)]  # all have looked before the first is there
    for run in runs:
        run.start(config(), "cpu")
    assert [run.path.as_posix() for run in runs] == ["runs/e/T", "runs/e/T-2", "runs/e/T-3"]


def test_start_writes_the_configuration_and_the_environment(tmp_path: Path) -> None:
    run = started(tmp_path / "a" / "run")
    stored = yaml.safe_load((run.path / "config.yaml").read_text())
    assert stored == asdict(config())
    assert stored["trainer"]["lr"] == 2e-4 and stored["data"]["name"] == "synthetic"
    where = json.loads((run.path / "environment.json").read_text())
    assert (where["device"], where["precision"], where["model"]) == ("cpu", "fp32", "tiny")
    assert where["python"].startswith("3.")
    assert where["packages"]["torch"] and where["packages"]["transformers"]
    assert sorted(path.name for path in run.path.iterdir()) == ["config.yaml", "environment.json"]


def test_the_environment_names_no_commit_outside_a_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sevila.run_folder.__file__", "/nowhere/site-packages/sevila/run_folder.py")
    assert environment("cpu", "fp32", "tiny")["commit"] is None


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


@pytest.mark.parametrize("content", [[], [".config.tmp-0123456789ab.yaml"], [".lock"]])
def test_resume_starts_where_nothing_was_written_yet(tmp_path: Path, content: list[str]) -> None:
    for name in content:  # what a killed run may leave
        (tmp_path / name).write_text("")
    with RunFolder.create(str(tmp_path), "e", resume=True) as run:
        assert not run.resumed
        run.start(config(), "cpu")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["config.yaml", "environment.json"]
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


HOLDER = r"process \d+ on \S+, since 20\S+ is at work in it; wait for its end, or name another folder"


@pytest.mark.parametrize("resume", [False, True])
def test_a_second_run_in_the_folder_of_a_living_one_is_refused(tmp_path: Path, resume: bool) -> None:
    """At once where it is seen at once, and where both looked before either began, by the lock."""
    late = RunFolder.create(str(tmp_path / "run"), "e", resume)
    with RunFolder.create(str(tmp_path / "run"), "e") as first:
        first.start(config(), "cpu")
        half = first.path / ".metrics.tmp-0123456789ab.json"
        half.write_text("{")  # the living one is writing
        with pytest.raises(UserError, match=HOLDER), late:
            late.start(config(seed=2), "cpu")
        with pytest.raises(UserError, match=HOLDER if resume else "not empty"):
            RunFolder.create(str(tmp_path / "run"), "e", resume)
        assert half.exists() and yaml.safe_load((first.path / "config.yaml").read_text())["seed"] == 0
    with pytest.raises(UserError, match="not empty"), late:
        late.start(config(seed=2), "cpu")
    assert yaml.safe_load((first.path / "config.yaml").read_text())["seed"] == 0


def test_what_a_killed_run_left_is_swept_at_the_next_start(tmp_path: Path) -> None:
    run = started(tmp_path / "run")
    left = ["checkpoints/.step_3.tmp-0123456789ab/head", ".metrics.tmp-0123456789ab.json", "wandb/.lock"]
    for name in left:
        (run.path / name).parent.mkdir(parents=True, exist_ok=True)
        (run.path / name).write_text("half")
    (run.path / ".lock").write_text("process 1 on elsewhere\n")  # it was killed: nobody holds it
    with RunFolder.create(str(run.path), "e", resume=True) as again:
        again.start(config(), "cpu")
    found = sorted(str(file.relative_to(run.path)) for file in run.path.rglob("*") if file.is_file())
    assert found == ["config.yaml", "environment.json", "wandb/.lock"]


@pytest.mark.parametrize("content", ["", "exp: synthetic_pretrain\n", "- 1\n", "a: [\n"])
def test_a_configuration_that_is_cut_off(tmp_path: Path, content: str) -> None:
    run = started(tmp_path / "run")
    (run.path / "config.yaml").write_text(content)
    with pytest.raises(UserError) as raised:
        RunFolder.create(str(run.path), "e", resume=True).start(config(), "cpu")
    assert str(raised.value) == (
        f"{run.path}/config.yaml: is empty, cut off or of another version; restore it, or start in another folder"
    )


def test_what_the_machine_refuses_is_told_with_what_is_kept(tmp_path: Path) -> None:
    with pytest.raises(UserError) as raised, RunFolder.create(str(tmp_path / "run"), "e") as run:
        run.start(config(), "cpu")
        run.checkpoints.mkdir()
        (run.checkpoints / "last").write_text("step_3\n")
        raise OSError(errno.ENOSPC, "No space left on device", str(run.path / "metrics.json"))
    assert str(raised.value) == (
        f"{run.path}/metrics.json: No space left on device; make room or raise the limit; {run.path} keeps its "
        "checkpoint step_3, and the same command with resume=true goes on from there"
    )
    assert not (run.path / ".lock").exists()
    with pytest.raises(KeyError), run:  # a fault of the program stays what it is
        raise KeyError


@pytest.mark.parametrize("then", ["removed", "another", "file"])
def test_a_folder_that_is_gone_is_not_made_anew(tmp_path: Path, then: str) -> None:
    def write(name: str, writer: Callable[[RunFolder], None]) -> None:
        with RunFolder.create(str(tmp_path / name), "e") as run:
            run.start(config(), "cpu")
            shutil.rmtree(run.path)
            if then == "another":
                run.path.mkdir()
            elif then == "file":
                run.path.write_text("")
            writer(run)

    writers = [
        lambda run: run.log({"step": 1}), lambda run: run.write_metrics({}), lambda run: run.write_predictions([]),
    ]  # fmt: skip
    for number, writer in enumerate(writers):
        with pytest.raises(UserError) as raised:
            write(str(number), writer)
        path = tmp_path / str(number)
        assert str(raised.value) == (
            f"{path}: The run folder was removed or replaced during the run; of the run in {path} nothing is kept"
        )
        assert not path.is_dir() or list(path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["metrics.json", "predictions.jsonl", "checkpoints/step_3/state.json", "localizer.json"]
)
def test_an_output_is_no_file_of_a_run(tmp_path: Path, name: str) -> None:
    run = started(tmp_path / "run")
    (run.path / "localizer.safetensors").write_text("")
    (tmp_path / "link").symlink_to(run.path)
    for folder in (run.path, tmp_path / "link"):
        with pytest.raises(
            UserError, match=f"export={folder / name}: is a file of the run in {run.path}; name another"
        ):
            check_not_of_run("export", folder / name, None)
    if "/" not in name and name != "localizer.json":  # of a run that is still to be made
        with pytest.raises(UserError, match="is a file of the run in"):
            check_not_of_run("export", tmp_path / "new" / name, str(tmp_path / "new"))
    check_not_of_run("export", run.path / "keyframes.json", str(run.path))  # a name of the user's own
    check_not_of_run("export", tmp_path / name, None)


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
    for content, message in ((b'{"lr": 1}\n', "row 1: has no step"), (b"\xff\n", "not a UTF-8 text file")):
        (run.path / "metrics.jsonl").write_bytes(content)
        with pytest.raises(UserError, match=message):
            run.rewind(0, 0)


def test_equal_metrics_give_equal_bytes_in_two_folders(tmp_path: Path) -> None:
    one, two = started(tmp_path / "one"), started(tmp_path / "two")
    one.write_metrics({"n": 3, "accuracy": 66.67, "accuracy_by_type": {"b": 50.0, "a": 100.0}})
    two.write_metrics({"accuracy_by_type": {"a": 100.0, "b": 50.0}, "accuracy": 66.67, "n": 3})
    assert (one.path / "metrics.json").read_bytes() == (two.path / "metrics.json").read_bytes()
    one.write_predictions([{"qid": "q1", "prediction": 0}, {"qid": "q2", "prediction": 1}])
    lines = (one.path / "predictions.jsonl").read_text().splitlines()
    assert lines == ['{"qid": "q1", "prediction": 0}', '{"qid": "q2", "prediction": 1}']
    assert one.checkpoints == one.path / "checkpoints"
