"""TVQA's jsonl and TVQA+'s json. Sources: github.com/jayleicn/TVQA, github.com/jayleicn/TVQAplus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sevila.benchmarks.rows import Dropped, Row, read_rows, records
from sevila.benchmarks.value import ValueTask
from sevila.data.folders import VideoFolder, Videos
from sevila.data.records import Question, Window
from sevila.errors import UserError

OPTIONS = 5
SHOWS = ("castle", "friends", "grey", "house", "met")  # begin a video's name; The Big Bang Theory's has no show
UNNAMED_SHOW = "bbt"


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
