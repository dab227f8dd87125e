"""Which frames of a video are looked at.

The rule (SeViLA's, for every data set): a video of `length` frames at `fps`, of which `clip` counts, is cut
into n equal segments and gives one frame from each: the midpoint in evaluation, a random one in training.
"""

from __future__ import annotations

import itertools
import math
import random
from bisect import bisect_right
from collections.abc import Sequence

import numpy as np

from sevila.data.records import Window
from sevila.errors import UserError


def uniform_indices(
    length: int, fps: float, n: int, clip: Window | None = None, times: Sequence[float] | None = None
) -> list[int]:
    """The middle frame of each segment: min(n, length) frame numbers, in the clip's order.

    length   frames in the video
    fps      its average frame rate
    times    seconds of each frame since the first, where they are not evenly spaced: a clip's frames are those shown
             in it. The official code takes the average rate there too, and hits others
    clip     (start, end) in seconds, or None for the whole video; a part outside the video is cut off.
             A clip of fewer than n frames gives some of them more than once; one that runs backwards gives
             frames that do, as in the official code.

    Raises UserError for a clip that is not a number or lies outside the video.
    """
    edges = _edges(length, fps, n, clip, times)
    return [(a + b) // 2 for a, b in itertools.pairwise(edges)]


def random_indices(
    length: int,
    fps: float,
    n: int,
    clip: Window | None = None,
    times: Sequence[float] | None = None,
    *,
    rng: random.Random,
) -> list[int]:
    """A random frame of each segment, drawn from `rng` in segment order. Otherwise as `uniform_indices`."""
    edges = _edges(length, fps, n, clip, times)
    return [rng.randrange(min(a, b), max(a, b)) if a != b else a for a, b in itertools.pairwise(edges)]


def _edges(length: int, fps: float, n: int, clip: Window | None, times: Sequence[float] | None) -> list[int]:
    """The min(n, length) + 1 borders of the segments, as frame numbers."""
    if n < 1:
        raise UserError(f"cannot sample {n} frames of a video: ask for at least 1")
    if length < 1:
        raise UserError("cannot sample frames of a video that has none")
    start, end = (0, length) if clip is None else clip_frames(length, fps, clip, times)
    return np.linspace(start, end, min(n, length) + 1).astype(int).tolist()


def clip_frames(length: int, fps: float, clip: Window, times: Sequence[float] | None = None) -> tuple[int, int]:
    """The clip in frame numbers, both within [0, length] and the first one a frame of the video.

    The other arguments and the errors are those of `uniform_indices`.
    """
    first, last = clip
    if not (math.isfinite(first) and math.isfinite(last)):
        raise UserError(f"clip {first} to {last} s is not a stretch of time: mend or drop the row")
    if last < 0:
        raise UserError(f"clip {first} to {last} s ends before the video starts: mend or drop the row")
    start, end = (_frame_at(max(seconds, 0), length, fps, times) for seconds in clip)
    if start >= length:
        seconds = round(length / fps, 2)
        raise UserError(
            f"clip {first} to {last} s starts past the end of the video ({seconds} s): mend or drop the row"
        )
    return start, end


def _frame_at(seconds: float, length: int, fps: float, times: Sequence[float] | None) -> int:
    """The frame that is shown at this time; `length` behind the last one."""
    if times is None or seconds * fps >= length:
        return int(min(seconds * fps, length))
    return bisect_right(times, seconds) - 1
