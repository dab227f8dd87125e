"""What is wrong with the videos of a data set, found before a run would stop at it.

A video is looked for, and opened as a run opens it: all of its packets are read and its first frame is decoded.
Damage further on is found only by decoding.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from sevila.data.decoding import PyAv
from sevila.data.folders import Videos
from sevila.data.records import Moment, Question, Window
from sevila.data.sampling import uniform_indices
from sevila.data.video import VideoInfo, VideoReader
from sevila.errors import UserError
from sevila.progress import track

MISSING, UNREADABLE, OUTSIDE = "missing", "unreadable", "clip outside"
PROBE_PIXELS = 32  # a side, of frames that are decoded only to see that they can be


@dataclass(frozen=True)
class Fault:
    """Why a record cannot be used. kind: MISSING, UNREADABLE, or OUTSIDE where its clip starts past the video."""

    kind: str
    reason: str


Seen = Mapping[str, VideoInfo | Fault]  # by video id: what was found out about it


def open_videos(ids: Iterable[str], folder: Videos, decode: int = 0, threads: int = 4) -> Seen:
    """Open every video once. decode: also decode so many frames, evenly spread; 0 decodes the first one only."""

    def one(video: str) -> VideoInfo | Fault:
        try:
            path = folder.path(video)
        except UserError as error:
            return Fault(MISSING, str(error))
        try:
            reader = VideoReader(path, PyAv(threads=1))  # several videos are opened at once
            if decode:
                reader.decode(uniform_indices(reader.length, reader.fps, decode), PROBE_PIXELS)
            return reader.info
        except UserError as error:
            return Fault(UNREADABLE, str(error))

    ids = list(dict.fromkeys(ids))
    pool = ThreadPoolExecutor(max(1, threads))
    try:
        return dict(zip(ids, track(pool.map(one, ids), len(ids), "checking videos"), strict=True))
    finally:
        pool.shutdown(cancel_futures=True)


def clip_of(record: Question | Moment) -> Window | None:
    return record.clip if isinstance(record, Question) else None


def usable(record: Question | Moment, videos: Seen) -> VideoInfo | Fault:
    """The record's video, or what keeps the record from being used."""
    seen = videos[record.video]
    if isinstance(seen, VideoInfo):
        try:
            uniform_indices(seen.length, seen.fps, 1, clip_of(record), seen.times)
        except UserError as error:
            return Fault(OUTSIDE, str(error))
    return seen


def find_faults(records: Sequence[Question | Moment], folder: Videos) -> dict[str, Fault]:
    """The records that cannot be used: qid -> why."""
    videos = open_videos((record.video for record in records), folder)
    found = {record.qid: usable(record, videos) for record in records}
    return {qid: fault for qid, fault in found.items() if isinstance(fault, Fault)}
