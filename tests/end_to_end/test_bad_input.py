"""Bad input: exit code 2, exactly one line on stderr, nothing written."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from sevila import eval as evaluation
from sevila import predict, refine, train
from sevila.files import file_digest, sealed, unsealed
from sevila.locks import FolderLock

REPOSITORY = Path(__file__).resolve().parents[2]
PRETRAIN, FORWARD, REVERSE, EVAL = (f"+exp=synthetic_{name}" for name in ("pretrain", "forward", "reverse", "eval"))
Refusal = Callable[..., str]


@pytest.fixture
def refusal(
    small_world: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Refusal:
    """refusal(cli, words...): the one line after "sevila: error: ", in a folder where nothing may appear."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)

    def refused(cli: Callable[..., int], *words: str, world: bool = True) -> str:
        capsys.readouterr()
        code = cli([*words, *(small_world if world else [])])
        printed = capsys.readouterr()
        assert code == 2 and printed.out == ""
        (line,) = printed.err.splitlines()
        assert line.startswith("sevila: error: ")
        assert list(here.rglob("*")) == []
        return line.removeprefix("sevila: error: ")

    return refused


@pytest.fixture(scope="session")
def video(small_world: list[str]) -> Path:
    (path,) = Path(small_world[0].removeprefix("data.root=")).glob("seed_0-*/videos/test_0000.mp4")
    return path


@pytest.mark.parametrize(
    ("cli", "words", "message"),
    [
        (
            train.cli,
            ["+exp=synthetic_pretrian"],
            "unknown exp 'synthetic_pretrian' (did you mean 'synthetic_pretrain'?)",
        ),
        (evaluation.cli, [PRETRAIN], "+exp=synthetic_pretrain is an experiment of sevila.train, not of sevila.eval"),
        (train.cli, [], "no experiment: give +exp=NAME, one of: "),
        (evaluation.cli, [EVAL, "selector=best"], "unknown selector 'best'; choose from: aks, bolt, localizer, oracle"),
        (evaluation.cli, [EVAL, "frames.m=3"], "unknown key 'frames.m' (did you mean 'frames.n'?)"),
        (evaluation.cli, [EVAL, "+bogus=1"], "unknown key 'bogus'; sevila.eval has: "),
        (evaluation.cli, [EVAL, "frames.n=many"], "frames.n=many: expected a whole number"),
        (evaluation.cli, [EVAL, "data.seed=1.5"], "data.seed=1.5: expected a whole number"),
        (train.cli, [PRETRAIN, "trainer.lr=-1"], "trainer.lr=-1.0: must be more than 0"),
        (train.cli, [PRETRAIN, "task.frames=0"], "task.frames=0: must be at least 1"),
        (refine.cli, [REVERSE, "task.frames=-1"], "task.frames=-1: must be at least 1"),
        (refine.cli, [REVERSE, "task.orders=0"], "task.orders=0: must be at least 1"),
        (
            refine.cli,
            [REVERSE, "task.frames_from=vidoe"],
            "task.frames_from=vidoe: unknown (did you mean 'video'?); choose from: video, midpoints",
        ),
        (
            train.cli,
            [PRETRAIN, "trainer.best=frame_acc"],
            "trainer.best=frame_acc: unknown (did you mean 'frame_accuracy'?); this validation gives: frame_accuracy, ",
        ),
        (
            train.cli,
            [FORWARD, "trainer.best=mean_over_types"],
            "trainer.best=mean_over_types: unknown; this validation gives: accuracy, keyframe_recall, keyframe_hit",
        ),
        (refine.cli, [REVERSE, "trainer.best=loss"], "trainer.best=loss: unknown; this validation gives: accuracy, "),
        (train.cli, [FORWARD, "task.crop=off"], "task.crop=off: expected true or false"),
        (evaluation.cli, [EVAL, "selector=random", "++selector.seed=no"], "selector.seed=no: expected a whole number"),
        (train.cli, [PRETRAIN, "task.name=guess"], "task.name=guess: unknown; choose from: answer, pretrain"),
        (refine.cli, [REVERSE, "trainer.schedule.name=x"], "trainer.schedule.name=x: unknown; choose from: "),
        (evaluation.cli, [EVAL, "selector.k=33"], "selector.k=33: only frames.n=32 frames are sampled; choose k"),
        (evaluation.cli, [EVAL, "selector.k=0"], "selector.k=0: must be a whole number of keyframes, at least 1"),
        (evaluation.cli, [EVAL, "split=all"], "split=all: the synthetic world has train, val, test"),
        (evaluation.cli, [EVAL, "data.test_videos=0"], "data.test_videos=0: must be at least 1"),
        (evaluation.cli, [EVAL, "localizer=nowhere"], "localizer=nowhere: no such run folder or head file; or say"),
        (evaluation.cli, [EVAL, "device=cuda:99"], "device=cuda:99: this machine has "),
        (
            evaluation.cli,
            [EVAL, "model.source=nowhere"],
            "model.source=nowhere: neither a folder nor a reachable Hub id",
        ),
        (evaluation.cli, [EVAL, "resume=true"], "resume=true needs the run's folder: give run_dir=FOLDER"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) and value else "",
)
def test_configuration(refusal: Refusal, cli: Callable[..., int], words: list[str], message: str) -> None:
    # test_videos of the case comes after the small world's, and the later one counts
    late = [word for word in words if word.startswith("data.")]
    line = refusal(lambda argv: cli([*argv, *late]), *(word for word in words if word not in late))
    assert line.startswith(message)


def test_a_validation_without_answers(refusal: Refusal, tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("video,question,a0,a1,answer\nv,1,x,y,x\n")
    (tmp_path / "val.csv").write_text("video,question,a0,a1\nv,1,x,y\n")
    (tmp_path / "videos").mkdir()
    own = ["data=custom", f"data.root={tmp_path}"]
    for cli, exp in ((train.cli, FORWARD), (refine.cli, REVERSE)):
        message = refusal(cli, exp, *own, world=False)
        assert message.startswith("data.val: none of its 1 questions has an answer, and the best head is chosen by")


def test_a_refinement_that_its_validation_cannot_see(refusal: Refusal) -> None:
    assert refusal(refine.cli, REVERSE, "selector=uniform").startswith("selector=uniform: does not ask the Localizer")


def test_a_submission_that_could_not_be_written(refusal: Refusal, tmp_path: Path) -> None:
    taken = tmp_path / "taken.json"
    taken.mkdir()
    for key in ("submission", "export"):
        assert refusal(evaluation.cli, EVAL, f"{key}={taken}") == f"{key}={taken}: is a folder; name a file"


def test_a_run_folder_that_holds_something(refusal: Refusal, chain_runs: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in chain_runs.rglob("*")}
    for cli, exp, name in ((train.cli, PRETRAIN, "R1"), (evaluation.cli, EVAL, "R4")):
        message = refusal(cli, exp, f"run_dir={chain_runs / name}")
        assert message == f"run_dir={chain_runs / name}: not empty; give another one, or resume=true to go on with it"
    assert {path: path.stat().st_mtime_ns for path in chain_runs.rglob("*")} == before
    (tmp_path / "file").write_text("x")
    assert refusal(evaluation.cli, EVAL, f"run_dir={tmp_path / 'file'}").endswith("file: is a file, not a folder")


def test_heads_that_do_not_fit(refusal: Refusal, chain_runs: Path, tmp_path: Path) -> None:
    wrong = f"localizer={chain_runs / 'R2'}"
    assert refusal(evaluation.cli, EVAL, wrong) == f"{wrong}: that run trained the answerer, not the localizer"
    head = tmp_path / "head.safetensors"
    for suffix in (".safetensors", ".json"):
        shutil.copy(chain_runs / "R1" / f"localizer{suffix}", head.with_suffix(suffix))
    tensors = load_file(head)
    tensors["extra"] = tensors.pop("projection.bias")
    save_file(tensors, head)
    for cli, exp in ((evaluation.cli, EVAL), (train.cli, FORWARD)):
        message = refusal(cli, exp, f"localizer={head}")
        assert message == f"{head}: does not fit the head: missing projection.bias; unexpected extra"
    described = json.loads(head.with_suffix(".json").read_text())
    described["backbone"] = {"source": "other", "fingerprint": "0"}
    head.with_suffix(".json").write_text(json.dumps(described))
    assert "made for the backbone other (0), not for tiny" in refusal(evaluation.cli, EVAL, f"localizer={head}")


def test_a_checkpoint_with_missing_and_extra_keys(
    refusal: Refusal, chain_runs: Path, short: list[str], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(chain_runs / "R1", run)
    (head,) = run.glob("checkpoints/*/head.safetensors")
    tensors = load_file(head)
    tensors["extra"] = tensors.pop("queries")
    save_file(tensors, head)
    words = [PRETRAIN, "task.frames=4", *short, f"run_dir={run}", "resume=true"]
    assert refusal(train.cli, *words).startswith(f"{head}: is damaged (its checksum is wrong); restore it or start a")
    state = head.with_name("state.json")
    described = unsealed(json.loads(state.read_text()))
    described["files"]["head.safetensors"] = file_digest(head)
    state.write_text(json.dumps(sealed(described)))
    message = refusal(train.cli, *words)
    assert message.startswith(f"{head}: does not fit the head: missing queries; unexpected extra; ")


@pytest.mark.parametrize(
    ("name", "cli", "exp", "content", "message"),
    [
        (
            "checkpoints/last",
            train.cli,
            PRETRAIN,
            "",
            "is empty or damaged; write the name of the newest step_N folder",
        ),
        ("checkpoints/best", train.cli, PRETRAIN, "step_99\n", None),  # made anew from the last checkpoint
        ("config.yaml", evaluation.cli, EVAL, "", "is empty, cut off or of another version; restore it, or start in"),
        ("environment.json", evaluation.cli, EVAL, "", None),  # written at every start
    ],
)
def test_small_files_at_resume(
    chain_runs: Path, short: list[str], small_world: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    name: str, cli: Callable[..., int], exp: str, content: str, message: str | None,
) -> None:  # fmt: skip
    source, run = chain_runs / ("R1" if exp == PRETRAIN else "R4"), tmp_path / "run"
    shutil.copytree(source, run)
    (run / name).write_text(content)
    words = {PRETRAIN: ["task.frames=4", *short], EVAL: [f"localizer={chain_runs}/R3", f"answerer={chain_runs}/R2"]}[
        exp
    ]
    code = cli([exp, *words, *small_world, f"run_dir={run}", "resume=true"])
    if message is None:
        assert code == 0 and (run / "metrics.json").read_bytes() == (source / "metrics.json").read_bytes()
    else:
        (line,) = capsys.readouterr().err.splitlines()
        assert code == 2 and line.startswith(f"sevila: error: {run / name}: {message}")


@pytest.mark.parametrize("damage", ["cut", "half", "edited", "empty"])
def test_labels_that_are_not_whole_at_resume(
    refusal: Refusal, chain_runs: Path, short: list[str], tmp_path: Path, damage: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(chain_runs / "R3", run)
    file = run / "pseudo_labels.jsonl"
    whole = file.read_text()
    rows = whole.count("\n")
    edited = whole.replace('"labels": [', '"labels": [2, ', 1)
    cut = {"cut": whole[: whole.rindex("\n", 0, -1) + 1], "half": whole[:-20], "edited": edited, "empty": ""}[damage]
    file.write_text(cut)
    words = [REVERSE, f"localizer={chain_runs}/R1", "answerer=zeroshot", *short, f"run_dir={run}", "resume=true"]
    line = refusal(refine.cli, *words)
    said = {
        "cut": f": its {rows - 1} rows are not",
        "half": f", line {rows}: not valid",
        "empty": ": its 0 rows are not",
    }
    assert line.startswith(f"{file}{said.get(damage, ': the row of question ')}")
    assert line.endswith("; remove the file, and resume=true makes it again")


def test_outputs_that_are_inputs(refusal: Refusal, chain_runs: Path, small_world: list[str], tmp_path: Path) -> None:
    run, world = chain_runs / "R4", Path(small_world[0].removeprefix("data.root="))
    before = {path: path.stat().st_mtime_ns for path in (*chain_runs.rglob("*"), *world.rglob("*"))}
    for key, path, message in (
        ("export", run / "metrics.json", f"is a file of the run in {run}; name another one"),
        ("submission", run / "metrics.json", f"is a file of the run in {run}; name another one"),
        ("export", chain_runs / "R1/localizer.json", f"is a file of the run in {chain_runs}/R1; name another one"),
        (
            "export",
            next(world.rglob("windows_test.json")),
            f"is there already, in the data set's folder data.root={world};",
        ),
    ):
        words = [EVAL, f"{key}={path}"]
        assert refusal(evaluation.cli, *words).startswith(f"{key}={path}: {message}")
    stored = tmp_path / "choices.json"
    shutil.copy(run / "predictions.jsonl", stored)
    words = [EVAL, "selector=stored", f"selector.file={stored}", f"export={stored}"]
    assert refusal(evaluation.cli, *words) == f"export={stored}: is the input selector.file={stored}; name another file"
    words = [EVAL, "data=nextqa", f"submission={tmp_path}/a.json", f"export={tmp_path}/a.json"]
    assert "is the submission too" in refusal(evaluation.cli, *words, world=False)
    assert {path: path.stat().st_mtime_ns for path in (*chain_runs.rglob("*"), *world.rglob("*"))} == before


def test_a_run_beside_a_living_one(refusal: Refusal, chain_runs: Path, short: list[str]) -> None:
    """Resumed by mistake while it goes on: its folder stays as it is."""
    run, lock = chain_runs / "R1", FolderLock()
    lock.acquire(run)
    (run / "checkpoints/.step_9.tmp-0123456789ab").mkdir()
    try:
        line = refusal(train.cli, PRETRAIN, "task.frames=4", *short, f"run_dir={run}", "resume=true")
        assert line.startswith(f"run_dir={run}: process {os.getpid()} on ") and "is at work in it" in line
        assert (run / "checkpoints/.step_9.tmp-0123456789ab").is_dir()
    finally:
        (run / "checkpoints/.step_9.tmp-0123456789ab").rmdir()
        lock.release()


def test_a_world_that_cannot_be_written(refusal: Refusal, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    message = refusal(evaluation.cli, EVAL, f"data.root={tmp_path / 'file'}", world=False)
    assert message.startswith(f"data.root={tmp_path / 'file'}: the world cannot be written there: ")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_video_of_the_data_set(
    small_world: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], workers: int
) -> None:
    """It is found while the run goes on, so the run folder is there; the error is one line all the same."""
    root = tmp_path / "world"
    shutil.copytree(small_world[0].removeprefix("data.root="), root)
    (path,) = root.glob("seed_0-*/videos/train_0001.mp4")
    path.write_bytes(path.read_bytes()[:9000])
    words = [FORWARD, f"run_dir={tmp_path / 'r'}", f"frames.workers={workers}", "task.select_once=false"]
    more = ["selector=uniform", "trainer.max_steps=9", f"data.root={root}", *small_world[1:]]
    assert train.cli([*words, *more]) == 2
    first, *_, line = capsys.readouterr().err.splitlines()
    assert first == f"sevila: the run folder is {tmp_path / 'r'}"
    assert line.startswith("sevila: error: record ") and f"video {path} is cut off" in line


def test_video_files(refusal: Refusal, video: Path, tmp_path: Path) -> None:
    data = video.read_bytes()
    contents = {"empty": b"", "text": b"a page\n" * 300, "half": data[: len(data) // 2], "tail": data[:-2000]}
    for name, content in contents.items():
        (tmp_path / f"{name}.mp4").write_bytes(content)

    def ask(name: str, *words: str) -> str:
        options = [word for word in words if word.startswith("--")] or ["--out=answer.png"]
        answers = [word for word in words if not word.startswith("--")] or ["a cup", "a key"]
        asked = [f"{tmp_path / name}.mp4", "what does the red star hold", *answers]
        return refusal(predict.cli, *asked, *options, world=False)

    assert ask("missing") == f"{tmp_path}/missing.mp4: no such video file"
    assert ask("empty").startswith(f"video {tmp_path}/empty.mp4 is empty")
    assert ask("text").startswith(f"{tmp_path}/text.mp4 is not a video that can be read")
    for name in ("half", "tail"):
        assert ask(name).startswith(f"video {tmp_path}/{name}.mp4 is cut off, ")
    shutil.copy(video, tmp_path / "good.mp4")
    assert ask("good", "--k=33") == "--k=33: only --n-frames=32 are sampled; choose k at most that"
    assert ask("good", "--k=65", "--n-frames=99").endswith("good.mp4 has only 64 frames; choose k at most that")
    assert ask("good", "a cup").startswith("options: a question needs at least 2 options")
    assert ask("good", *(f"o{i}" for i in range(27))) == "options: a question needs 2 to 26 options, got 27"
    assert ask("good", "--out=answer.jpg") == "--out=answer.jpg: expected a name that ends in .html or .png or .json"
    assert ask("good", f"--out={tmp_path}/good.mp4/a.png").endswith("good.mp4 cannot be written to")
    assert ask("good", f"--localizer={tmp_path}").startswith(f"localizer={tmp_path}: holds no localizer.safetensors")


@pytest.mark.parametrize(
    ("module", "words"),
    [("eval", [EVAL, "+bogus=1"]), ("predict", ["none.mp4", "what", "a", "b"])],
)
def test_as_a_process(tmp_path: Path, module: str, words: list[str]) -> None:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", f"sevila.{module}", *words]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and done.stdout == "" and list(tmp_path.iterdir()) == []
    (line,) = done.stderr.splitlines()
    assert line.startswith("sevila: error: ")
