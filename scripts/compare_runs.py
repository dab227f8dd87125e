"""Two evaluations side by side: questions that the first answers wrongly and the second rightly (figures 4 and 7).

    python -m sevila.eval +exp=synthetic_eval selector=uniform run_dir=runs/uniform
    python -m sevila.eval +exp=synthetic_eval localizer=R3 run_dir=runs/localizer
    python scripts/compare_runs.py runs/uniform runs/localizer --out page.html [--number 12]

One self-contained page: how many questions only one of the runs answers rightly, and examples spread evenly over them:
the question with its options, the answer of each run, its frames with times and scores, the true windows where they
are known. Both runs must be evaluations of the same questions; their videos are read again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sevila import schema
from sevila.benchmarks import BENCHMARKS
from sevila.cli import guarded
from sevila.config import read_yaml
from sevila.data.folders import Videos
from sevila.data.records import Question
from sevila.data.video import VideoReader
from sevila.errors import UserError
from sevila.examples import example, spread
from sevila.files import check_place, home_path, read_jsonl
from sevila.report.page import Beside, Block, Facts, Heading, Link, Table, Text, write_page
from sevila.report.timeline import Example
from sevila.run_folder import CONFIG, PREDICTIONS, REPORT


@dataclass(frozen=True)
class Evaluation:
    """A finished run: its configuration, and a line of predictions.jsonl for each question."""

    path: Path
    config: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]

    @classmethod
    def read(cls, path: Path) -> Evaluation:
        """UserError where the folder is no evaluation of questions with options."""
        for name in (CONFIG, PREDICTIONS):
            if not (path / name).is_file():
                raise UserError(f"{path}: has no {name}; expected the folder of a finished sevila.eval")
        config, rows = read_yaml(path / CONFIG), read_jsonl(path / PREDICTIONS)
        if not isinstance(config, dict) or config.get("entry") != "eval":
            raise UserError(f"{path / CONFIG}: is not that of sevila.eval")
        if not all("option_logits" in row and row.get("keyframes") for row in rows):
            raise UserError(f"{path / PREDICTIONS}: holds no answers with keyframes; moments cannot be compared")
        return cls(path, config, rows)

    @property
    def name(self) -> str:
        return f"{self.config['selector']['name']} ({self.path.name})"


def compare(first: Evaluation, second: Evaluation, out: Path, number: int) -> int:
    """Write the page; how many questions only the second run answers rightly."""
    for key in ("data", "split"):
        if first.config[key] != second.config[key]:
            raise UserError(f"{second.path / CONFIG}: its {key} is not that of {first.path}: not the same questions")
    data = schema.named("data", first.config["data"], BENCHMARKS)
    questions = data.questions(first.config["split"])
    for run in (first, second):
        if [row["qid"] for row in run.rows] != [question.qid for question in questions]:
            raise UserError(f"{run.path / PREDICTIONS}: its questions are not those of data {data.name}")
    if any(question.answer is None for question in questions):
        raise UserError(f"split={first.config['split']}: its answers are hidden; nothing is right or wrong")
    rights = [
        tuple(row["prediction"] == question.answer for row in rows)
        for question, *rows in zip(questions, first.rows, second.rows, strict=True)
    ]
    gained = [i for i, right in enumerate(rights) if right == (False, True)]
    title = f"{first.config['selector']['name']} against {second.config['selector']['name']} on {data.name}"
    shown = [(questions[i], first.rows[i], second.rows[i]) for i in spread(gained, number)]
    blocks = [*_counts(first, second, rights), *_examples(first, second, shown, data.folder())]
    write_page(out, title, blocks)
    return len(gained)


def _counts(first: Evaluation, second: Evaluation, rights: Sequence[tuple[bool, ...]]) -> Iterator[Block]:
    kinds = {
        "both right": (True, True),
        "only the first right": (True, False),
        "only the second right": (False, True),
        "both wrong": (False, False),
    }
    total = len(rights)
    counts = [(name, rights.count(kind), 100.0 * rights.count(kind) / total) for name, kind in kinds.items()]
    yield Facts({"First": Link(first.name, first.path / REPORT), "Second": Link(second.name, second.path / REPORT)})
    yield Text("Below are questions that only the second answers rightly.")
    yield Table(("answers", "questions", "percent"), counts, f"Of {total} questions.")


def _examples(
    first: Evaluation,
    second: Evaluation,
    shown: Sequence[tuple[Question, Mapping[str, Any], Mapping[str, Any]]],
    folder: Videos,
) -> Iterator[Block]:
    for question, *rows in shown:
        pair = []
        for run, row in zip((first, second), rows, strict=True):
            shown = example(question, row, VideoReader(folder.path(question.video)))
            pair.append(Example(replace(shown.timeline, label=run.name), shown.images, asks=False))
        yield Heading(f"{question.qid}, {question.video}: {question.question}")
        yield Beside(pair)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=home_path, metavar="RUN", help="an evaluation, such as with selector=uniform")
    parser.add_argument("second", type=home_path, metavar="RUN", help="another one of the same questions")
    parser.add_argument("--out", type=home_path, required=True, metavar="FILE", help="the page, FILE.html")
    parser.add_argument("--number", type=int, default=12, metavar="N", help="of examples")
    given = parser.parse_args(argv)

    def work() -> None:
        check_place("--out", given.out)
        if given.out.suffix != ".html":
            raise UserError(f"--out {given.out}: expected a name that ends in .html")
        if given.number < 1:
            raise UserError(f"--number {given.number}: must be at least 1")
        gained = compare(Evaluation.read(given.first), Evaluation.read(given.second), given.out, given.number)
        print(f"{gained} questions that only {given.second} answers rightly")
        print(f"written: {given.out}")

    return guarded(work)


if __name__ == "__main__":
    sys.exit(main())
