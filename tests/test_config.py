from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sevila.config import load, own_folder
from sevila.errors import UserError, suggest
from sevila.hydra_main import main
from sevila.schema import Eval, Refine, Train, named, to_yaml

PRETRAIN, EVAL = "+exp=synthetic_pretrain", "+exp=synthetic_eval"


def refusal(entry: str, *argv: str) -> str:
    with pytest.raises(UserError) as caught:
        load(entry, argv)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A user's folder of configs, with an odd name."""
    folder = tmp_path / "my, 'own' configs"
    (folder / "exp" / "deep").mkdir(parents=True)
    (folder / "data").mkdir()
    (folder / "data" / "mine.yaml").write_text("name: nextqa\nroot: here\n")
    return folder


def exp(folder: Path, name: str, text: str) -> None:
    (folder / "exp" / f"{name}.yaml").write_text(f"# @package _global_\n{text}")


# -- values ---


def test_the_embedded_experiments_compose_to_their_values() -> None:
    pretrain = load("train", [PRETRAIN])
    assert type(pretrain) is Train
    assert (pretrain.entry, pretrain.exp, pretrain.task) == (
        "train",
        "synthetic_pretrain",
        {"name": "pretrain", "frames": 8, "crop": False},
    )
    assert (pretrain.model.source, pretrain.model.max_text_tokens) == ("tiny", 77)
    assert (pretrain.localizer, pretrain.answerer) == ("zeroshot", "zeroshot")
    assert (pretrain.seed, pretrain.run_dir, pretrain.resume) == (0, None, False)
    assert pretrain.data["name"] == "synthetic" and pretrain.data["root"] == "data/synthetic"
    assert pretrain.trainer.schedule == {"name": "cosine_steps"}
    assert pretrain.trainer.betas == [0.9, 0.999] and pretrain.trainer.weight_decay == 0.05
    assert pretrain.wandb.mode == "disabled"

    forward = load("train", ["+exp=synthetic_forward", "localizer=R1"])
    assert (forward.exp, forward.task["name"], forward.localizer) == ("synthetic_forward", "answer", "R1")

    reverse = load("refine", ["+exp=synthetic_reverse", "localizer=R1", "answerer=zeroshot"])
    assert type(reverse) is Refine
    assert (reverse.exp, reverse.localizer, reverse.answerer) == ("synthetic_reverse", "R1", "zeroshot")

    evaluation = load("eval", ["+exp=synthetic_eval", "selector=uniform"])
    assert type(evaluation) is Eval
    assert (evaluation.exp, evaluation.split, evaluation.selector["name"]) == (
        "synthetic_eval",
        "test",
        "uniform",
    )


def required(file: Path) -> list[str]:
    """The keys that a choice leaves to the user."""
    return re.findall(r"^(\w+): \?\?\?", file.read_text(), re.MULTILINE)


def test_every_experiment_and_choice_composes_in_its_entry_point() -> None:
    experiments = sorted((own_folder() / "exp").rglob("*.yaml"))
    assert {"synthetic_pretrain", "synthetic_forward", "synthetic_reverse", "synthetic_eval"} <= {
        file.stem for file in experiments
    }
    for file in experiments:
        text = file.read_text()
        owner = re.search(r"^entry: (\w+)$", text, re.MULTILINE)
        assert owner, f"{file.name} names no entry"
        chosen = re.findall(r"override /(\w+): (\w+)", text)
        files = [own_folder() / group / f"{choice}.yaml" for group, choice in chosen]
        needed = [f"{path.parent.name}.{key}=X" for path in files for key in required(path)]
        needed += [f"{role}=X" for role in required(file)]
        assert load(owner[1], [f"+exp={file.stem}", *needed]).exp == file.stem
        assert re.match(r"# @package _global_\n# \S", text), f"{file.name} has no headline"
    for group in ("model", "vision", "selector", "scorer", "prompts", "scoring", "trainer", "data"):
        for file in (own_folder() / group).glob("*.yaml"):
            argv = [PRETRAIN, f"{group}={file.stem}", *(f"{group}.{key}=X" for key in required(file))]
            value = getattr(load("train", argv), group)
            assert not isinstance(value, dict) or value["name"] in (file.stem, "template")


def test_the_published_trainer_is_the_papers() -> None:
    trainer = load("train", [PRETRAIN, "trainer=published", "trainer.lr=3e-5", "trainer.epochs=10"]).trainer
    assert trainer.lr == 3e-5 and trainer.min_lr == 0 and trainer.warmup_lr == 1e-8
    assert (trainer.warmup_steps, trainer.accumulate, trainer.epochs) == (1000, 2, 10)
    assert trainer.schedule == {"name": "published"} and trainer.clip_grad_norm is None


def test_the_command_line_wins_over_the_experiment() -> None:
    config = load("train", [PRETRAIN, "selector=oracle", "data.root=/d", "trainer.lr=1", "model=blip2_flan_t5_xxl"])
    assert (config.selector["name"], config.data["root"]) == ("oracle", "/d")
    assert config.trainer.lr == 1.0 and type(config.trainer.lr) is float
    assert config.model.source == "Salesforce/blip2-flan-t5-xxl"


def test_it_composes_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = load("train", [PRETRAIN])
    monkeypatch.chdir(tmp_path)
    assert load("train", [PRETRAIN]) == here
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("What's (red), and = why?", "What's (red), and = why?"),
        ('"quoted, whole"', "quoted, whole"),
        ("1,2", "1,2"),  # without -m nothing is swept over
        ("C:\\new\\table", "C:\\new\\table"),
        ("two\nlines", "two\nlines"),
        ("null", None),
        ("1.50", "1.50"),
        ("${exp}/it", "synthetic_eval/it"),  # Hydra's interpolation
        ("costs (${5})", "costs (${5})"),  # none that its grammar knows
    ],
)
def test_text_is_taken_as_it_stands(text: str, value: str | None) -> None:
    assert load("eval", [EVAL, f"submission={text}"]).submission == value


@settings(max_examples=20, deadline=None)
@given(text=st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1))
def test_any_text_is_taken(text: str) -> None:
    if not re.fullmatch(r"null|\?\?\?|'.*'|\".*\"", text) and "${" not in text:
        assert load("eval", [EVAL, f"wandb.project={text}"]).wandb.project == text


def test_a_groups_own_keys_take_null_and_any_path() -> None:
    heads = "localizer=zeroshot"
    words = ["+exp=nextqa_zeroshot", heads, "data.video_map=null", "data.test='null'", "vision=timm"]
    given = load("eval", [*words, "vision.file=/my weights/eva(1), ${old}.pth"])
    assert (given.data["video_map"], given.data["test"]) == (None, "null")
    assert given.vision["file"] == "/my weights/eva(1), ${old}.pth"
    assert load("eval", [*words, "vision.file='/w/eva,g.pth'"]).vision["file"] == "/w/eva,g.pth"
    assert "one value is expected" in refusal("eval", *words, "vision.file=/w/eva,g.pth")
    assert load("eval", ["+exp=star_zeroshot", heads, "data.test=my file (2).json"]).data["test"] == "my file (2).json"


def test_the_configuration_survives_its_yaml() -> None:
    config = load("train", [PRETRAIN, "run_dir=é", "trainer.warmup_lr=1e-8"])
    stored = yaml.safe_load(to_yaml(config))
    assert next(iter(stored)) == "entry" and stored["run_dir"] == "é"
    assert stored["trainer"]["warmup_lr"] == 1e-8


# -- refusals ---


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("bogus=1", "unknown key 'bogus'; sevila.train has: device,"),
        ("+bogus=1", "unknown key 'bogus'; sevila.train has: device,"),
        ("++bogus.x=1", "unknown key 'bogus'; sevila.train has: device,"),
        ("lr=1", "unknown key 'lr' (did you mean 'trainer.lr'?); sevila.train has:"),
        ("trainer.lrr=1", "unknown key 'trainer.lrr' (did you mean 'trainer.lr'?); trainer has: "),
        (
            "+trainer.lrr=1",
            "unknown key 'trainer.lrr' (did you mean 'trainer.lr'?); trainer has: batch_size,",
        ),
        (
            "frames={m: 8}",
            "unknown key 'frames.m' (did you mean 'frames.n'?); frames has: n, workers, decoder, cache_mb",
        ),
        ("data.sed=1", "unknown key 'data.sed' (did you mean 'seed'?); data has: name, root, seed,"),
        ("seed.x=1", "unknown key 'seed.x': seed holds one value, no keys"),
        ("data@x=synthetic", "Could not override 'data@x'. Did you mean to override data?"),
        ("hydra.nope=x", "unknown key 'hydra.nope'; hydra has: run, sweep, launcher, "),
        ("hydra/launcher=slrm", "unknown hydra/launcher 'slrm'; choose from: basic"),
        ("trainer.lr=abc", "trainer.lr=abc: expected a number"),
        ("trainer.epochs=1.5", "trainer.epochs=1.5: expected a whole number"),
        ("trainer.clip_grad_norm=x", "trainer.clip_grad_norm=x: expected a number"),
        ("seed=true", "seed=True: expected a whole number"),
        ("seed=null", "seed=null: expected a whole number"),
        ("resume=maybe", "resume=maybe: expected true or false"),
        ("trainer.betas=[a,b]", "trainer.betas[0]=a: expected a list, each a number"),
        ("trainer.betas=[0.9]", "trainer.betas=[0.9]: expected two numbers from 0 to below 1"),
        ("frames=3", "frames=3: frames is no single value; write frames.KEY=VALUE"),
        ("trainer.lr=1,2", "trainer.lr=1,2: one value is expected; a list is written '[1, 2]', and -m runs a job"),
        ("seed=[", "seed=[: cannot be read: "),
        ("trainer.epochs=0", "trainer.epochs=0: must be at least 1"),
        ("trainer.lr=0", "trainer.lr=0.0: must be more than 0"),
        ("trainer.lr=nan", "trainer.lr=nan: must be a finite number"),
        ("device=gpu", "device=gpu: expected auto, cpu, cuda or cuda:N"),
        (
            "precision=fp16",
            "precision=fp16: expected auto (bf16 where the device is fast in it, else fp32), fp32, bf16, published",
        ),
        ("wandb.mode=on", "wandb.mode=on: expected disabled, offline or online"),
        ("run_dir=", "run_dir is empty: give run_dir=VALUE or leave it out"),
        ("data=foo", "unknown data 'foo'; choose from: "),
        ("selector=unifrom", "unknown selector 'unifrom' (did you mean 'uniform'?); choose from: aks, bolt,"),
        ("selector=stored", "selector.file has no value: give selector.file=VALUE"),
        ("+exp=synthetic_forward", "Multiple values for exp. To override a value use"),
        ("entry=eval", "entry=eval: this is sevila.train; leave that key out"),
        ("~data", "data.name has no value: say what data is to be"),
        ("~trainer.lr", "~trainer.lr: no run can do without it; trainer.lr=VALUE changes it"),
        ("k=4", "unknown key 'k' (did you mean 'selector.k'?); sevila.train has:"),
        ("~nope", "Could not delete from config. 'nope' does not exist."),
        ("synthetic", "'synthetic': expected key=value, group=choice or +exp=NAME"),
        ("--multi", "unrecognized arguments: --multi"),
        ("--cfg", "argument --cfg/-c: expected one argument"),
        ("--config-dir /no/such", "--config-dir /no/such: no such folder"),
        ("--config-dir", "argument --config-dir/-cd: expected one argument"),
    ],
)
def test_a_mistake_is_one_clear_line(words: str, message: str) -> None:
    argv = [words] if words.startswith("frames={") else shlex.split(words)
    assert refusal("train", PRETRAIN, *argv).startswith(message)


def test_a_wrong_experiment_is_one_clear_line() -> None:
    found = refusal("train", "+exp=synthetic_pretrian")
    assert found.startswith("unknown exp 'synthetic_pretrian' (did you mean 'synthetic_pretrain'?); choose from: ")
    assert "synthetic_forward" in found and "synthetic_eval" not in found
    assert refusal("train", "exp=synthetic_pretrain") == "exp=synthetic_pretrain: write +exp=synthetic_pretrain"
    found = refusal("train", "+exp=synthetic_eval")
    assert found == "+exp=synthetic_eval is an experiment of sevila.eval, not of sevila.train"
    assert refusal("train").startswith("no experiment: give +exp=NAME, one of: ")
    assert refusal("eval", "trainer=default") == "unknown key 'trainer': sevila.eval has no group trainer"


# -- heads ---


def heads_said(file: Path) -> dict[str, str]:
    """What an experiment's file says of its heads."""
    content = yaml.safe_load(file.read_text())
    return {role: content[role] for role in ("localizer", "answerer") if role in content}


PUBLISHED = [file for file in sorted((own_folder() / "exp").glob("*.yaml")) if not file.stem.startswith("synthetic_")]
REFUSED = "%s has no value: give %s=VALUE (head of the %s: a run folder, head file, Hub id, or zeroshot)"


@pytest.mark.parametrize("file", PUBLISHED, ids=lambda file: file.stem)
def test_a_published_experiment_begins_with_no_head_that_nobody_named(file: Path) -> None:
    said, entry = heads_said(file), yaml.safe_load(file.read_text())["entry"]
    assert said and set(said.values()) <= {"???", "zeroshot"}
    open_ = sorted(role for role in said if said[role] == "???")
    words = ["+exp=" + file.stem, "+scorer.file=none"]
    for role in open_:
        assert refusal(entry, *words) == REFUSED % (role, role, role.capitalize())
        words.append(f"{role}=R1")
    config = load(entry, words)
    expected = {role: "R1" if role in open_ else "zeroshot" for role in said}
    assert {role: getattr(config, role) for role in said} == expected


def test_which_experiments_need_which_heads() -> None:
    said = {file.stem: heads_said(file) for file in PUBLISHED}
    for data in ("nextqa", "star", "how2qa", "tvqa", "vlep"):
        assert said[f"{data}_zeroshot"] == said[f"{data}_forward"] == {"localizer": "???", "answerer": "zeroshot"}
        assert said[f"{data}_finetuned"] == said[f"{data}_reverse"] == {"localizer": "???", "answerer": "???"}
    assert said["qvhighlights_pretrain"] == {"localizer": "zeroshot"}
    assert said["qvhighlights_moments"] == {"localizer": "???"}
    assert said["zeroshot_uniform"] == {"answerer": "zeroshot"}
    assert said["finetuned_uniform"] == {"answerer": "???"}
    assert refusal("eval", "+exp=zeroshot_atp") == "scorer.file has no value: give scorer.file=VALUE"
    given = ["+exp=nextqa_finetuned", "localizer=R1"]
    assert refusal("eval", *given, "answerer=???") == REFUSED % ("answerer", "answerer", "Answerer")


# -- configs of one's own ---


def test_a_folder_of_ones_own_adds_choices_and_experiments(mine: Path) -> None:
    exp(mine, "deep/first", "defaults:\n  - override /data: mine\nexp: first\ntask: {name: answer}\nseed: 5\n")
    config = load("train", ["--config-dir", str(mine), "+exp=deep/first", "frames.n=8"])
    assert (config.exp, config.seed, config.frames.n) == ("first", 5, 8)
    assert config.data == {"name": "nextqa", "root": "here"}
    assert load("train", [f"--config-dir={mine}", PRETRAIN, "data=mine"]).data["root"] == "here"


def test_ones_own_may_not_hide_ours(mine: Path) -> None:
    exp(mine, "synthetic_eval", "seed: 1\n")
    assert "sevila has a config of that name" in refusal("train", "--config-dir", str(mine), PRETRAIN)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bogus: 1\n", r"unknown key 'bogus'; sevila.train has: "),
        ("trainer: {lrr: 1}\n", r"unknown key 'trainer.lrr' \(did you mean 'trainer.lr'\?\)"),
        ("trainer: 3\n", r"^In 'exp/bad': Merge error: int is not a subclass of Trainer. value: 3$"),
        ("trainer: {lr: {a: 1}}\n", r"trainer.lr"),
        ("seed: ${nope}\n", r"seed: Interpolation key 'nope' not found$"),
        ("seed: [\n", r"bad.yaml, line \d: not valid yaml: "),
        ("trainer: {lr: 1, lr: 2}\n", r"bad.yaml, line \d: not valid yaml: found duplicate key lr$"),
        ("seed: 1\nepochs: 2\nseed: 1\n", r"bad.yaml, line \d: not valid yaml: found duplicate key seed$"),
        (
            "defaults:\n  - override /data: none\n",
            r"^unknown data 'none' \(did you mean 'mine'\?\)|unknown data 'none'; choose from: custom",
        ),
        ("data: {name: null}\n", r"data.name has no value: say what data is to be"),
    ],
)
def test_a_fault_in_ones_own_file_is_one_clear_line(mine: Path, text: str, message: str) -> None:
    exp(mine, "bad", f"task: {{name: answer}}\n{text}" if "defaults" not in text else text)
    assert re.search(message, refusal("train", "--config-dir", str(mine), "+exp=bad"))


# -- the shared entry ---


def test_main_runs_with_the_configuration_and_returns_the_exit_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen = []
    assert main("train", seen.append, [PRETRAIN, "seed=3"]) == 0
    assert seen[0].seed == 3
    assert main("train", seen.append, [PRETRAIN, "+bogus=1"]) == 2
    assert len(seen) == 1
    streams = capsys.readouterr()
    assert streams.out == "" and streams.err.startswith("sevila: error: unknown key 'bogus'")
    assert streams.err.count("\n") == 1


def test_main_reads_the_process_words(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr("sys.argv", ["sevila.eval", "+exp=synthetic_eval"])
    assert main("eval", seen.append) == 0
    assert seen[0].exp == "synthetic_eval"


def test_main_turns_errors_of_the_run_into_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(_: object) -> None:
        raise UserError("a.mp4: no such file")

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    def crash(_: object) -> None:
        raise RuntimeError("a fault of ours")

    assert main("eval", fail, [EVAL]) == 2
    assert capsys.readouterr().err == "sevila: error: a.mp4: no such file\n"
    assert main("eval", interrupt, [EVAL]) == 130
    with pytest.raises(RuntimeError):  # a fault of ours keeps its trace
        main("eval", crash, [EVAL])


def test_help_shows_groups_experiments_and_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert main("train", pytest.fail, ["--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("Train one head on a data set")
    selectors = "aks, bolt, localizer, oracle, random, stored, topk, uniform, windows"
    assert re.search(rf"^  selector +{selectors}$", text, re.MULTILINE)
    assert re.search(r"^  synthetic_pretrain +Embedded world: the Localizer", text, re.MULTILINE)
    assert "synthetic_eval" not in text
    assert re.search(r"^    lr: 0.0001 +# learning rate at its peak$", text, re.MULTILINE)
    assert re.search(r"^  run_dir: null +# the run's folder", text, re.MULTILINE)
    assert re.search(r"^  task: \{name: '\?\?\?'\} ", text, re.MULTILINE)


def test_cfg_prints_the_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    assert main("eval", pytest.fail, ["--cfg", "job", EVAL, "seed=3"]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == asdict(load("eval", [EVAL, "seed=3"]))
    assert main("eval", pytest.fail, ["--cfg", "job", "bogus=1"]) == 2
    capsys.readouterr()
    assert main("eval", pytest.fail, ["+exp=nextqa_zeroshot", "--cfg", "job", "--package", "frames"]) == 0
    assert capsys.readouterr().out == "# @package frames\n'n': 32\nworkers: 4\ndecoder: pyav\ncache_mb: 512\n"
    assert main("eval", pytest.fail, ["+exp=nextqa_zeroshot", "-c", "job", "run_dir=${exp}", "--resolve"]) == 0
    printed = capsys.readouterr().out
    assert "\nlocalizer: ???\nanswerer: zeroshot\n" in printed and "\nrun_dir: nextqa_zeroshot\n" in printed


# -- as Hydra's manual says ---


def job(name: str) -> Any:
    """A run that leaves its name, seed and folder in a file, or fails."""
    return partial(_job, Path.cwd(), name)


def _job(here: Path, name: str, config: Any) -> None:
    if config.seed == 13:
        raise UserError("seed 13 brings bad luck")
    os.chdir(here)  # joblib's processes serve one test after the other
    folder = Path(config.run_dir or "none")
    row = {"seed": config.seed, "lr": config.trainer.lr, "run_dir": config.run_dir, "made": folder.is_dir()}
    Path(f"{name}_{config.seed}_{config.trainer.lr}.json").write_text(json.dumps(row))


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(file.read_text()) for file in sorted(Path.cwd().glob(f"{name}_*.json"))]


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("launcher", ["basic", "joblib", pytest.param("submitit_local", marks=pytest.mark.slow)])
def test_a_sweep_runs_a_job_for_each_value(empty: Path, launcher: str, capfd: pytest.CaptureFixture[str]) -> None:
    if launcher != "basic":
        pytest.importorskip(f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher")
    words = ["-m", PRETRAIN, "seed=1,2", "trainer.lr=1e-4,3e-4", f"hydra/launcher={launcher}"]
    assert main("train", job("a"), words) == 0
    found = rows("a")
    assert [(row["seed"], row["lr"]) for row in found] == [(1, 1e-4), (1, 3e-4), (2, 1e-4), (2, 3e-4)]
    assert all(row["made"] for row in found)
    folders = [Path(row["run_dir"]) for row in found]
    assert [folder.name for folder in folders] == ["0", "1", "2", "3"]
    (sweep,) = {folder.parent for folder in folders}
    assert sweep.parent == Path("runs/synthetic_pretrain") and (sweep / "multirun.yaml").is_file()
    assert {file.name for file in empty.iterdir() if file.suffix != ".json"} == {"runs"}


@pytest.mark.parametrize(("tasks", "rank", "met"), [(2, None, True), (1, None, False), (2, "5", False)])
def test_the_tasks_of_a_job_find_each_other(
    empty: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tasks: int,
    rank: str | None,
    met: bool,
) -> None:
    """A launcher's job of two tasks is one run of two processes, unless torchrun has begun them."""
    pytest.importorskip("submitit")
    own = {"EXECUTOR": "local", "LOCAL_JOB_ID": "7", "LOCAL_NTASKS": str(tasks), "LOCAL_GLOBALID": "1"}
    for key, value in {**own, "LOCAL_LOCALID": "1"}.items():
        monkeypatch.setenv(f"SUBMITIT_{key}", value)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, rank or "")  # whatever is set is gone after the test
        if name != "RANK" or rank is None:
            monkeypatch.delenv(name)
    seen = []
    assert main("train", lambda config: seen.append(dict(os.environ)), ["-m", PRETRAIN]) == 0
    names = "RANK", "WORLD_SIZE", "LOCAL_RANK"
    assert [seen[0].get(name) for name in names] == (["1", "2", "1"] if met else [rank, None, None])
    assert ("MASTER_ADDR" in seen[0]) == met and "CUDA_VISIBLE_DEVICES" not in seen[0]


def test_a_sweep_has_the_folder_that_is_named(empty: Path) -> None:
    assert main("train", job("a"), ["-m", PRETRAIN, "seed=range(1,3)", "run_dir=my sweep"]) == 0
    assert [row["run_dir"] for row in rows("a")] == ["my sweep/0", "my sweep/1"]
    assert main("train", job("b"), ["-m", PRETRAIN, "seed=1,2", "hydra.sweep.dir=s", "hydra.sweep.subdir=${seed}"]) == 0
    assert [row["run_dir"] for row in rows("b")] == ["s/1", "s/2"]
    assert main("train", job("c"), ["-m", PRETRAIN, "seed=1,2", "run_dir=runs/${seed}"]) == 0
    assert [row["run_dir"] for row in rows("c")] == ["runs/1", "runs/2"]


def test_a_run_has_hydras_folder_if_that_is_named(empty: Path) -> None:
    assert main("train", job("a"), [PRETRAIN, "hydra.run.dir=here/it", "trainer={lr: 1, epochs: 2}"]) == 0
    assert [(row["run_dir"], row["lr"]) for row in rows("a")] == [("here/it", 1.0)]
    assert main("train", job("b"), [PRETRAIN, "hydra.mode=RUN"]) == 0
    assert [row["run_dir"] for row in rows("b")] == [None]
    assert {file.name for file in empty.iterdir() if file.suffix != ".json"} == {"here"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["seed=1,2", "trainer.lr=1e-4,-1"], "trainer.lr=-1.0: must be more than 0"),
        (["seed=1,x"], "seed=x: expected a whole number"),
        (["seed=1,2", "selector=topk,unifrom"], "unknown selector 'unifrom' (did you mean 'uniform'?); choose from: "),
        (["seed=1,2", "bogus=1"], "unknown key 'bogus'; sevila.train has: device,"),
        (["hydra/launcher=submitit_slurm"], "hydra/launcher=submitit_slurm: no srun here; start the sweep where Slurm"),
        (["hydra/launcher=basic,joblib"], "hydra/launcher=basic,joblib: Hydra's own keys take one value"),
    ],
)
def test_no_job_of_a_sweep_begins_while_one_is_wrong(
    empty: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main("train", pytest.fail, ["-m", PRETRAIN, *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"sevila: error: {message}") and list(empty.iterdir()) == []


@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_a_job_that_fails_is_told_at_the_end(empty: Path, launcher: str, capfd: pytest.CaptureFixture[str]) -> None:
    if launcher != "basic":
        pytest.importorskip(f"hydra_plugins.hydra_{launcher}_launcher")
    assert main("train", job("a"), ["-m", PRETRAIN, "seed=1,13,2", f"hydra/launcher={launcher}"]) == 2
    lines = capfd.readouterr().err.splitlines()
    assert lines[-1] == "sevila: error: 1 of 3 jobs failed: job 1: seed 13 brings bad luck"
    assert launcher == "joblib" or "sevila: job 1: seed 13 brings bad luck" in lines
    assert [row["seed"] for row in rows("a")] == [1, 2]


def test_options_that_say_what_is_done_exclude_each_other(empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, told in (
        (["-m", "--cfg", "job"], "--multirun and --cfg: give one of them"),
        (["--help", "-m"], "--help and --multirun: give one of them"),
        (["--experimental-rerun", "x"], "--experimental-rerun: a run keeps config.yaml, no pickle; give the same"),
    ):
        assert main("train", pytest.fail, [PRETRAIN, *words]) == 2
        assert capsys.readouterr().err.startswith(f"sevila: error: {told}")
    assert list(empty.iterdir()) == []


def test_an_experiment_can_be_a_sweep(empty: Path) -> None:
    assert main("train", job("a"), ["hydra.mode=MULTIRUN", "+exp=synthetic_pretrain,synthetic_forward"]) == 0
    assert {row["lr"] for row in rows("a")} == {2e-4, 5e-4}


def test_info_and_completion(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    # in a process of its own: Hydra prints this through its logger, which a sweep in this one may have silenced
    words = [sys.executable, "-m", "sevila.eval", EVAL, "--info", "defaults"]
    printed = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert re.search(r"\| selector/localizer +\| selector", printed)
    monkeypatch.setenv("COMP_LINE", "sevila selector=un")
    monkeypatch.setenv("COMP_POINT", "18")
    assert main("eval", pytest.fail, ["-sc", "query=bash"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "selector=uniform"
    assert main("eval", pytest.fail, ["--hydra-help"]) == 0
    assert "hydra/launcher" in capsys.readouterr().out


def test_a_search_path(mine: Path) -> None:
    more = mine.parent / "more"
    mine.rename(more)
    words = [PRETRAIN, f"hydra.searchpath=[file://{more}]", "data=mine"]
    assert load("train", words).data["root"] == "here"
    assert refusal("train", *words[:2], "data=none").startswith("unknown data 'none'")
    (more / "data/bad.yaml").write_text("name: [")
    assert re.search(r"bad.yaml, line \d: not valid yaml: ", refusal("train", *words[:2], "data=bad"))


def test_another_primary_config(mine: Path) -> None:
    (mine / "mytrain.yaml").write_text("defaults: [train, exp/synthetic_pretrain, _self_]\nseed: 9\n")
    assert load("train", ["--config-dir", str(mine), "-cn", "mytrain", "frames.n=8"]).seed == 9
    (mine / "other.yaml").write_text("seed: 9\n")
    assert "does not begin with train" in refusal("train", "--config-dir", str(mine), "-cn", "other")
    assert "Cannot find primary config 'none'" in refusal("train", "-cn", "none")


# -- builders ---


@dataclass
class Picker:
    k: int
    seed: int = 0
    note: str = ""
    share: float | None = None
    sure: bool = False


def test_named_builds_what_the_name_says() -> None:
    classes = {"picker": Picker, "other": dict}
    assert named("selector", {"name": "picker", "k": 2}, classes, note="given") == Picker(2, 0, "given")
    whole = {"name": "picker", "k": 2, "share": 1, "sure": True}  # a whole number is a number
    assert named("selector", whole, classes) == Picker(2, 0, "", 1, True)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"name": "pickr"}, "selector.name=pickr: unknown (did you mean 'picker'?); choose from: picker"),
        ({}, "selector.name=None: unknown; choose from: picker"),
        ({"name": "picker"}, "selector.k has no value: selector picker needs it"),
        (
            {"name": "picker", "k": 1, "sed": 2},
            "unknown key 'selector.sed' (did you mean 'seed'?); selector picker has: name, k, seed, share, sure",
        ),
        (
            {"name": "picker", "k": 1, "note": "x"},
            "unknown key 'selector.note'; selector picker has: name, k, seed, share, sure",
        ),
        ({"name": "picker", "k": 1.5}, "selector.k=1.5: expected a whole number"),
        ({"name": "picker", "k": "no"}, "selector.k=no: expected a whole number"),
        ({"name": "picker", "k": True}, "selector.k=True: expected a whole number"),
        ({"name": "picker", "k": 1, "share": "x"}, "selector.share=x: expected a number or null"),
        ({"name": "picker", "k": 1, "sure": "off"}, "selector.sure=off: expected true or false"),
        ({"name": "picker", "k": 1, "seed": None}, "selector.seed=null: expected a whole number"),
    ],
)
def test_named_refuses_what_the_class_does_not_take(node: dict[str, object], message: str) -> None:
    with pytest.raises(UserError) as caught:
        named("selector", node, {"picker": Picker}, note="given")
    assert str(caught.value) == message


def test_suggestions_are_close_or_absent() -> None:
    assert suggest("unifrom", ["uniform", "oracle"]) == " (did you mean 'uniform'?)"
    assert suggest("zebra", ["uniform", "oracle"]) == ""
