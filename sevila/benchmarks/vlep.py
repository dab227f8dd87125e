"""VLEP: which of two events comes next. Source: github.com/jayleicn/VideoLanguageFuturePred.

Its rows hold no question, so a record's is "". Videos come from two places: a name with ":" is a clip of a YouTube
video, any other is a TVQA clip with "_ep" put after its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sevila.benchmarks.base import Answered
from sevila.benchmarks.predictions import RowForm
from sevila.benchmarks.rows import Row, shown
from sevila.benchmarks.tvqa import TVQAVideos, ValueTask
from sevila.data.folders import VideoFolder, Videos
from sevila.data.records import Question
from sevila.files import write_jsonl


@dataclass
class VLEP(ValueTask):
    """VLEP below `root`, the YouTube clips in `videos`; the test split hides its answers."""

    train: str | None = "annotations/vlep_train_release.jsonl"
    val: str | None = "annotations/vlep_dev_release.jsonl"
    test: str | None = "annotations/vlep_test_release.jsonl"
    tvqa_videos: str = "../tvqa/videos"

    name = "vlep"
    prompts = "event"
    prefix = "VLEP_"
    scored_split = "dev"
    suffixes = (".json", ".jsonl")
    forms = (*ValueTask.forms, RowForm('lines {"example_id", "pred_ans"}', "example_id", "pred_ans"))

    def open_folder(self) -> Videos:
        return VLEPVideos(self.file("videos"), self.file("tvqa_videos"))

    @classmethod
    def question(cls, row: Row) -> Question:
        events = row.values.get("events")
        if not isinstance(events, list) or len(events) != 2 or not all(isinstance(event, str) for event in events):
            raise row.fail("events", f"expected two texts, found {shown(events)}")
        return Question(
            qid=row.name("example_id"),
            video=row.name("vid_name"),
            question="",
            options=row.whole("events", *events),
            answer=row.integer("answer", 0, 1) if "answer" in row.values else None,
            clip=row.pair("ts"),
        )

    @classmethod
    def ids(cls, question: Question) -> set[str]:
        return {question.qid, f"{cls.prefix}{question.qid}"}  # the second in SeViLA's own result lists

    @classmethod
    def write(cls, path: Path, answered: Sequence[Answered]) -> list[Path]:
        """VALUE's json, or VLEP's own jsonl of {"example_id", "pred_ans"} (its standalone_eval/README.md)."""
        if path.suffix == ".json":
            return super().write(path, answered)
        ids = [cls.official_id(a.question.qid) for a in answered]
        write_jsonl(path, ({"example_id": int(i), "pred_ans": a.option} for i, a in zip(ids, answered, strict=True)))
        return [path]


class VLEPVideos:
    """YouTube clips in one folder, TVQA's in another; files or frame folders."""

    def __init__(self, youtube: Path, tvqa: Path) -> None:
        self.youtube, self.tvqa = VideoFolder(youtube), _TVVideos(tvqa)

    def path(self, video: str) -> Path:
        """As `VideoFolder`."""
        return self.youtube.path(video) if ":" in video else self.tvqa.path(video)


class _TVVideos(TVQAVideos):
    """TVQA's clips by VLEP's names; VLEP's own frame folders, which keep the "_ep", serve as well."""

    def places(self, video: str) -> Sequence[str]:
        return [*super().places(video.removesuffix("_ep")), video]
