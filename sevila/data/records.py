"""The two record types everything else speaks."""

from __future__ import annotations

from dataclasses import dataclass

Window = tuple[float, float]  # start and end in seconds


@dataclass(frozen=True)
class Question:
    """A multiple-choice question about a video.

    qid        unique within a dataset split
    video      the video's id (the data set's `VideoFolder` turns it into a path)
    options    2 to n answers, in order
    answer     index of the right option, or None where it is hidden
    qtype      the benchmark's question type, "" where it has none
    clip       (start, end) in seconds where only a part of the video counts, else None
    windows    the moments that answer the question, in seconds, where they are known
    """

    qid: str
    video: str
    question: str
    options: tuple[str, ...]
    answer: int | None = None
    qtype: str = ""
    clip: Window | None = None
    windows: tuple[Window, ...] | None = None


@dataclass(frozen=True)
class Moment:
    """A sentence about a video and the windows in which it holds (seconds).

    duration   of the video, in seconds
    saliency   for each two-second clip of the windows, the annotators' scores (0-4), or None
    """

    qid: str
    video: str
    query: str
    duration: float
    windows: tuple[Window, ...] | None = None
    saliency: tuple[tuple[int, ...], ...] | None = None
