"""TVQA's jsonl and TVQA+'s json. Sources: github.com/jayleicn/TVQA, github.com/jayleicn/TVQAplus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from sevila.benchmarks.base import FileBenchmark
from sevila.benchmarks.predictions import Form, Score, TableForm
from sevila.benchmarks.rows import Dropped, Row, read_rows, records
from sevila.data.folders import VideoFolder, Videos
from sevila.data.records import Question, Window
from sevila.errors import UserError
from sevila.metrics.choice import accuracy

OPTIONS = 5
SHOWS = ("castle", "friends", "grey", "house", "met")  # begin a video's name; The Big Bang Theory's has no show
UNNAMED_SHOW = "bbt"


class ValueTask(FileBenchmark):
    """What the tasks of the VALUE leaderboard share that are benchmarks here: How2QA, TVQA, VLEP.

    Ids are numbers, a submission is {qid: option}, and the score is one accuracy under the name of the split.

    Their server takes a zip of folders such as how2qa/how2qa_test_public_predictions.json. Their script is
    scoring_program/evaluate_{how2qa,tvqa,vlep}.py of github.com/VALUE-Leaderboard/EvaluationTools.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".json",)
    forms: ClassVar[tuple[Form, ...]] = (TableForm("{qid: option}"),)
    n_options: ClassVar[int]
    scored_split: ClassVar[str] = "val"  # the key of the number in VALUE's own files

    @classmethod
    def question(cls, row: Row) -> Question:
        return Question(
            qid=row.name("qid"),
            video=row.name("vid_name"),
            question=row.text("q"),
            options=row.texts("a{}", cls.n_options),
            answer=row.integer("answer_idx", 0, cls.n_options - 1) if "answer_idx" in row.values else None,
            clip=cls.clip(row),
        )

    @classmethod
    def clip(cls, row: Row) -> Window | None:
        return row.span("ts")

    @classmethod
    def official_id(cls, qid: str) -> str:
        """The number. UserError for another id: the unified json of How2QA and TVQA counts rows (HOW2QA_0), and the
        benchmark's ids are lost there."""
        if not (qid.isascii() and qid.isdigit()):
            raise UserError(f"question {qid!r}: {cls.name}'s ids are numbers; read the benchmark's own annotation file")
        return qid

    @classmethod
    def score(
        cls, annotations: Path, predictions: Path | None, missing: str = "refuse", split: str | None = None
    ) -> Score:
        """As VALUE's script: every question counts once. split: the key of the number (`scored_split`)."""
        choices, notes = cls.choices(annotations, predictions, missing)
        value = accuracy(choices)
        known = sum(choice.answer is not None for choice in choices)
        return Score.of([("accuracy", value)], known, {split or cls.scored_split: value}, notes)


@dataclass
class TVQA(ValueTask):
    """TVQA below `root`, or TVQA+ with its files named; the test split hides its answers."""

    train: str | None = "annotations/tvqa_train.jsonl"
    val: str | None = "annotations/tvqa_val.jsonl"
    test: str | None = "annotations/tvqa_test_public.jsonl"

    name = "tvqa"
    n_options = OPTIONS

    def open_folder(self) -> Videos:
        return TVQAVideos(Path(self.root) / self.videos)

    @classmethod
    def read_questions(cls, path: Path, dropped: list[Dropped] | None = None) -> list[Question]:
        """The rows of a TVQA jsonl, a TVQA+ json or the official preprocessing's json as records.

        Also VALUE's tvqa_val_solution.json, which holds nothing but answers: enough to score predictions.
        """
        rows = list(read_rows(path))
        if path.suffix == ".json" and len(rows) == 1 and "qid" not in rows[0].values:
            return _solution(rows[0].values, path)
        return records(rows, cls.any_question, dropped)

    @classmethod
    def clip(cls, row: Row) -> Window | None:
        """ "NaN-NaN" is the whole video; TVQA+ has lists."""
        return row.pair("ts") if isinstance(row.values.get("ts"), list) else super().clip(row)


class TVQAVideos(VideoFolder):
    """VIDEO.mp4, the frame folder VIDEO/, or the same below SHOW_frames/, as TVQA hands its frames out."""

    def places(self, video: str) -> Sequence[str]:
        show = video.partition("_")[0]
        return [video, f"{show if show in SHOWS else UNNAMED_SHOW}_frames/{video}"]


def _solution(content: Mapping[str, Any], path: Path) -> list[Question]:
    """{"solution": {show: {qid: answer}}} as questions whose texts are not known."""
    options = ("",) * OPTIONS
    try:
        answers = [(qid, answer) for show in content["solution"].values() for qid, answer in show.items()]
    except (KeyError, AttributeError):
        raise UserError(f'{path}: expected a list of rows, or {{"solution": {{show: {{qid: answer}}}}}}') from None
    for qid, answer in answers:
        if type(answer) is not int or not 0 <= answer < len(options):
            raise UserError(f"{path}, key {qid}: expected an option from 0 to {len(options) - 1}, found {answer!r}")
    return [Question(qid, "", "", options, answer) for qid, answer in answers]
