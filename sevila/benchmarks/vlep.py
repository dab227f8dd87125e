"""VLEP's jsonl: which of two events comes next. Source: github.com/jayleicn/VideoLanguageFuturePred.

Its rows hold no question, so a record's is "". Videos come from two places: a name with ":" is a clip of a YouTube
video, any other is a TVQA clip with "_ep" put after its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from sevila.benchmarks import unified
from sevila.benchmarks.from_files import FromFiles, files
from sevila.benchmarks.rows import Dropped, Row, read_rows, records, shown
from sevila.benchmarks.tvqa import TVQAVideos
from sevila.data.folders import VideoFolder
from sevila.data.records import Question


def build(
    root: str,
    train: str | None = "annotations/vlep_train_release.jsonl",
    val: str | None = "annotations/vlep_dev_release.jsonl",
    test: str | None = "annotations/vlep_test_release.jsonl",
    videos: str = "videos",
    tvqa_videos: str = "../tvqa/videos",
    drop_bad_rows: bool = False,
    drop_unreadable: bool = False,
) -> FromFiles:
    """VLEP below `root`, the YouTube clips in `videos`; the test split hides its answers."""
    return FromFiles(
        "vlep",
        partial(VLEPVideos, Path(root) / videos, Path(root) / tvqa_videos),
        {split: partial(read_questions, path) for split, path in files(root, train=train, val=val, test=test).items()},
        prompts="event",
        drop_bad_rows=drop_bad_rows,
        drop_unreadable=drop_unreadable,
    )


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


def read_questions(path: Path, dropped: list[Dropped] | None = None) -> list[Question]:
    """The rows of a VLEP jsonl, or of the unified json, as records."""
    return records(read_rows(path), _question, dropped)


def _question(row: Row) -> Question:
    if unified.is_unified(row):
        return unified.question(row, prefix="VLEP_")
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
