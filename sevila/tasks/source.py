"""Frames of a data set's videos: for evaluation every video once, with all the records that ask about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sevila.data.features import FeatureStore
from sevila.data.folders import Videos
from sevila.data.frame_rules import EvaluationFrames, FrameRule
from sevila.data.keys import OrderedSampler
from sevila.data.loading import FrameDataset, Record, Sample, stream
from sevila.data.records import Question
from sevila.data.video import CachedVideos


@dataclass(frozen=True)
class VideoSource:
    """Where frames come from: n midpoints of every video (or clip), decoded by `workers` processes.

    store      where the tower's patches of frames are kept, if anywhere
    pictures   whether evaluation looks at the decoded pictures too, so that stored patches do not suffice
    """

    videos: CachedVideos
    folder: Videos
    n: int
    workers: int = 0
    store: FeatureStore | None = None
    pictures: bool = False

    def dataset(
        self, records: Sequence[Record], rule: FrameRule, fixed_indices: Mapping[str, Sequence[int]] | None = None
    ) -> FrameDataset:
        """Records with the frames that a rule takes, for a training."""
        return FrameDataset(records, self.videos, self.folder, rule, fixed_indices, self.store)

    def walk(self, records: Sequence[Record]) -> Iterator[tuple[list[int], Sample]]:
        """For every video and clip: the rows of `records` that ask about it, and its frames."""
        groups = by_video(records)
        first, rule = [records[group[0]] for group in groups], EvaluationFrames(self.n)
        dataset = FrameDataset(first, self.videos, self.folder, rule, store=self.store, pictures=self.pictures)
        samples = stream(dataset, self.workers, batch_size=None, sampler=OrderedSampler(len(groups)))
        yield from zip(groups, samples, strict=True)


def by_video(records: Sequence[Record]) -> list[list[int]]:
    """The rows of `records` that ask about each video and clip, in the order in which these first appear."""
    rows: dict[object, list[int]] = {}
    for row, record in enumerate(records):
        clip = record.clip if isinstance(record, Question) else None
        rows.setdefault((record.video, clip), []).append(row)
    return list(rows.values())
