"""scripts/synthetic_study.py: runs and their order, processes, claims from fabricated predictions, what is written."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import synthetic_study
from parsed_page import read_page
from reproduction.runs import plan
from sevila.config import load
from sevila.data.records import Question
from sevila.errors import UserError
from study import schedule
from study.claims import CHECK, PAPER, Claim, Finding, claims, findings, verdict
from study.intervals import Estimate
from study.outcomes import Outcomes, Values, collect, read_outcomes, score, write_outcomes
from study.outputs import write_all
from study.rows import CHOOSE, GROUPS, REFINEMENTS, SELECTIONS, Chosen, Numbers, Row, Runs, all_rows, choose, chosen
from study.schedule import Ended, Job, Task, Times, Worlds, duration, environment, make, open_pool, perform
from tiny_backbone import lessons

DEFAULT = Numbers(n=32, k=4)
ROWS = {row.key: row for row in all_rows(DEFAULT)}


# -- the rows ---


def test_every_row_that_was_asked_for() -> None:
    assert list(SELECTIONS) == (
        ["uniform", "random", "zero_shot", "pt", "sr", "pt_sr", "pt_sr_x2", "pt_sr_published", "true_windows", "oracle"]
    )
    main = [row.key for row in ROWS.values() if row.group == "main"]
    assert main == [*SELECTIONS, *(f"{name}_ft" for name in SELECTIONS)]
    assert {row.numbers.k for row in ROWS.values() if row.group == "k"} == {1, 2, 4, 8, 32}
    assert {row.numbers.n for row in ROWS.values() if row.group == "n"} == {8, 16, 32, 64}
    assert all(row.numbers.n == 32 for row in ROWS.values() if row.group != "n")
    assert all(row.numbers.k == 4 for row in ROWS.values() if row.group not in ("k",))
    tests = [row.key for row in ROWS.values() if row.group == "train_test"]
    assert tests == ["random_uniform", "random_localizer", "localizer_uniform", "localizer_localizer"]
    assert [row.key for row in ROWS.values() if row.group == "selectors"] == ["aks", "bolt", "atp", "perturbed"]
    assert len(ROWS) == len(all_rows(DEFAULT)) and {row.group for row in ROWS.values()} == set(GROUPS)


def test_rows_that_are_the_same_share_their_run() -> None:
    for group in ("k4", "n32"):
        for key in ("uniform", "zero_shot", "pt_sr", "oracle", "pt_sr_ft"):
            assert ROWS[f"{group}_{key}"].run == ROWS[key].run
    assert ROWS["localizer_localizer"].run == ROWS["pt_ft"].run
    names = {run.name: run for row in ROWS.values() for run in plan([row.run])}
    assert all(names[run.name] == run for row in ROWS.values() for run in plan([row.run]))


def needs(key: str) -> list[str]:
    return [run.name for run in plan([ROWS[key].run])]


def test_the_runs_of_a_row() -> None:
    assert needs("uniform") == ["eval_uniform"]
    assert needs("sr") == ["refine", "eval_sr"]
    assert needs("pt_sr") == ["pretrain", "refine_pretrained", "eval_pt_sr"]
    second = needs("pt_sr_x2")  # its labels come from the Answerer that was fine-tuned in the first round
    assert second == ["pretrain", "refine_pretrained", "forward_pt_sr", "refine_again", "eval_pt_sr_x2"]
    assert needs("pt_sr_published") == ["pretrain", "refine_published", "eval_pt_sr_published"]
    first, last = ["pretrain", "refine_pretrained", "eval_pt_sr"], "eval_pt_sr_k8_by_forward_pt_sr_k8"
    assert needs("k8_pt_sr_ft") == [*first, "keyframes_pt_sr_k8.jsonl", "forward_pt_sr_k8", last]
    assert needs("random_uniform") == ["forward_random_of_parts", "eval_uniform_by_forward_random_of_parts"]
    assert needs("atp") == ["atp", "eval_atp"]
    untrained = {row.key for row in ROWS.values() if not row.run.trained}
    assert {"uniform", "random", "zero_shot", "oracle", "k1_zero_shot", "n8_oracle"} <= untrained
    assert not any(key.endswith("_ft") or "pt" in key for key in untrained)


def test_other_default_numbers() -> None:
    rows = all_rows(Numbers(n=8, k=2))
    assert sorted({row.numbers.k for row in rows if row.group == "k"}) == [1, 2, 4, 8]
    assert len({row.key for row in rows}) == len(rows)
    assert [row.key for row in rows if row.numbers == Numbers(8, 8)] == ["k8_uniform"]  # all of them: no choice
    rows = all_rows(Numbers(n=20, k=12))
    assert sorted({row.numbers.n for row in rows}) == [16, 20, 32, 64]


def test_rows_by_name_and_by_group() -> None:
    rows = list(ROWS.values())
    assert chosen(rows, []) == rows
    assert [row.key for row in chosen(rows, ["selectors", "uniform"])] == ["uniform", "aks", "bolt", "atp", "perturbed"]
    with pytest.raises(UserError, match=r"--rows bolts: there are main, k, n, .*uniform"):
        chosen(rows, ["bolts"])


# -- the commands ---


def test_every_command_is_a_right_one(tmp_path: Path) -> None:
    places = Worlds(tmp_path, (("", "data.test_videos=3"), ("synthetic_reverse", "trainer.epochs=1")))
    jobs = places.jobs([row.run for row in ROWS.values()], [5], [0, 3])
    seen = set()
    for job in jobs:
        kind = job.run.exp, tuple(key for key, _ in job.run.options), job.seed
        if job.run.entry == CHOOSE or kind in seen:
            continue
        seen.add(kind)
        config = load(job.run.entry, job.task.words)
        assert (config.entry, config.exp) == (job.task.entry, job.run.exp) == (job.run.entry, job.run.exp)
        assert (config.data["seed"], config.data["test_videos"]) == (5, 3)
        assert (config.seed, config.resume) == (job.seed if job.run.trained else 0, True)
        assert config.run_dir == str(job.folder)
        if job.run.exp == "synthetic_reverse":
            assert config.trainer.epochs == 1
        if job.run.entry == "eval":
            assert config.split == "test" and config.model.source == "tiny"
    for row in ROWS.values():
        words = Worlds(tmp_path).jobs([row.run], [5], [3])[-1].task.words
        assert f"frames.n={row.numbers.n}" in words and f"selector.k={row.numbers.k}" in words


def test_what_the_rows_choose_by(tmp_path: Path) -> None:
    def config(key: str) -> Any:
        job = Worlds(tmp_path).jobs([ROWS[key].run], [5], [3])[-1]
        return load("eval", job.task.words)

    seed = tmp_path / "world_5/seed_3"
    assert (config("oracle").selector["name"], config("oracle").run_dir) == (
        "oracle",
        str(tmp_path / "world_5/eval_oracle"),
    )
    first = config("pt_sr")
    assert (first.selector["name"], first.localizer) == ("localizer", str(seed / "refine_pretrained"))
    assert (first.answerer, first.run_dir) == ("zeroshot", str(seed / "eval_pt_sr"))
    tuned = config("pt_sr_ft")
    assert tuned.selector == {"name": "stored", "k": 4, "file": str(seed / "keyframes_pt_sr.jsonl")}
    assert tuned.answerer == str(seed / "forward_pt_sr")
    trained = config("atp")
    assert (trained.selector["name"], trained.scorer) == ("topk", {"name": "atp", "file": str(seed / "atp")})


def test_prerequisites_come_first_and_once(tmp_path: Path) -> None:
    jobs = Worlds(tmp_path).jobs([row.run for row in ROWS.values()], [5, -6], [0, 1])
    folders = [job.folder for job in jobs]
    assert len(set(folders)) == len(folders)
    for place, job in enumerate(jobs):
        assert all(folders.index(needed) < place for needed in job.needs)
    worlds = [job.settings.root.name for job in jobs]
    assert worlds == sorted(worlds, key=["world_5", "world_-6"].index)
    assert sum(job.run.name == "eval_uniform" for job in jobs) == 2
    assert sum(job.run.name == "pretrain" for job in jobs) == 4


# -- keyframes by scores that are there ---


def scored(run_dir: Path) -> None:
    rows = []
    for qid, scores in (("a", [0.1, 3.0, -1.0, 2.0, 2.5]), ("b", [5.0, 4.0, 3.0, 2.0, 1.0])):
        frames = [{"index": 10 * i, "time": i / 2, "score": score} for i, score in enumerate(scores)]
        rows.append({"qid": qid, "frames": frames, "keyframes": [frames[0]]})
    run_dir.mkdir(parents=True)
    (run_dir / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize(
    ("rule", "k", "expected"), [("topk", 2, [[10, 40], [0, 10]]), ("topk", 1, [[10], [0]]), ("bolt", 1, [[30], [0]])]
)
def test_a_rule_reads_the_scores_of_a_run(rule: str, k: int, expected: list[list[int]], tmp_path: Path) -> None:
    scored(tmp_path / "eval")
    log = tmp_path / "choice.log"
    task = Task(CHOOSE, (str(tmp_path / "eval"), rule, str(k), str(tmp_path / "choice.jsonl")), log)
    assert perform(task) is None
    rows = [json.loads(line) for line in (tmp_path / "choice.jsonl").read_text().splitlines()]
    assert [row["qid"] for row in rows] == ["a", "b"]
    found = [[frame["index"] for frame in row["keyframes"]] for row in rows]
    assert found[0] == expected[0] or rule == "bolt"
    assert found[1] == expected[1] and all(len(frames) == k for frames in found)
    choose(tmp_path / "eval", rule, k, tmp_path / "again.jsonl")
    assert (tmp_path / "again.jsonl").read_bytes() == (tmp_path / "choice.jsonl").read_bytes()
    assert log.read_text().startswith(f"$ choose {tmp_path}/eval {rule} {k}")


# -- the order of work ---


class Fake:
    """A pool that makes folders at once, and ends what was begun last first."""

    def __init__(self, workers: int, fails: str = "") -> None:
        self.workers, self.fails = workers, fails
        self.begun: list[Path] = []
        self.busy: list[Job] = []
        self.most = 0

    @property
    def free(self) -> int:
        return self.workers - len(self.busy)

    def begin(self, job: Job, task: Task) -> None:
        assert task == job.task and self.free > 0
        assert all(folder.exists() for folder in job.needs), "begun before what it needs"
        self.begun.append(job.folder)
        self.busy.append(job)
        self.most = max(self.most, len(self.busy))

    def ended(self) -> list[Ended]:
        job = self.busy.pop()
        if self.fails and self.fails == job.run.name:
            return [Ended(job, "no room left", 1.0)]
        if isinstance(job.run, Chosen):
            job.folder.write_text("")
        else:
            job.folder.mkdir(parents=True)
            (job.folder / "metrics.json").write_text("{}")
        return [Ended(job, None, 2.0)]


@pytest.fixture
def pools(monkeypatch: pytest.MonkeyPatch) -> list[Fake]:
    """The pools that are opened."""
    opened: list[Fake] = []

    @contextmanager
    def open_fake(workers: int) -> Iterator[Fake]:
        opened.append(Fake(workers))
        yield opened[-1]

    monkeypatch.setattr(schedule, "open_pool", open_fake)
    return opened


def test_all_runs_are_made_once(pools: list[Fake], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = Worlds(tmp_path).jobs([row.run for row in ROWS.values()], [5], [0, 1])
    make(jobs, tmp_path, workers=3)
    assert sorted(pools[0].begun) == sorted(job.folder for job in jobs) and pools[0].most == 3
    make(jobs, tmp_path, workers=3)
    assert len(pools) == 1  # nothing was left to do
    said = capsys.readouterr().err.splitlines()
    assert said[0] == f"{len(jobs)} runs, 0 of them done before"
    assert said[1].startswith(f"1/{len(jobs)}  world_5  ") and said[1].endswith(" left")
    assert said[-1] == f"{len(jobs)} runs, {len(jobs)} of them done before"
    assert Times(tmp_path).runs["world_5/seed_1/pretrain"] == 2.0


def test_a_call_goes_on_after_a_failure(pools: list[Fake], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = Worlds(tmp_path).jobs([ROWS["pt_ft"].run, ROWS["pt_sr"].run], [5], [0])

    @contextmanager
    def failing(workers: int) -> Iterator[Fake]:
        yield Fake(workers, "forward_pt")

    with monkeypatch.context() as context:
        context.setattr(schedule, "open_pool", failing)
        with pytest.raises(UserError, match=r"seed_0/forward_pt: no room left \(see .*forward_pt.log\)"):
            make(jobs, tmp_path, workers=1)
    make(jobs, tmp_path, workers=1)
    assert tmp_path / "world_5/seed_0/pretrain" not in pools[0].begun
    assert tmp_path / "world_5/seed_0/forward_pt" in pools[0].begun and all(job.done for job in jobs)


def test_runs_of_other_settings_are_refused(pools: list[Fake], tmp_path: Path) -> None:
    run = ROWS["uniform"].run
    make(Worlds(tmp_path).jobs([run], [5], [0]), tmp_path, 1)
    with pytest.raises(UserError, match=r"eval_uniform: was made with .*, now .*data.test_videos=7"):
        make(Worlds(tmp_path, (("", "data.test_videos=7"),)).jobs([run], [5], [0]), tmp_path, 1)


def test_time_left(tmp_path: Path) -> None:
    jobs = Worlds(tmp_path).jobs([ROWS["pt"].run, ROWS["uniform"].run, ROWS["sr"].run], [5], [0, 1])
    by_name = {(job.run.name, job.seed): job for job in jobs}
    times = Times(tmp_path)
    assert times.left(jobs, jobs, 2) is None
    times.add(by_name["pretrain", 0], 100)
    times.add(by_name["eval_pt", 0], 20)
    times.add(by_name["eval_pt", 0], 10)  # it had been interrupted
    assert Times(tmp_path).runs == {"world_5/seed_0/pretrain": 100, "world_5/seed_0/eval_pt": 30}
    assert times.left([by_name["pretrain", 1]], jobs, 2) == 50
    assert times.left([by_name["eval_pt", 1], by_name["eval_sr", 1]], jobs, 1) == 60  # as another evaluation
    assert times.left([by_name["refine", 0]], jobs, 1) == 65  # as all on average
    texts = [duration(seconds) for seconds in (4.4, 59.4, 61, 3599, 12_000)]
    assert texts == ["4 s", "59 s", "1 min", "1 h 0 min", "3 h 20 min"]


def test_processes_that_fail_and_die(tmp_path: Path) -> None:
    bad = Task(CHOOSE, (str(tmp_path), "topk", "1", "x"), tmp_path / "logs/bad.log")
    with open_pool(1) as pool:
        pool.begin("first", bad)
        (end,) = pool.ended()
        assert end.key == "first" and end.seconds > 0
        assert end.error == f"{tmp_path}/predictions.jsonl: no such file"
        assert f"sevila: error: {tmp_path}/predictions.jsonl: no such file" in bad.log.read_text()
        (process,) = pool._processes
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        pool.begin("second", bad)
        (end,) = pool.ended()
        assert (end.key, end.error) == ("second", "its process died (killed, or out of memory)")
    assert "OMP_NUM_THREADS" not in os.environ or os.environ["OMP_NUM_THREADS"]


def test_an_unforeseen_error_is_one_line_and_a_traceback_in_the_log(tmp_path: Path) -> None:
    task = Task("nothing", ("a=b",), tmp_path / "a.log")
    assert perform(task) == "KeyError: 'nothing'"
    assert "Traceback" in task.log.read_text()


# -- numbers from fabricated predictions ---

FRAMES = [{"index": i, "time": float(i), "score": None} for i in range(6)]
WORLDS, SEEDS = (1, 2), (0, 1)


def questions_of(world: int) -> list[Question]:
    """40 questions about 10 videos; frames 1 and 2 are true, of the last video none."""
    out = []
    for i in range(40):
        windows = ((1.0, 2.0), (9.0, 9.5)) if i < 36 else ((9.0, 9.5),)
        qtype = ("causal", "descriptive")[i % 2]
        out.append(Question(f"{world}_{i}", f"v{i // 4}", "what?", ("a", "b"), i % 2, qtype=qtype, windows=windows))
    return out


def fabricate(folder: Path, world: int, right: int, keyframes: Sequence[int]) -> None:
    """A run in which of every 20 questions the first `right` ones are answered rightly."""
    rows = [
        {
            "qid": question.qid,
            "prediction": question.answer if i % 20 < right else 1 - question.answer,
            "keyframes": [FRAMES[place] for place in keyframes],
            "frames": FRAMES,
        }
        for i, question in enumerate(questions_of(world))
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    finish(folder, {})


def finish(folder: Path, metrics: dict[str, object]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    about = {"sevila": "1", "python": "3", "packages": {"torch": "2"}, "platform": "p", "cpus": 2, "device": "cpu"}
    (folder / "environment.json").write_text(json.dumps({**about, "commit": "abc", "started": "2026-01-01T00:00:00"}))
    (folder / "metrics.json").write_text(json.dumps(metrics))


QUALITY = {"uniform": 5, "random": 4, "zero_shot": 10, "pt": 12, "sr": 10, "pt_sr": 11, "pt_sr_x2": 11}
QUALITY |= {"pt_sr_published": 9, "true_windows": 14, "oracle": 16}
CHOICE = {"uniform": (0, 5), "random": (3, 4), "zero_shot": (0, 1), "oracle": (1, 2)}


def fabricated(root: Path, rows: Sequence[Row]) -> Worlds:
    """All runs of the rows: a fine-tuned Answerer knows two more of twenty, the second seed one less."""
    places = Worlds(root)
    for row in rows:
        for world in WORLDS:
            for seed in SEEDS:
                right = QUALITY.get(row.selection, 9) + 2 * (row.answerer == "fine-tuned")
                right -= seed if row.run.trained else 0
                fabricate(places.folder(world, row.run, seed), world, right, CHOICE.get(row.selection, (1, 3)))
    for selection in REFINEMENTS:
        for world in WORLDS:
            for seed in SEEDS:
                labels = {"precision": 80.0 + seed, "recall": 60.0, "yes": 5.0}
                metrics = {f"pseudo_label_{key}": value for key, value in labels.items()}
                finish(places.folder(world, Runs(DEFAULT).localizer(selection), seed), metrics)
    return places


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    fabricated(folder, list(ROWS.values()))
    return folder


def collected(root: Path, rows: Sequence[Row] = tuple(ROWS.values())) -> Outcomes:
    jobs = Worlds(root).jobs([row.run for row in ROWS.values()], WORLDS, SEEDS)
    about = environment(jobs, root, WORLDS, SEEDS, ["a=b"])
    return collect(rows, DEFAULT, {world: questions_of(world) for world in WORLDS}, SEEDS, Worlds(root), about)


@pytest.fixture(scope="module")
def outcomes(root: Path) -> Outcomes:
    return collected(root)


@pytest.fixture(scope="module")
def values(outcomes: Outcomes) -> Values:
    return Values(outcomes)


def test_a_question_is_right_and_its_frames_are_found() -> None:
    question = Question("q", "v", "?", ("a", "b"), 1, windows=((1.0, 2.0),))
    row = {"qid": "q", "prediction": 1, "keyframes": [FRAMES[1], FRAMES[4]], "frames": FRAMES}
    one = {**row, "keyframes": [FRAMES[2]], "prediction": 0}
    assert score([row], [question], "f") == ([True], [1], [2])
    assert score([one], [question], "f") == ([False], [1], [1])  # one frame cannot choose two
    assert score([row], [replace(question, windows=((8.0, 9.0),))], "f") == ([True], [0], [0])
    with pytest.raises(UserError, match="f: its questions are not those of the world"):
        score([row], [replace(question, qid="other")], "f")


def test_means_over_worlds_seeds_and_questions(values: Values) -> None:
    assert values.mean("uniform", "accuracy") == 25 and values.mean("oracle", "recall") == 100
    assert values.mean("pt", "accuracy") == 57.5 and values.seed_means("pt", "accuracy", 1) == [60, 55]
    assert values.seed_means("zero_shot", "accuracy", 2) == [50]
    assert values.mean("pt_sr", "recall") == 50 and values.mean("uniform", "recall") == 0
    assert (values.count(), values.counted("pt", "accuracy"), values.counted("pt", "recall")) == (80, 80, 72)
    types = values.type_means("pt", "accuracy")
    assert list(types) == ["causal", "descriptive"] and types["causal"] == 60 and types["descriptive"] == 55
    estimate = values.estimate("pt", "accuracy")
    assert estimate.low < 57.5 < estimate.high
    assert not values.missing


def test_effects_are_differences_to_the_best(values: Values) -> None:
    effect = values.effect("pt", ("uniform", "zero_shot"), "accuracy")
    assert effect.closest.value == 7.5 and len(effect.means) == 2
    seeds = [part.variance for part in effect.closest.parts if part.freedom == len(SEEDS) - 1]
    assert seeds == [(10 - 7.5) ** 2 * 2 / 2 / 2**2] * 2  # effects of 10 and 5 points; two seeds, two worlds
    assert effect.estimate().low < 0 < 7.5 < effect.estimate().high  # two trainings say little
    assert values.effect("pt", ("pt",), "accuracy").estimate() == Estimate(0, 0, 0)
    worlds = values.world_effects("pt", ("uniform", "zero_shot"), "accuracy")
    assert {world: found.mean for world, found in worlds.items()} == {1: 7.5, 2: 7.5}


def test_rows_that_are_not_complete_are_left_out(root: Path, tmp_path: Path) -> None:
    rows = [ROWS["uniform"], ROWS["pt"], ROWS["zero_shot"]]
    places = fabricated(tmp_path, rows)
    every = collected(tmp_path, rows)
    assert list(every.runs) == ["eval_uniform", "eval_pt", "eval_zero_shot"]
    (places.folder(2, ROWS["pt"].run, 1) / "metrics.json").unlink()
    found = Values(collected(tmp_path, rows))
    assert [row.key for row in found.rows] == ["uniform", "zero_shot"] and found.missing == [ROWS["pt"]]
    known, unmeasured = findings(found)
    assert [finding.claim.name for finding in known] == ["localizer_beats_uniform"] * 2
    assert {"pretraining_helps", "oracle_is_upper_bound"} <= {claim.name for claim in unmeasured}


# -- claims ---


@pytest.mark.parametrize(
    ("low", "high", "bound", "expected"),
    [
        (0.1, 2, 0, "reproduced"),
        (-2, -0.1, 0, "not reproduced"),
        (-1, 1, 0, "undecided"),
        (0, 1, 0, "undecided"),
        (-1, 0, 0, "undecided"),
        (0, 0, 0, "undecided"),
        (-1.9, 1, -2, "reproduced"),
        (-3, -1, -2, "undecided"),
        (-4, -3, -2, "not reproduced"),
    ],
)
def test_the_rule_of_the_verdict(low: float, high: float, bound: float, expected: str) -> None:
    assert verdict(Estimate((low + high) / 2, low, high), bound) == expected


def test_claims_of_the_list(values: Values) -> None:
    listed = [(claim.name, claim.measure) for claim in claims(values) if claim.part == PAPER]
    both = ["localizer_beats_uniform", "pretraining_helps"]
    both += ["refinement_helps_published_labels", "refinement_helps_five_orders"]
    one = ["finetuning_helps", "keyframes_beat_more_uniform_frames", "oracle_is_upper_bound"]
    assert sorted(listed) == sorted(
        [(name, measure) for name in both for measure in ("accuracy", "recall")] + [(name, "accuracy") for name in one]
    )
    every = [(claim.name, claim.measure) for claim in claims(values)]
    assert len(set(every)) == len(every)
    assert [claim.name for claim in claims(values) if claim.part == CHECK] == ["oracle_recall_is_highest"]
    by_name = {(claim.name, claim.measure): claim for claim in claims(values)}
    assert "in five orders" in by_name["refinement_helps_five_orders", "accuracy"].text
    assert f"at most {max(lessons.FRAMES)} frames" in by_name["keyframes_beat_more_uniform_frames", "accuracy"].text
    assert by_name["localizer_beats_uniform", "accuracy"].target == 20
    assert by_name["keyframes_beat_more_uniform_frames", "accuracy"].others == ("k8_uniform", "k32_uniform")
    oracle = by_name["oracle_is_upper_bound", "accuracy"]
    assert set(oracle.others) == set(SELECTIONS) - {"oracle"}
    assert values.most_windows() == 2
    hurt = by_name["more_keyframes_do_not_hurt", "accuracy"]
    assert (hurt.better, hurt.others, hurt.bound) == ("k2_pt_sr", ("k1_pt_sr",), -2)


def test_verdicts_of_fabricated_rows(values: Values) -> None:
    known, unmeasured = findings(values)
    assert not unmeasured
    said = {(finding.claim.name, finding.claim.measure): finding for finding in known}
    better = said["localizer_beats_uniform", "accuracy"]
    assert (better.verdict, better.effect.mean, better.n, better.seeds) == ("reproduced", 25, 80, 2)
    assert said["localizer_beats_uniform", "recall"].effect == Estimate(50, 50, 50)
    worse = said["refinement_helps_five_orders", "accuracy"]
    assert (worse.verdict, worse.effect.mean) == ("not reproduced", -5)
    assert said["refinement_helps_five_orders", "recall"].verdict == "undecided"  # the same frames in all resamples
    assert said["finetuning_helps", "accuracy"].effect.mean == 10
    oracle = said["oracle_is_upper_bound", "accuracy"]
    assert oracle.effect.mean == 80 - (70 + 65) / 2 and oracle.verdict == "undecided"  # two trainings say little
    assert said["more_keyframes_do_not_hurt", "accuracy"].verdict == "reproduced"
    document = better.to_json()
    assert {"claim", "verdict", "effect", "low", "high", "n", "seeds"} <= set(document)
    assert (document["target"], document["target_reached"], document["measure"]) == (20, True, "accuracy")
    assert document["by_world"]["2"]["mean"] == 25


def test_claims_are_corrected_for_their_number(values: Values) -> None:
    found = findings(values)[0]
    paper = [finding for finding in found if finding.claim.part == PAPER]
    assert len(paper) == 11 and paper == found[:11]
    smallest = min(finding.p for finding in paper if finding.p > 0)
    rank = sum(finding.p < smallest for finding in paper)
    (finding,) = [f for f in paper if f.p == smallest]
    assert finding.p_holm == pytest.approx(min(1, (11 - rank) * smallest))  # by the number of the paper's claims alone
    claim = Claim("c", "accuracy", "pt", ("uniform",), "text")
    one = Finding(claim, Estimate(2, 1, 3), 0.02, {}, 80, 5, p_holm=0.04)
    assert (one.verdict, one.holm_verdict) == ("reproduced", "reproduced")
    assert replace(one, p_holm=0.06).holm_verdict == "undecided"
    check = replace(one, claim=replace(claim, part=CHECK))
    assert (check.verdict, check.holm_verdict, check.to_json()["p"]) == ("holds", "", None)


# -- what is written ---


def test_everything_is_written_and_again_the_same(root: Path, outcomes: Outcomes, tmp_path: Path) -> None:
    write_all(outcomes, tmp_path / "one")
    files = sorted(path.relative_to(tmp_path / "one").as_posix() for path in (tmp_path / "one").rglob("*.*"))
    tables = [f"tables/{name}.{end}" for name in (*GROUPS, "pseudo_labels") for end in ("json", "md")]
    plots = [f"plots/{name}.png" for name in ("rows", "keyframes", "frames", "pseudo_labels", "claims")]
    results = ["claims.json", "claims.md", "environment.json", "outcomes.npz", "report.html"]
    assert files == sorted([*results, *tables, *plots])
    write_all(collected(root), tmp_path / "two")
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file

    found = json.loads((tmp_path / "one/claims.json").read_text())
    assert [row["claim"] for row in found[:2]] == ["localizer_beats_uniform"] * 2
    main = {row["row"]: row for row in json.loads((tmp_path / "one/tables/main.json").read_text())["rows"]}
    assert main["pt"]["accuracy"]["by_world"] == {"1": [60, 55], "2": [60, 55]}
    assert (main["pt"]["seeds"], main["uniform"]["seeds"], main["pt"]["recall"]["questions"]) == (2, 1, 72)
    labels = json.loads((tmp_path / "one/tables/pseudo_labels.json").read_text())
    assert len(labels) == 5 * len(WORLDS) * len(SEEDS)
    row = next(row for row in labels if (row["refinement"], row["world"], row["seed"]) == ("SR", 2, 1))
    assert (row["precision"], row["accuracy_gain"], row["recall_gain"]) == (81, -5, 0)
    about = json.loads((tmp_path / "one/environment.json").read_text())
    assert (about["worlds"], about["seeds"], about["set"], about["commits"]) == ([1, 2], [0, 1], ["a=b"], ["abc"])
    assert about["versions"] == {"sevila": ["1"], "python": ["3"], "torch": ["2"]}

    markdown = (tmp_path / "one/claims.md").read_text()
    assert "| refinement_helps_five_orders | accuracy | not reproduced | " in markdown
    assert "## Checks: true by construction" in markdown
    assert "This study is smaller (80 test questions, trainings of each row: 2)" in markdown
    page = (tmp_path / "one/report.html").read_text()
    parsed = read_page(tmp_path / "one/report.html")
    pictures = [values["aria-label"] for values in parsed.all("div") if "aria-label" in values]
    assert parsed.tags.count("svg") == len(pictures) == 5 and all(pictures)
    assert ["refinement helps five orders", "accuracy", "not reproduced"] in [row[:3] for row in parsed.cells]
    assert ["uniform frames", "zero-shot"] in [row[:2] for row in parsed.cells]  # in words, not by its key
    assert len(parsed.all("nav")) == 1 and len(parsed.texts["h2"]) >= 6
    assert "Rule of the verdict" in page and "Left out: scorer=clip" in page


def test_the_outcomes_alone_give_everything_again(
    outcomes: Outcomes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_all(outcomes, tmp_path / "one")
    words = ["--from-outcomes", str(tmp_path / "one/outcomes.npz"), "--out", str(tmp_path / "two")]
    assert synthetic_study.main(words) == 0
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*"))
    assert files == sorted(path.relative_to(tmp_path / "two") for path in (tmp_path / "two").rglob("*.*"))
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file
    assert "reproduced      localizer_beats_uniform, accuracy: 25.00 [" in capsys.readouterr().out


def test_outcomes_of_every_question(outcomes: Outcomes, tmp_path: Path) -> None:
    write_outcomes(outcomes, tmp_path / "o.npz")
    found = read_outcomes(tmp_path / "o.npz")
    assert (found.default, found.rows, found.seeds) == (DEFAULT, tuple(ROWS), SEEDS)
    assert found.tests[2].qid.tolist() == [f"2_{i}" for i in range(40)]
    assert found.tests[1].video[:5].tolist() == ["v0"] * 4 + ["v1"] and found.tests[1].type[0] == "causal"
    assert found.tests[1].windows.tolist() == [2] * 36 + [1] * 4
    pt = found.runs["eval_pt"][1]
    assert pt.right.shape == (2, 40) and pt.right.sum(1).tolist() == [24, 22] and pt.right.dtype == bool
    assert pt.recall[0, :36].tolist() == [50.0] * 36 and np.isnan(pt.recall[0, 36:]).all()
    assert found.runs["eval_uniform"][1].right.shape == (1, 40)
    for file in ("text.npz", "other.npz"):
        (tmp_path / "text.npz").write_text("no zip")
        np.savez(tmp_path / "other.npz", a=np.zeros(2))
        with pytest.raises(UserError, match=f"{file}: is no outcomes.npz of a study"):
            read_outcomes(tmp_path / file)


def test_a_study_of_few_rows_has_fewer_files(root: Path, tmp_path: Path) -> None:
    rows = [ROWS["uniform"], ROWS["zero_shot_ft"]]
    for old in ("tables/k.md", "tables/pseudo_labels.json", "plots/claims.png"):  # of a call with more rows
        (tmp_path / old).parent.mkdir(exist_ok=True)
        (tmp_path / old).touch()
    write_all(collected(root, rows), tmp_path)
    assert {path.name for path in (tmp_path / "tables").iterdir()} == {"main.md", "main.json"}
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {"rows.png"}
    assert json.loads((tmp_path / "claims.json").read_text()) == []
    assert (
        "Not measured, because rows are missing: localizer_beats_uniform (accuracy), "
        in (tmp_path / "claims.md").read_text()
    )


# -- the command line ---


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--worlds", "1,x"], "--worlds 1,x: expected whole numbers, as in 900001,900002"),
        ([], "--worlds: needed, as in 900001,900002, unless --from-outcomes names a file"),
        (["--from-outcomes", "none.npz"], "none.npz: no such file"),
        (["--worlds", "1,1"], "--worlds 1,1: a world stands there twice"),
        (["--worlds", "1", "--seeds", "0"], "--seeds 0: must be at least 1"),
        (["--worlds", "1", "--test-videos", "1"], "--test-videos 1: must be at least 2"),
        (["--worlds", "1", "--set", "a"], "--set a: expected KEY=VALUE"),
        (["--worlds", "1", "--set", "selector.kk=2"], "unknown key 'selector.kk'"),
        (["--worlds", "1", "--set", "data=nextqa"], "--set data=nextqa: the study is about data=synthetic"),
        (
            ["--worlds", "1", "--set", "synthetic_forward:selector.k=2"],
            "--set synthetic_forward:selector.k=2: a row has the same numbers in all its runs; give selector.k=2",
        ),
        (["--worlds", "1", "--rows", "zero"], "--rows zero: there are main, k, n, train_test, selectors and uniform,"),
    ],
)
def test_what_cannot_be_is_one_line(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert synthetic_study.main([*words, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"sevila: error: {message}") and error.count("\n") == 1
    assert not (tmp_path / "out").exists()
