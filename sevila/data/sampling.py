"""Which frames of a video are looked at.

The rule (SeViLA's, for every data set): a video of `length` frames at `fps`, of which `clip` counts, is cut
into n equal segments and gives one frame from each: the midpoint in evaluation, a random one in training.
"""

from __future__ import annotations

import itertools
import math
import random

import numpy as np

from sevila.data.records import Window
from sevila.errors import UserError


def uniform_indices(length: int, fps: float, n: int, clip: Window | None = None) -> list[int]:
    """The middle frame of each segment: min(n, length) frame numbers, in the clip's order.

    length   frames in the video
    fps      its average frame rate
    clip     (start, end) in seconds, or None for the whole video; a part outside the video is cut off.
             A clip of fewer than n frames gives some of them more than once; one that runs backwards gives
             frames that do, as in the official code.

    Raises UserError for a clip that is not a number or lies outside the video.
    """
    edges = _edges(length, fps, n, clip)
    return [(a + b) // 2 for a, b in itertools.pairwise(edges)]


def random_indices(length: int, fps: float, n: int, clip: Window | None = None, *, rng: random.Random) -> list[int]:
    """A random frame of each segment, drawn from `rng` in segment order. Otherwise as `uniform_indices`."""
    edges = _edges(length, fps, n, clip)
    return [rng.randrange(min(a, b), max(a, b)) if a != b else a for a, b in itertools.pairwise(edges)]


def _edges(length: int, fps: float, n: int, clip: Window | None) -> list[int]:
    """The min(n, length) + 1 borders of the segments, as frame numbers."""
    if n < 1:
        raise UserError(f"cannot sample {n} frames of a video: ask for at least 1")
    if length < 1:
        raise UserError("cannot sample frames of a video that has none")
    start, end = (0, length) if clip is None else _clip_frames(length, fps, clip)
    return np.linspace(start, end, min(n, length) + 1).astype(int).tolist()


def _clip_frames(length: int, fps: float, clip: Window) -> tuple[int, int]:
    """The clip in frame numbers, both within [0, length] and the first one a frame of the video."""
    first, last = clip
    if not (math.isfinite(first) and math.isfinite(last)):
        raise UserError(f"clip {first} to {last} s is not a stretch of time: mend or drop the row")
    if last < 0:
        raise UserError(f"clip {first} to {last} s ends before the video starts: mend or drop the row")
    start = int(max(first * fps, 0))
    end = int(min(last * fps, length))
    if start >= length:
        seconds = round(length / fps, 2)
        raise UserError(
            f"clip {first} to {last} s starts past the end of the video ({seconds} s): mend or drop the row"
        )
    return start, end
