"""scripts/reproduce.py: the tables as published, the order of runs, the commands, and what is printed beside them."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import reproduce
from reproduction.cells import TITLES, Cell, headers, served
from reproduction.runs import PRETRAIN, Run, Settings, jobs
from reproduction.tables import TABLES, another_round, finetuned, refined, zeroshot
from sevila.config import load, own_folder

SETS = ("nextqa", "star", "how2qa", "tvqa", "vlep")
ALL = dict(zip(("A", "B", "C", "D", "E", "F", "G"), [
    "54.7/56.7/67.8/57.7 46.2/43.6/40.7/41.0/42.8 67.0 33.2 54.0",
    "59.7/60.8/73.8/62.4 45.5/41.8/41.8/40.0/42.2 70.8 36.6 64.0",
    "61.3/61.5/75.6/63.6 48.3/45.0/44.4/40.8/44.6 72.3 38.2 64.4",
    "62.3/63.1/74.9/64.6 49.0/46.4/45.2/41.6/45.5 72.9 39.1 64.6",
    "68.1/72.9/81.2/72.6 65.4/69.0/59.7/54.2/62.0 82.2 59.8 68.6",
    "68.8/73.4/83.5/73.4 63.2/66.6/61.3/60.0/62.7 83.7 59.7 69.0",
    "69.4/74.2/81.3/73.8 63.7/70.4/63.1/62.4/64.9 83.6 61.6 68.9",
], strict=True))  # fmt: skip
# table -> row -> what the paper prints, data set by data set
PUBLISHED = {
    "1": {
        "voting": "65.2/70.1/80.1/70.1 52.3/54.8/49.0/51.2/51.8 79.6 54.5 67.0",
        "concat": ALL["E"],
        "PT": ALL["F"],
        "PT+SR": ALL["G"],
    },
    "2": {
        "voting": "59.1/61.3/74.9/62.7 41.8/39.7/40.2/39.5/40.3 69.8 35.7 63.8",
        "concat": ALL["B"],
        "PT": ALL["C"],
    },
    "3": ALL,
    "4": {
        "Localizer": "54.5/36.5/32.3",
        "neighbours": "-",
        "Moment-DETR": "52.8/33.0/30.7",
        "QD-DETR": "62.4/44.9/39.8",
    },
    "5": {
        "none": "60.4/61.0/74.6/62.9 70.7",
        "PT": "61.3/61.5/75.6/63.6 72.3",
        "SR": "62.1/62.6/75.1/64.3 72.8",
        "PT+SR": "62.3/63.1/74.9/64.6 72.9",
    },
    "6": {
        "none": "59.7/60.8/73.7/62.4",
        "CLIP": "59.2/60.0/72.5/61.8",
        "Moment-DETR": "59.5/60.6/72.1/62.0",
        "Localizer": "61.3/61.5/75.6/63.6",
        "ATP": "60.4/61.3/73.4/62.8",
        "top-K": "59.5/59.7/72.7/61.6",
        "Localizer-SR": "62.3/63.1/74.9/64.6",
    },
    "7": {
        "voting-8": "59.9/60.2/72.4/62.0 69.8",
        "8-1": "59.8/61.1/76.0/62.9 72.4",
        "16-1": "59.2/62.6/74.9/63.4 73.2",
        "16-4": "60.7/61.5/75.8/63.4 72.4",
        "32-4": "61.3/61.5/75.6/63.6 72.3",
        "32-8": "59.4/60.9/74.7/62.5 71.3",
        "64-8": "58.9/60.9/74.0/62.2 71.8",
    },
    "8": {
        "random/uniform": "68.1/72.9/81.2/72.6",
        "random/Localizer": "67.6/73.4/84.0/73.1",
        "Localizer/uniform": "68.2/72.7/80.0/72.3",
        "Localizer/Localizer": "68.8/73.4/83.5/73.4",
    },
    "9": {"ZS": "70.1 52.9 77.8 45.4 70.5", "FT": "79.7 72.2 86.4 69.0 79.1"},
    "12": {"ZS-1": "64.6", "ZS-4": "63.6", "FT-1": "73.4", "FT-4": "71.3"},
    "13": {"none": "62.4", "Moment-DETR": "62.0", "not-pre-trained": "62.9", "weakly": "63.2", "QVHighlights": "63.6"},
    "14": {"1": "73.8", "2": "74.2", "3": "73.7"},
    "15": {"uniform-4": "7.56/1.79", "32-4": "7.98/3.28"},
    "16": {
        "information_needed": "59.9/61.1/74.2/62.7",
        "necessary_information": "59.9/60.8/75.0/62.7",
        "default": "60.4/61.0/74.6/62.9",
    },
}
OTHER_SYSTEMS = {("4", "Moment-DETR"), ("4", "QD-DETR")}


def every_run() -> list[Run]:
    return [run for table in TABLES for row in table.rows for run in row.runs]


def every_cell() -> Iterator[tuple[str, str, Cell]]:
    for table in TABLES:
        for row in table.rows:
            for cell in row.cells:
                yield table.number, row.label, cell


# -- the tables ---


def test_every_published_number_has_its_row() -> None:
    said = {t.number: {row.label: " ".join(c.published for c in row.cells) for row in t.rows} for t in TABLES}
    assert said == PUBLISHED
    for number in ("1", "2", "3", "9"):
        (table,) = [table for table in TABLES if table.number == number]
        assert all(tuple(cell.data for cell in row.cells) == SETS for row in table.rows)


NUMBERS = re.compile(r"\d\d\.\d(?:/\d\d\.\d)*")


def test_the_large_table_is_the_references(shared: Path) -> None:
    """Its nine rows, in its order; tables 1 and 2 repeat some of them."""
    rows = [line for line in (shared / "REFERENCE.md").read_text().splitlines() if re.match(r"\| (ZS|FT) ", line)]
    names = [("2", "voting"), *(("3", label) for label in "ABCD"), ("1", "voting"), *(("3", label) for label in "EFG")]
    for (number, label), row in zip(names, rows, strict=True):
        assert NUMBERS.findall(row.partition(" | ")[2]) == PUBLISHED[number][label].split(), (number, label)


@pytest.mark.parametrize("number", ["4", "5", "6", "7", "8", "9", "12", "13", "14", "16"])
def test_the_other_tables_are_the_references(shared: Path, number: str) -> None:
    """Every number of the reference's line, in its order, is every number of the table, row by row."""
    (line,) = (line for line in (shared / "REFERENCE.md").read_text().splitlines() if line.startswith(f"- T{number}, "))
    numbers = [text for row in PUBLISHED[number].values() for text in row.split() if text != "-"]
    assert NUMBERS.findall(line) == numbers


def test_what_is_not_run_says_why() -> None:
    for number, label, cell in every_cell():
        assert (cell.run is None) == ((number, label) in OTHER_SYSTEMS or number == "15")
    for table in TABLES:
        for row in table.rows:
            if not row.runs:
                assert "not ours to run" in row.note or "scripts/model_report.py" in row.note


def test_a_measure_has_a_name_for_every_published_number() -> None:
    for _, _, cell in every_cell():
        assert len(cell.measure.names) == len(cell.measure.keys)
        assert cell.numbers is None or len(cell.numbers) == len(cell.measure.names)


def test_the_dry_run_lists_every_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = tmp_path / "runs"
    assert reproduce.main(["--table", "all", "--dry-run", "--runs", str(runs)]) == 0
    printed = capsys.readouterr().out
    assert not runs.exists()
    *_, first = printed.partition("Table 1: ")
    for number, expected in PUBLISHED.items():
        *_, body = f"Table 1: {first}".partition(f"Table {number}: ")
        body = body.partition("\nTable ")[0]
        for label, numbers in expected.items():
            assert any(line.split()[:1] == [label] for line in body.splitlines()), (number, label)
            for text in numbers.replace("/", " ").split():
                assert text in body.split(), (number, label, text)
    commands = [line for line in printed.splitlines() if line.startswith("python -m sevila.")]
    assert len(commands) == len(set(commands)) == len(jobs(every_run(), [0]))


# -- the order of runs ---


def test_prerequisites_come_first_and_once() -> None:
    todo = jobs(every_run(), [0, 1])
    assert len(todo) == len(set(todo))
    for place, (run, seed) in enumerate(todo):
        for needed in run.needs:
            assert todo.index((needed, seed if needed.trained else 0)) < place
    assert [seed for run, seed in todo if run == PRETRAIN] == [0, 1]
    untrained = [(run, seed) for run, seed in todo if not run.trained]
    assert untrained and all(seed == 0 for _, seed in untrained)


def test_the_runs_of_a_row() -> None:
    names = [run.name for run, _ in jobs([finetuned("star", refined("star"))], [0])]
    last = "star_finetuned,localizer=star_reverse,answerer=star_forward(localizer=star_reverse)"
    assert names == ["qvhighlights_pretrain", "star_reverse", "star_forward,localizer=star_reverse", last]
    assert refined("star").options == (("localizer", PRETRAIN), ("answerer", "zeroshot"))
    answerer = finetuned("star", refined("star")).needs[1]
    localizer, _ = another_round("star", 2, refined("star"), answerer)
    assert localizer.options == (("localizer", refined("star")), ("answerer", answerer))


def test_rows_that_are_the_same_share_their_run() -> None:
    place = {(number, label, cell.data): cell.run for number, label, cell in every_cell()}
    assert place["2", "PT", "vlep"] is not None
    assert place["2", "PT", "vlep"] == place["3", "C", "vlep"]
    assert place["3", "C", "nextqa"] == place["5", "PT", "nextqa"] == place["7", "32-4", "nextqa"]
    assert place["3", "G", "nextqa"] == place["14", "1", "nextqa"]
    assert place["3", "E", "nextqa"] == place["8", "random/uniform", "nextqa"]
    assert place["2", "voting", "star"] == place["9", "ZS", "star"]
    assert place["1", "concat", "star"] == place["3", "E", "star"]
    assert place["2", "concat", "star"] == place["3", "B", "star"]
    assert place["6", "Moment-DETR", "nextqa"] == place["13", "Moment-DETR", "nextqa"]
    assert place["13", "not-pre-trained", "nextqa"] == place["16", "default", "nextqa"] == place["5", "none", "nextqa"]
    assert len({run.name for run in place.values() if run}) == len({run for run in place.values() if run})


def test_two_commands_of_one_name_are_refused() -> None:
    alike = [Run("train", "a_b", "a", (("x", "1"),), alias="same"), Run("train", "a_b", "a", (), alias="same")]
    with pytest.raises(ValueError, match="same: two commands"):
        jobs(alike, [0])


# -- the commands ---


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(tmp_path)


def test_every_command_is_a_right_one(settings: Settings) -> None:
    kinds = {(run.exp, tuple(key for key, _ in run.options)): (run, seed) for run, seed in jobs(every_run(), [3])}
    for run, seed in kinds.values():
        command = settings.command(run, seed)
        assert command[:3] == ["python", "-m", f"sevila.{run.entry}"]
        config = load(run.entry, command[3:])  # would refuse a head that is left open
        assert (config.exp, config.data["name"]) == (run.exp, run.data)
        assert (config.seed, config.resume) == (3 if run.trained else 0, True)
        assert config.run_dir == str(settings.folder(run, seed))
        assert config.model.source == "Salesforce/blip2-flan-t5-xl"
        assert (config.precision, config.scoring["name"]) == ("auto", "official")
        if run.entry == "eval":
            assert config.split == ("test" if run.data == "qvhighlights" else "val")
            assert config.frames.n == 75 if run.data == "qvhighlights" else config.selector["k"] <= config.frames.n


def test_where_runs_stand(settings: Settings, tmp_path: Path) -> None:
    assert settings.folder(PRETRAIN, 2) == tmp_path / "seed_2" / "qvhighlights_pretrain"
    assert settings.folder(zeroshot("nextqa", None), 2) == tmp_path / "nextqa_zeroshot,localizer=zeroshot"


def test_words_for_some_runs_only(tmp_path: Path) -> None:
    extra = (("", "model=tiny"), ("", "trainer.epochs=1"), ("star", "a=1"), ("star_reverse", "b=1"))
    settings = Settings(tmp_path, data=Path("/videos"), extra=extra, gpus=4)
    refine = settings.command(refined("star"), 0)
    assert refine[-5:] == ["data.root=/videos/star", "model=tiny", "trainer.epochs=1", "a=1", "b=1"]
    assert settings.command(zeroshot("star"), 0)[-3:] == ["data.root=/videos/star", "model=tiny", "a=1"]
    assert settings.command(PRETRAIN, 0)[-3:] == ["data.root=/videos/qvhighlights", "model=tiny", "trainer.epochs=1"]


@pytest.mark.parametrize(
    ("gpus", "launch", "numbers"),
    [(4, "accelerate launch --num_processes 4 -m", None), (2, "accelerate launch --num_processes 2 -m", (8, 2, 16000)),
     (1, "python -m", (16, 4, 32000)), (None, "python -m", (16, 4, 32000))],
)  # fmt: skip
def test_the_published_batch_on_fewer_gpus(
    tmp_path: Path, gpus: int | None, launch: str, numbers: tuple[int, float, int] | None
) -> None:
    run = zeroshot("tvqa", refined("tvqa"))
    forward = finetuned("tvqa", PRETRAIN).needs[1]
    settings = Settings(tmp_path, gpus=gpus)
    command = settings.command(forward, 0)
    assert " ".join(command).startswith(f"{launch} sevila.train +exp=tvqa_forward ")
    trainer = load("train", command[command.index("+exp=tvqa_forward") :]).trainer
    assert trainer.batch_size == 4
    assert (trainer.accumulate, trainer.loss_divisor, trainer.warmup_steps) == (numbers or (4, 1, 8000))
    assert " ".join(settings.command(run, 0)).startswith(f"{launch} sevila.eval +exp=tvqa_zeroshot ")


@pytest.mark.parametrize(
    ("launch", "accumulate", "batch"),
    [
        ("accelerate launch --num_processes 2 -m", 8, None),
        ("torchrun --nproc-per-node=4 -m", 4, None),
        ("torchrun --nproc_per_node 8 -m", 4, "not the published one: 4 processes have it"),
        ("torchrun --nproc_per_node auto -m", 4, "not the published one: 4 processes have it"),
        ("srun -n 4 python -m", 4, "not the published one: 4 processes have it"),
    ],
)
def test_another_launcher_keeps_the_batch_or_the_table_says_so(
    tmp_path: Path, launch: str, accumulate: int, batch: str | None
) -> None:
    settings = Settings(tmp_path, launch=tuple(launch.split()))
    command = settings.command(finetuned("tvqa", PRETRAIN).needs[1], 0)
    assert load("train", command[command.index("+exp=tvqa_forward") :]).trainer.accumulate == accumulate
    assert settings.describe()["batch"] == batch


def test_one_process_is_one_gpu_and_evaluations_have_no_batch(tmp_path: Path) -> None:
    plain, one, four = (Settings(tmp_path, gpus=gpus) for gpus in (None, 1, 4))
    assert plain.command(PRETRAIN, 0) == one.command(PRETRAIN, 0) != four.command(PRETRAIN, 0)
    assert plain.signature(PRETRAIN) == one.signature(PRETRAIN) != four.signature(PRETRAIN)
    assert plain.signature(zeroshot("star", None)) == four.signature(zeroshot("star", None))
    assert "accumulate" not in " ".join(plain.command(zeroshot("star", None), 0))


# -- the experiments' files ---


@pytest.mark.parametrize("file", sorted((own_folder() / "exp").glob("*.yaml")), ids=lambda file: file.stem)
def test_the_head_of_a_file_says_its_rows(file: Path) -> None:
    comments = [line for line in file.read_text().splitlines() if line.startswith("#")]
    expected = list(headers(TABLES, file.stem))
    used = {run for run, _ in jobs(every_run(), [0])}
    if any(run.exp == file.stem and run.entry != "eval" for run in used):
        expected = served(TABLES, file.stem)
    assert bool(expected) != file.stem.startswith("synthetic_"), "no row of a table uses this experiment"
    assert comments[len(comments) - len(expected) :] == expected
    own = comments[: len(comments) - len(expected)]
    assert not any(line.startswith(("# Table", "# For table")) for line in own)
    assert comments[0] == "# @package _global_" and len(comments[1]) > 20


@pytest.mark.parametrize(
    ("exp", "batch", "accumulate", "lr", "warmup", "epochs"),
    [
        ("qvhighlights_pretrain", 16, 1, 3e-5, 1000, 80),
        ("qvhighlights_pretrain_asr", 16, 1, 3e-5, 1000, 3),
        ("nextqa_forward", 8, 2, 3e-5, 1000, 10),
        ("star_forward", 8, 2, 3e-5, 1000, 10),
        ("how2qa_forward", 4, 4, 3e-5, 3000, 10),
        ("tvqa_forward", 4, 4, 3e-5, 8000, 10),
        ("vlep_forward", 4, 4, 1e-5, 1200, 10),
        ("nextqa_reverse", 16, 1, 3e-5, 500, 10),
        ("star_reverse", 16, 1, 3e-5, 500, 10),
        ("how2qa_reverse", 16, 1, 3e-5, 500, 10),
        ("tvqa_reverse", 16, 1, 3e-5, 2000, 10),
        ("vlep_reverse", 16, 1, 3e-5, 500, 10),
    ],
)
def test_hyper_parameters_as_published(
    exp: str, batch: int, accumulate: int, lr: float, warmup: int, epochs: int
) -> None:
    entry = "refine" if exp.endswith("reverse") else "train"
    config = load(entry, [f"+exp={exp}", "localizer=zeroshot", "answerer=zeroshot"])
    trainer = config.trainer
    assert (trainer.batch_size, trainer.accumulate, trainer.lr) == (batch, accumulate, lr)
    assert (trainer.warmup_steps, trainer.epochs, trainer.warmup_lr) == (warmup, epochs, 1e-8)
    assert (trainer.schedule, trainer.min_lr, trainer.loss_divisor) == ({"name": "published"}, 0, 1)
    assert (trainer.weight_decay, trainer.betas, trainer.clip_grad_norm) == (0.05, [0.9, 0.999], None)
    if exp.endswith("forward"):
        assert (config.task, config.frames.n, config.selector) == (
            {"name": "answer"},
            32,
            {"name": "localizer", "k": 4},
        )
    else:
        assert config.task["frames"] == 4
    if exp.endswith("reverse"):
        assert config.task == {"name": "refine", "frames": 4, "frames_from": "video"}
    if exp.startswith("qvhighlights_pretrain"):
        assert config.frames.n == 75
        captions = exp == "qvhighlights_pretrain_asr"
        assert config.data["train"].endswith("subs_train.jsonl" if captions else "highlight_train_release.jsonl")


# -- the output ---


def fabricate(folder: Path, metrics: dict[str, object]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(metrics))


def groups(accuracy: float) -> dict[str, object]:
    by_type = {"TN": 1.0, "T": accuracy - 3, "C": accuracy + 1, "D": accuracy + 10}
    return {"accuracy": accuracy, "accuracy_by_type": by_type, "n": 9}


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    """Run folders of table 3's rows B, C and D on NExT-QA, as if made with two seeds."""
    runs = tmp_path / "runs"
    fabricate(runs / "zeroshot_uniform,data=nextqa", groups(62.0))
    for seed, accuracy in ((0, 63.0), (1, 64.0)):
        fabricate(runs / f"seed_{seed}" / "qvhighlights_pretrain", {"frame_mAP": 50.0, "step": 1})
        fabricate(runs / f"seed_{seed}" / "nextqa_reverse", {"accuracy": 1.0, "step": 1})
        fabricate(runs / f"seed_{seed}" / "nextqa_zeroshot", groups(accuracy))
        fabricate(runs / f"seed_{seed}" / "nextqa_zeroshot,localizer=nextqa_reverse", groups(65.0))
    return runs


def test_published_beside_measured(measured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--table", "3", "--rows", "b", "C", "D", "--datasets", "nextqa", "--seeds", "0", "1"]
    assert reproduce.main([*words, "--runs", str(measured)]) == 0
    printed = capsys.readouterr().out
    assert sum(line.startswith("# done: ") for line in printed.splitlines()) == 9  # one, and four of each seed

    page = (measured / "tables/table_3.md").read_text().splitlines()
    assert page[0].startswith("# Table 3: ")
    assert page[2] == "| row |  | data set | measure | published | measured | difference |"
    assert page[4] == "| A | 32 uniform frames | NExT-QA | Tem | 54.7 |  |  |"  # all of it, not the rows asked for
    assert "| B | 4 uniform frames | NExT-QA | Tem | 59.7 | 59.00 | -0.70 |" in page
    for line in ("62.4 | 62.00 | -0.40 |", "63.6 | 63.50 ± 0.71 | -0.10 |", "64.6 | 65.00 ± 0.00 | +0.40 |"):
        assert f"|  |  |  | Avg | {line}" in page

    document = json.loads((measured / "tables/table_3.json").read_text())
    assert (document["table"], document["seeds"]) == ("3", [0, 1])
    lines = [line for line in document["lines"] if line["row"] in "BCD" and line["data"] == "nextqa"]
    assert [line["row"] for line in lines] == ["B"] * 4 + ["C"] * 4 + ["D"] * 4
    assert [line for line in document["lines"] if line["measured"] is not None] == lines
    one, two = lines[3], lines[7]
    assert (one["published"], one["measured"], one["sd"], one["seeds"]) == (62.4, 62.0, None, 1)
    assert (two["published"], two["measured"], two["seeds"]) == (63.6, 63.5, 2)
    assert two["sd"] == pytest.approx(statistics.stdev([63.0, 64.0]), abs=1e-4)
    assert [round(line["difference"], 2) for line in lines[:4]] == [-0.7, 2.2, -1.8, -0.4]


def test_rows_without_a_measurement_stay_empty(measured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--table", "3", "4", "16", "--runs", str(measured), "--dry-run"]
    assert reproduce.main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split() == ["Avg", "63.6", "63.00", "-0.60"] for line in lines)  # row C
    assert any(line.split() == ["Avg", "73.8"] for line in lines)  # row G
    assert any(line.split()[-3:] == ["QVHighlights", "R1@0.5", "52.8"] for line in lines)  # another system
    assert not (measured / "tables").exists() and not (measured / "commands.json").exists()


def test_a_type_without_questions_stays_empty(measured: Path) -> None:
    fabricate(measured / "zeroshot_uniform,data=nextqa", {"accuracy": 62.0, "accuracy_by_type": {"T": 50.0}, "n": 2})
    words = ["--table", "3", "--rows", "B", "--datasets", "nextqa", "--runs", str(measured)]
    assert reproduce.main(words) == 0
    lines = json.loads((measured / "tables/table_3.json").read_text())["lines"]
    found = [line["measured"] for line in lines if (line["row"], line["data"]) == ("B", "nextqa")]
    assert found == [50.0, None, None, 62.0]


def test_the_page_says_what_was_measured_with(measured: Path, tmp_path: Path) -> None:
    words = ["--table", "3", "--rows", "C", "--datasets", "nextqa", "--runs", str(measured), "--data", "/videos"]
    words += ["--set", "model=tiny", "seed=7", "--use", f"qvhighlights_pretrain={tmp_path}"]
    assert reproduce.main(words) == 0
    page = (measured / "tables/table_3.md").read_text().splitlines()
    heads = f"heads qvhighlights_pretrain={tmp_path}"
    assert page[2] == f"Measured with data /videos; {heads}; set model=tiny seed=7."


def test_oracle_and_moments_read_their_own_numbers(tmp_path: Path) -> None:
    fabricate(tmp_path / "zeroshot_voting,data=vlep", {"accuracy": 60.0, "oracle_any_frame": 71.0, "n": 9})
    fabricate(tmp_path / "seed_0/qvhighlights_pretrain", {"step": 1})
    fabricate(tmp_path / "seed_0/qvhighlights_moments", {"R1@0.5": 55.0, "R1@0.7": 36.0, "mAP": 33.0, "mAP@0.5": 1.0})
    fabricate(tmp_path / "seed_0/qvhighlights_moments_neighbours", {"R1@0.5": 1.0, "R1@0.7": 1.0, "mAP": 1.0})
    assert reproduce.main(["--table", "9", "--rows", "ZS", "--datasets", "vlep", "--runs", str(tmp_path)]) == 0
    assert reproduce.main(["--table", "4", "--runs", str(tmp_path)]) == 0
    lines = json.loads((tmp_path / "tables/table_9.json").read_text())["lines"]
    (oracle,) = (line for line in lines if line["measured"] is not None)
    assert (oracle["published"], oracle["measured"], oracle["difference"]) == (70.5, 71.0, 0.5)
    lines = json.loads((tmp_path / "tables/table_4.json").read_text())["lines"]
    assert [line["difference"] for line in lines[:6]] == [0.5, -0.5, 0.7, None, None, None]
    assert [line["measured"] for line in lines[6:]] == [None] * 6


# -- what can go wrong ---


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert reproduce.main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line.removeprefix("sevila: error: ")


def test_wrong_words_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = ["--dry-run", "--runs", str(tmp_path / "runs")]
    assert refused(capsys, "--table", "10", *runs).startswith("--table 10: there are 1, 2, 3, ")
    assert refused(capsys, "--table", "12", "--rows", "2", *runs) == "--rows 2: the rows are ZS-1, ZS-4, FT-1, FT-4"
    assert "no such row" in refused(capsys, "--table", "4", "--datasets", "star", *runs)
    assert refused(capsys, "--table", "12", "--set", "model", *runs) == "--set model: expected KEY=VALUE"
    message = refused(capsys, "--table", "12", "--use", "nextqa_reverse=/nowhere", *runs)
    assert message == "--use nextqa_reverse=/nowhere: no such file or folder"
    message = refused(capsys, "--table", "12", "--rows", "ZS-1", "--use", f"x={tmp_path}", *runs)
    listed = "expected RUN=HEAD; the trainings here are qvhighlights_pretrain, nextqa_reverse"
    assert message == f"--use x={tmp_path}: {listed}"
    assert (
        refused(capsys, "--table", "1", "--gpus", "2", "--launch", "x", *runs)
        == "--launch and --gpus: give one of them"
    )
    assert not (tmp_path / "runs").exists()


def folders(root: Path) -> Path:
    """Empty folders, a data set each."""
    for name in TITLES:
        (root / name).mkdir(parents=True)
    return root


def test_what_is_bound_to_fail_is_not_begun(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, words = folders(tmp_path / "data"), ["--table", "12", "--rows", "ZS-1", "--runs", str(tmp_path / "runs")]
    message = refused(capsys, *words, "--data", str(tmp_path))
    assert message == f"{tmp_path}/qvhighlights: no such folder of qvhighlights; --data names the one of all data sets"
    number = torch.cuda.device_count()
    if number < 4:
        message = refused(capsys, *words, "--data", str(data), "--gpus", "4")
        assert message == f"--gpus 4: there are {number} GPUs here; --launch names another way"
    assert not (tmp_path / "runs").exists()
    assert reproduce.main([*words, "--gpus", "4", "--dry-run"]) == 0


def test_accelerates_own_traceback_is_left_out(capfd: pytest.CaptureFixture[str]) -> None:
    assert reproduce.execute(["accelerate", "launch", "--cpu", "--num_processes", "1", "-m", "no_such_module"]) != 0
    told = capfd.readouterr().err
    assert "no_such_module" in told and "Traceback" not in told and "CalledProcessError" not in told


def test_a_failed_command_stops_with_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--table", "12", "--runs", str(tmp_path), "--data", str(folders(tmp_path / "data"))]
    message = refused(capsys, *words, "--launch", "false")
    assert message.startswith(f"{tmp_path}/seed_0/qvhighlights_pretrain: failed with exit code 1; ")
    message = refused(capsys, *words, "--launch", "true")  # says that all is well, but left nothing
    assert message.startswith(f"{tmp_path}/seed_0/qvhighlights_pretrain: failed with exit code 0; ")
    document = json.loads((tmp_path / "tables/table_12.json").read_text())  # what there was before, which is nothing
    assert {line["measured"] for line in document["lines"]} == {None}
    assert refused(capsys, *words, "--launch", "no_such_program x") == "--launch: no program 'no_such_program'"


def test_runs_of_other_settings_are_not_mixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def pretend(command: list[str]) -> int:
        (folder,) = [word.removeprefix("run_dir=") for word in command if word.startswith("run_dir=")]
        fabricate(Path(folder), groups(50.0))
        return 0

    monkeypatch.setattr(reproduce, "execute", pretend)
    folders(tmp_path / "data")
    monkeypatch.chdir(tmp_path)  # the default place is data/NAME
    words = ["--table", "3", "--rows", "B", "--datasets", "nextqa", "--runs", str(tmp_path)]
    assert reproduce.main([*words, "--set", "frames.n=8"]) == 0
    assert reproduce.main([*words, "--set", "frames.n=8", "device=cpu", "frames.workers=2"]) == 0  # no other numbers
    assert reproduce.main([*words, "--set", "frames.n=8", "star:selector.k=2"]) == 0  # does not concern it
    message = refused(capsys, *words, "--set", "frames.n=16")
    made, now = (f"'eval +exp=zeroshot_uniform data=nextqa frames.n={n}'" for n in (8, 16))

    def measured() -> set[str]:
        lines = json.loads((tmp_path / "tables/table_3.json").read_text())["lines"]
        return {line["row"] for line in lines if line["measured"] is not None}

    assert measured() == {"B"}
    assert reproduce.main([*words, "--rows", "C", "--set", "frames.n=16"]) == 0
    assert measured() == {"C"}  # row B is there, but with other settings
    folder = tmp_path / "zeroshot_uniform,data=nextqa"
    assert message == f"{folder}: was made with {made}, now {now}; choose another --runs"
