"""What every run of the study said of every test question, in one file of some hundred kilobytes: outcomes.npz.

All numbers of the study follow from it, without the runs. Arrays of a world W: W/qid, W/video, W/type (texts [N]) and
W/windows (true windows of each question [N]); of a run in it: W/RUN/right (bool [S, N], S = 1 where nothing was
trained), W/RUN/chosen (how many keyframes are true frames) and W/RUN/could (how many of them could be). `study` is a
json text: the numbers and rows asked for, the seeds, the labels of the refinements, and where the runs come from.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sevila.data.records import Question
from sevila.errors import UserError
from sevila.files import read_json, read_jsonl, write_bytes
from sevila.metrics.keyframes import true_positions
from study.few_seeds import Lead, Mean
from study.intervals import Estimate
from study.rows import REFINEMENTS, Numbers, Row, Runs, all_rows
from study.schedule import Worlds

ARRAYS = ("right", "chosen", "could")
LABELS = ("precision", "recall", "yes")  # of pseudo-labels, percent


@dataclass(frozen=True, eq=False)
class WorldQuestions:
    """The test questions of a world; `windows` counts the true ones of each."""

    qid: np.ndarray
    video: np.ndarray
    type: np.ndarray
    windows: np.ndarray

    @classmethod
    def of(cls, questions: Sequence[Question]) -> WorldQuestions:
        texts = ([getattr(question, name) or "" for question in questions] for name in ("qid", "video", "qtype"))
        return cls(*map(np.array, texts), np.array([len(question.windows or ()) for question in questions], np.uint8))


@dataclass(frozen=True, eq=False)
class Outcome:
    """A run in one world, of every seed (one, where nothing was trained) and question: [S, N].

    right    is the answer right? bool
    chosen   how many of the keyframes are true frames: uint8
    could    how many could have been: the true ones of the sampled frames, but not more than keyframes; uint8
    """

    right: np.ndarray
    chosen: np.ndarray
    could: np.ndarray

    @property
    def accuracy(self) -> np.ndarray:
        """Percent."""
        return 100.0 * self.right

    @property
    def recall(self) -> np.ndarray:
        """Percent; NaN where no sampled frame is true."""
        return np.divide(100.0 * self.chosen, self.could, out=np.full(self.could.shape, np.nan), where=self.could > 0)


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Of a whole study.

    default       the numbers of frames and keyframes that the rows go around
    rows          names of the rows that were asked for
    runs          those that are complete (there in every world, with every seed), by name and world
    labels        of every refinement that is complete, in every world and seed: LABELS
    environment   where the runs come from
    """

    default: Numbers
    rows: tuple[str, ...]
    seeds: tuple[int, ...]
    tests: Mapping[int, WorldQuestions]
    runs: Mapping[str, Mapping[int, Outcome]]
    labels: Sequence[Mapping[str, Any]]
    environment: Mapping[str, Any]


def collect(
    rows: Sequence[Row],
    default: Numbers,
    questions: Mapping[int, Sequence[Question]],
    seeds: Sequence[int],
    worlds: Worlds,
    environment: Mapping[str, Any],
) -> Outcomes:
    """Read the predictions of all complete runs."""
    runs: dict[str, dict[int, Outcome]] = {}
    for row in rows:
        own = seeds if row.run.trained else seeds[:1]
        folders = {world: [worlds.folder(world, row.run, seed) for seed in own] for world in questions}
        if row.run.name not in runs and all((f / "metrics.json").exists() for part in folders.values() for f in part):
            runs[row.run.name] = {world: _read(folders[world], asked) for world, asked in questions.items()}
    complete = {row.key for row in rows if row.run.name in runs}
    labels = []
    for selection in REFINEMENTS:
        if selection not in complete:
            continue
        run = Runs(default).localizer(selection)
        for world in questions:
            for seed in seeds:
                metrics = read_json(worlds.folder(world, run, seed) / "metrics.json")
                figures = {name: metrics[f"pseudo_label_{name}"] for name in LABELS}
                labels.append({"selection": selection, "world": world, "seed": seed, **figures})
    tests = {world: WorldQuestions.of(asked) for world, asked in questions.items()}
    names = tuple(row.key for row in rows)
    return Outcomes(default, names, tuple(seeds), tests, runs, labels, environment)


def _read(folders: Sequence[Path], questions: Sequence[Question]) -> Outcome:
    files = [folder / "predictions.jsonl" for folder in folders]
    right, chosen, could = zip(*(score(read_jsonl(file), questions, str(file)) for file in files), strict=True)
    return Outcome(np.array(right, bool), np.array(chosen, np.uint8), np.array(could, np.uint8))


def score(
    rows: Sequence[Mapping[str, Any]], questions: Sequence[Question], where: str
) -> tuple[list[bool], list[int], list[int]]:
    """Of every question: is it right, how many keyframes are true, and how many could be.

    rows   lines of predictions.jsonl, in the questions' order; UserError, naming `where`, if they are not
    """
    if [row["qid"] for row in rows] != [question.qid for question in questions]:
        raise UserError(f"{where}: its questions are not those of the world; were the videos drawn anew?")
    right, found, could = [], [], []
    for row, question in zip(rows, questions, strict=True):
        right.append(row["prediction"] == question.answer)
        frames = [frame["index"] for frame in row["frames"]]
        true = {frames[i] for i in true_positions([frame["time"] for frame in row["frames"]], question.windows)}
        chosen = {frame["index"] for frame in row["keyframes"]}
        found.append(len(chosen & true))
        could.append(min(len(chosen), len(true)))
    return right, found, could


def write_outcomes(outcomes: Outcomes, path: Path) -> None:
    """Write the file; equal outcomes give equal bytes."""
    about = {
        "default": asdict(outcomes.default),
        "rows": outcomes.rows,
        "seeds": outcomes.seeds,
        "worlds": list(outcomes.tests),
        "runs": list(outcomes.runs),
        "labels": outcomes.labels,
        "environment": outcomes.environment,
    }
    arrays = {"study": np.array(json.dumps(about))}
    for world, tests in outcomes.tests.items():
        arrays |= {f"{world}/{name}": array for name, array in vars(tests).items()}
        for run, by_world in outcomes.runs.items():
            arrays |= {f"{world}/{run}/{name}": getattr(by_world[world], name) for name in ARRAYS}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_bytes(path, buffer.getvalue())


def read_outcomes(path: Path) -> Outcomes:
    """What `write_outcomes` wrote. UserError where the file is not there, or is another one."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            about = json.loads(str(arrays["study"]))
            worlds = about["worlds"]
            tests = {
                world: WorldQuestions(*(arrays[f"{world}/{name}"] for name in ("qid", "video", "type", "windows")))
                for world in worlds
            }
            runs = {
                run: {world: Outcome(*(arrays[f"{world}/{run}/{name}"] for name in ARRAYS)) for world in worlds}
                for run in about["runs"]
            }
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: is no outcomes.npz of a study ({error})") from None
    return Outcomes(
        Numbers(**about["default"]),
        tuple(about["rows"]),
        tuple(about["seeds"]),
        tests,
        runs,
        about["labels"],
        about["environment"],
    )


# -- means of rows over the test questions, effects between rows, and how sure they are ---

MEASURES = {"accuracy": "accuracy", "recall": "keyframe recall"}


class Values:
    """The values of all rows that are complete.

    The mean of a row is the mean over worlds of the mean over seeds and questions. Its variance is estimated in each
    world by itself, from its videos and its seeds; worlds are not taken as drawn from anything, there are too few.
    """

    def __init__(self, outcomes: Outcomes) -> None:
        self.outcomes = outcomes
        self.default, self.seeds, self.worlds = outcomes.default, list(outcomes.seeds), list(outcomes.tests)
        rows = [row for row in all_rows(outcomes.default) if row.key in outcomes.rows]
        self._runs = {row.key: row.run.name for row in rows}  # rows may share one
        self.rows = [row for row in rows if self.has(row.key)]
        self.missing = [row for row in rows if not self.has(row.key)]

    def has(self, key: str) -> bool:
        return self._runs.get(key) in self.outcomes.runs

    def count(self) -> int:
        """Test questions of all worlds."""
        return sum(len(tests.qid) for tests in self.outcomes.tests.values())

    def counted(self, key: str, measure: str) -> int:
        """Test questions that count in a measure: recall needs a sampled frame that is true."""
        return sum(int((~np.isnan(self._of(key, world, measure)[0])).sum()) for world in self.worlds)

    def most_windows(self) -> int:
        """The number of windows that a question needs at most: of frames, one for each."""
        return max(int(tests.windows.max()) for tests in self.outcomes.tests.values())

    # -- means ---

    def estimate(self, key: str, measure: str) -> Estimate:
        parts = [Mean.of(self._of(key, world, measure), None, self._videos(world)) for world in self.worlds]
        return Mean.over(parts).estimate()

    def mean(self, key: str, measure: str) -> float:
        return float(np.mean([float(np.nanmean(self._of(key, world, measure))) for world in self.worlds]))

    def seed_means(self, key: str, measure: str, world: int) -> list[float]:
        """One number a seed; one alone where nothing was trained."""
        return [float(mean) for mean in np.nanmean(self._of(key, world, measure), axis=1)]

    def type_means(self, key: str, measure: str) -> dict[str, float]:
        """Means over worlds of the questions of each type, types in alphabetical order."""
        types = sorted({str(qtype) for tests in self.outcomes.tests.values() for qtype in tests.type})
        out = {}
        for qtype in types:
            parts = []
            for world, tests in self.outcomes.tests.items():
                values = self._of(key, world, measure)[:, tests.type == qtype]
                if not np.isnan(values).all():
                    parts.append(np.nanmean(values))
            if parts:
                out[qtype] = float(np.mean(parts))
        return out

    # -- effects ---

    def effect(self, better: str, others: Sequence[str], measure: str) -> Lead:
        """How much higher a row is than the best of the others."""
        means = [
            Mean.over([self._difference(better, other, measure, world) for world in self.worlds]) for other in others
        ]
        return Lead(tuple(means))

    def world_effects(self, better: str, others: Sequence[str], measure: str) -> dict[int, Estimate]:
        """The same in each world by itself, against the row that is best in all of them together."""
        best = max(others, key=lambda key: self.mean(key, measure))
        return {world: self._difference(better, best, measure, world).estimate() for world in self.worlds}

    def _difference(self, better: str, other: str, measure: str, world: int) -> Mean:
        return Mean.of(self._of(better, world, measure), self._of(other, world, measure), self._videos(world))

    def _of(self, key: str, world: int, measure: str) -> np.ndarray:
        return getattr(self.outcomes.runs[self._runs[key]][world], measure)

    def _videos(self, world: int) -> list[str]:
        return self.outcomes.tests[world].video.tolist()
