"""Moments out of frames: spans of time from what the Localizer says of each frame (the paper's table 4)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from sevila.data.records import Moment, Window
from sevila.errors import UserError
from sevila.metrics.moments import CLIP_SECONDS, MAX_WINDOWS, MomentPrediction, ScoredWindow


@dataclass(frozen=True)
class SpanRule(ABC):
    """Windows of a video out of a judgement of its frames, which subclasses write. The rest is the same for all:

    1. Relevant frames are joined into spans. `span_threshold` (paper, appendix; table 4) is the largest number of
       consecutive irrelevant frames inside one span; more than that split it. The paper's 6 is the average interval
       between the spans of QVHighlights' training data (11.1 s, which is 5.6 of 75 sampled frames).
    2. A span reaches from the start of its first frame's cell to the end of its last frame's. A frame's cell goes
       half-way to the next frame, the first one's to 0 s, the last one's to the end of the video.
    3. Both ends are moved to the nearest multiple of `grid` seconds, at least one step apart, and not past the
       end of the video (QVHighlights' windows consist of clips of two seconds); 0 leaves them where they are.
    4. A span's score is `peak` * the highest + (1 - `peak`) * the mean of its relevant frames' values.
    5. Spans are listed by falling score, of equals the earlier one first; at most `max_windows` are kept.

    The paper says how frames are joined (1), but not where spans end on the time axis nor how they are scored, which
    decides their order (R1) and mAP: 2 to 5 are this project's.
    """

    span_threshold: int = 6
    peak: float = 0.5
    grid: float = float(CLIP_SECONDS)
    max_windows: int = MAX_WINDOWS

    def __post_init__(self) -> None:
        _check_fraction("peak", self.peak)
        for name, number, least in (("span_threshold", self.span_threshold, 0), ("max_windows", self.max_windows, 1)):
            if number < least:
                raise UserError(f"spans.{name}={number}: must be at least {least}")
        if not self.grid >= 0:
            raise UserError(f"spans.grid={self.grid}: must be at least 0")

    @abstractmethod
    def judge(self, yes: np.ndarray, no: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Logits of "yes" and of "no" [T] -> each frame's value in 0..1, and whether it is relevant (at least one is).

        ValueError where a rule needs the logits of "no" and there are none.
        """

    def windows(
        self, yes: Sequence[float], no: Sequence[float] | None, times: Sequence[float], duration: float
    ) -> list[ScoredWindow]:
        """The windows of a video of `duration` seconds, best first; at least one where a frame lies in it.

        yes, no, times   of its n >= 1 frames: the Localizer's logits of the two words (`no` None where it was not
                         read), and rising times in seconds. Frames past `duration` make no window
        """
        times = [time for time in times if time < duration]
        if not times:
            return []
        known = slice(len(times))
        negative = None if no is None else np.asarray(no[known], dtype=float)
        values, relevant = self.judge(np.asarray(yes[known], dtype=float), negative)
        edges = _cells(times, duration)
        windows = []
        for span in self._spans(np.flatnonzero(relevant)):
            start, end = self._snap(edges[span[0]], edges[span[-1] + 1], duration)
            inside = values[span]
            score = self.peak * inside.max() + (1 - self.peak) * inside.mean()
            windows.append((start, end, round(float(score), 4)))
        windows.sort(key=lambda window: -window[2])
        return windows[: self.max_windows]

    def _spans(self, positions: np.ndarray) -> list[np.ndarray]:
        """The relevant frames' positions, split where too many irrelevant ones lie between two of them."""
        between = np.diff(positions) - 1
        return np.split(positions, np.flatnonzero(between > self.span_threshold) + 1)

    def _snap(self, start: float, end: float, duration: float) -> Window:
        if not self.grid:
            return start, end
        first = min(round(start / self.grid), max(0, int(np.ceil(duration / self.grid)) - 1))
        last = max(round(end / self.grid), first + 1)
        return first * self.grid, min(last * self.grid, float(duration))


@dataclass(frozen=True)
class BinarySpans(SpanRule):
    """The paper's rule: a frame is relevant where the Localizer says "yes", that is, rather "yes" than "no".

    This project's: a frame's value is the probability of "yes" between the two words, and a video without any "yes"
    gets one window of its single likeliest frame (the benchmark wants a window for every query).
    """

    def judge(self, yes: np.ndarray, no: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        if no is None:
            raise ValueError("a binary prediction needs the logits of both words")
        relevant = yes > no
        if not relevant.any():
            relevant[np.argmax(yes - no)] = True
        return 0.5 + 0.5 * np.tanh((yes - no) / 2), relevant  # softmax over the two words, without overflow


@dataclass(frozen=True)
class MinMaxSpans(SpanRule):
    """Not the paper's rule; from scores alone, whoever gave them.

    Scores are mapped to 0..1 within the video, its lowest to 0 and its highest to 1 (logits of different videos have
    no common zero); a frame of at least `threshold` is relevant. Equal scores are all relevant. The default was chosen
    among 0.5, 0.6, 0.7, 0.8 for the best mAP on forty validation queries with Moment-DETR's saliency in place of frame
    scores: a start, not a tuned value.
    """

    threshold: float = 0.7

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_fraction("threshold", self.threshold)

    def judge(self, yes: np.ndarray, no: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        low, high = yes.min(), yes.max()
        values = (yes - low) / (high - low) if high > low else np.ones_like(yes)
        return values, values >= self.threshold


SPANS: dict[str, type[SpanRule]] = {"binary": BinarySpans, "minmax": MinMaxSpans}


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
    moment: Moment, scores: Sequence[float], no: Sequence[float] | None, times: Sequence[float], rule: SpanRule
) -> MomentPrediction:
    """Windows and saliency of a query from the video's frames.

    scores, no   a score for each frame: the Localizer's logit of "yes"; and its logit of "no", if that was read
    times        in seconds, rising

    UserError, naming the query, where there are no frames or a score or time is not finite.
    """
    given = [np.asarray(values, dtype=float) for values in (scores, no, times) if values is not None]
    if len(times) == 0 or any(len(values) != len(times) or not np.isfinite(values).all() for values in given):
        raise UserError(f"query {moment.qid}: expected a finite score and time for each frame of video {moment.video}")
    if list(times) != sorted(times):
        raise UserError(f"query {moment.qid}: the frames of video {moment.video} are not in the order of time")
    windows = tuple(rule.windows(scores, no, times, moment.duration))
    return MomentPrediction(moment.qid, windows, tuple(clip_scores(scores, times, moment.duration)))


def _check_fraction(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise UserError(f"spans.{name}={value}: must lie between 0 and 1")


def _cells(times: Sequence[float], duration: float) -> list[float]:
    """The n + 1 ends of the frames' cells, in seconds."""
    between = [(a + b) / 2 for a, b in pairwise(times)]
    return [0.0, *between, float(duration)]
