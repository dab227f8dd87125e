"""Spans of time out of frames: moments from the Localizer's scores, and the span that keyframes cover."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from sevila.data.records import Moment, Window
from sevila.errors import UserError
from sevila.metrics.moments import CLIP_SECONDS, MAX_WINDOWS, MomentPrediction, ScoredWindow


@dataclass(frozen=True)
class JoinedSpans:
    """Windows of a video from the scores of its frames.

    The paper (table 4) joins frame scores into spans with a "span threshold 6" and publishes no more; this is our
    rule, and these are its parameters:

    1. Scores are mapped to 0..1 within the video, its lowest score to 0 and its highest to 1 (the Localizer's
       logits have no common zero). A frame of at least `threshold` is relevant. Equal scores are all relevant.
    2. Relevant frames that stand at most `span_threshold` frames apart belong to one span; 1 joins neighbours only.
    3. A span reaches from the start of its first frame's cell to the end of its last frame's. A frame's cell goes
       half-way to the next frame, the first one's to 0 s, the last one's to the end of the video.
    4. Both ends are moved to the nearest multiple of `grid` seconds, at least one step apart, and not past the
       end of the video (QVHighlights' windows consist of clips of two seconds); 0 leaves them where they are.
    5. A span's score is `peak` * the highest + (1 - `peak`) * the mean of its relevant frames' mapped scores.
    6. Spans are listed by falling score, of equals the earlier one first; at most `max_windows` are kept.

    `threshold` was chosen among 0.5, 0.6, 0.7, 0.8 for the best mAP at span threshold 6 on forty validation queries
    with Moment-DETR's saliency in place of frame scores: a start, not a tuned value.
    """

    threshold: float = 0.7
    span_threshold: int = 6
    peak: float = 0.5
    grid: float = float(CLIP_SECONDS)
    max_windows: int = MAX_WINDOWS

    def __post_init__(self) -> None:
        for name, value in (("threshold", self.threshold), ("peak", self.peak)):
            if not 0 <= value <= 1:
                raise UserError(f"spans.{name}={value}: must lie between 0 and 1")
        for name, number in (("span_threshold", self.span_threshold), ("max_windows", self.max_windows)):
            if number < 1:
                raise UserError(f"spans.{name}={number}: must be at least 1")
        if not self.grid >= 0:
            raise UserError(f"spans.grid={self.grid}: must be at least 0")

    def windows(self, scores: Sequence[float], times: Sequence[float], duration: float) -> list[ScoredWindow]:
        """The windows of a video of `duration` seconds, best first; at least one where a frame lies in it.

        scores, times   of its n >= 1 frames, times rising, in seconds. Frames past `duration` make no window
        """
        times = [time for time in times if time < duration]
        if not times:
            return []
        relevance = _mapped(np.asarray(scores[: len(times)], dtype=float))
        edges = _cells(times, duration)
        windows = []
        for span in self._spans(np.flatnonzero(relevance >= self.threshold)):
            start, end = self._snap(edges[span[0]], edges[span[-1] + 1], duration)
            inside = relevance[span]
            score = self.peak * inside.max() + (1 - self.peak) * inside.mean()
            windows.append((start, end, round(float(score), 4)))
        windows.sort(key=lambda window: -window[2])
        return windows[: self.max_windows]

    def _spans(self, positions: np.ndarray) -> list[np.ndarray]:
        return np.split(positions, np.flatnonzero(np.diff(positions) > self.span_threshold) + 1)

    def _snap(self, start: float, end: float, duration: float) -> Window:
        if not self.grid:
            return start, end
        first = min(round(start / self.grid), max(0, int(np.ceil(duration / self.grid)) - 1))
        last = max(round(end / self.grid), first + 1)
        return first * self.grid, min(last * self.grid, float(duration))


def clip_scores(scores: Sequence[float], times: Sequence[float], duration: float) -> list[float]:
    """Saliency of every whole clip of two seconds: the mean score of the frames in it.

    A clip without a frame has the score of the frame nearest to its middle, of equals the earlier one.
    """
    values, stamps = np.asarray(scores, dtype=float), np.asarray(times, dtype=float)
    result = []
    for clip in range(int(duration / CLIP_SECONDS)):
        inside = (stamps >= clip * CLIP_SECONDS) & (stamps < (clip + 1) * CLIP_SECONDS)
        nearest = np.argmin(np.abs(stamps - (clip + 0.5) * CLIP_SECONDS))
        result.append(round(float(values[inside].mean() if inside.any() else values[nearest]), 6))
    return result


def moment_prediction(
    moment: Moment, scores: Sequence[float], times: Sequence[float], rule: JoinedSpans
) -> MomentPrediction:
    """Windows and saliency of a query from the scores of the video's frames (times in seconds, rising).

    UserError, naming the query, where there are no frames or a score is not finite.
    """
    if len(scores) == 0 or len(scores) != len(times) or not np.isfinite(np.asarray(scores, dtype=float)).all():
        raise UserError(f"query {moment.qid}: expected a finite score for each frame of video {moment.video}")
    if list(times) != sorted(times):
        raise UserError(f"query {moment.qid}: the frames of video {moment.video} are not in the order of time")
    windows = tuple(rule.windows(scores, times, moment.duration))
    return MomentPrediction(moment.qid, windows, tuple(clip_scores(scores, times, moment.duration)))


def keyframe_span(keyframes: Sequence[Mapping[str, Any]]) -> Window:
    """From the first to the last keyframe's time, rounded to 0.01 s: SeViLA's span in NExT-GQA's comparison."""
    times = [float(frame["time"]) for frame in keyframes]
    return round(min(times), 2), round(max(times), 2)


def _mapped(scores: np.ndarray) -> np.ndarray:
    low, high = scores.min(), scores.max()
    return (scores - low) / (high - low) if high > low else np.ones_like(scores)


def _cells(times: Sequence[float], duration: float) -> list[float]:
    """The n + 1 ends of the frames' cells, in seconds."""
    between = [(a + b) / 2 for a, b in pairwise(times)]
    return [0.0, *between, float(duration)]
