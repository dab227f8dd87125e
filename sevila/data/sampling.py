"""Which frames of a video are taken, and what is random about a training.

The paper samples frames uniformly; how exactly, the official code's data sets say, all alike: a video, or the clip of
it that counts, is cut into n equal segments and gives one frame from each: the midpoint in evaluation, a random one in
training.

An item is addressed by a `FrameKey` (epoch, index), and whatever is random about it follows from that key and a seed
alone. So a run is the same with any number of workers, and a resumed run goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import random
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from sevila.data.records import Window
from sevila.data.transforms import Box, crop_and_resize, random_box
from sevila.data.video import VideoInfo
from sevila.errors import UserError

FrameKey = tuple[int, int]  # (epoch, index of the item)
PLAIN = "plain"  # the view of frames that are only resized


def uniform_indices(
    length: int, fps: float, n_frames: int, clip: Window | None = None, times: Sequence[float] | None = None
) -> list[int]:
    """The middle frame of each segment: min(n_frames, length) frame numbers, in the clip's order.

    length   frames in the video
    fps      its average frame rate
    times    seconds of each frame since the first, where they are not evenly spaced: a clip's frames are those shown
             in it. The official code takes the average rate there too, and hits others
    clip     (start, end) in seconds, or None for the whole video; a part outside the video is cut off.
             A clip of fewer than n_frames frames gives some of them more than once; one that runs backwards gives
             frames that do, as in the official code.

    Raises UserError for a clip that is not a number or lies outside the video.
    """
    edges = _edges(length, fps, n_frames, clip, times)
    return [(a + b) // 2 for a, b in itertools.pairwise(edges)]


def random_indices(
    length: int,
    fps: float,
    n_frames: int,
    clip: Window | None = None,
    times: Sequence[float] | None = None,
    *,
    rng: random.Random,
) -> list[int]:
    """A random frame of each segment, drawn from `rng` in segment order. Otherwise as `uniform_indices`."""
    edges = _edges(length, fps, n_frames, clip, times)
    return [rng.randrange(min(a, b), max(a, b)) if a != b else a for a, b in itertools.pairwise(edges)]


def _edges(length: int, fps: float, n_frames: int, clip: Window | None, times: Sequence[float] | None) -> list[int]:
    """The min(n_frames, length) + 1 borders of the segments, as frame numbers."""
    if n_frames < 1:
        raise UserError(f"cannot sample {n_frames} frames of a video: ask for at least 1")
    if length < 1:
        raise UserError("cannot sample frames of a video that has none")
    start, end = (0, length) if clip is None else clip_frames(length, fps, clip, times)
    # the official code's edges: float64, cut to whole numbers
    return np.linspace(start, end, min(n_frames, length) + 1).astype(int).tolist()


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
        return int(min(seconds * fps, length))  # the official code's rule
    return bisect_right(times, seconds) - 1


def epoch_keys(length: int, seed: int, epoch: int) -> list[FrameKey]:
    """The keys of one epoch over `length` items, in an order that is a function of (seed, epoch) alone."""
    generator = torch.Generator().manual_seed(derived_seed("order", seed, epoch))
    return [(epoch, index) for index in torch.randperm(length, generator=generator).tolist()]


def ordered_keys(length: int) -> list[FrameKey]:
    """Every item once, in order, as epoch 0: for evaluation."""
    return [(0, index) for index in range(length)]


def derived_seed(purpose: str, *numbers: int) -> int:
    """A 63-bit seed of its own for each purpose and numbers, the same on every machine."""
    text = ":".join([purpose, *map(str, numbers)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


class FrameRule(Protocol):
    """Which frames of a video are taken, and what is done to them."""

    def indices(self, video: VideoInfo, clip: Window | None, key: FrameKey) -> list[int]:
        """Frame numbers. UserError for a clip outside the video."""
        ...

    def transform(self, pixels: Tensor, key: FrameKey) -> Tensor:
        """uint8 [T, 3, S, S] -> uint8 [T, 3, S, S]; frame by frame."""
        ...

    def view(self, size: int, key: FrameKey) -> str | None:
        """What `transform` does to pictures of S = `size`, as a name for a store.

        None where the same frames in the same view will hardly come again: they are not worth storing.
        """
        ...


@dataclass(frozen=True)
class EvaluationFrames:
    """`n_frames` midpoints, no crop."""

    n_frames: int

    def indices(self, video: VideoInfo, clip: Window | None, key: FrameKey) -> list[int]:
        return uniform_indices(video.length, video.fps, self.n_frames, clip, video.times)

    def transform(self, pixels: Tensor, key: FrameKey) -> Tensor:
        """uint8 [T, 3, S, S], as it is."""
        return pixels

    def view(self, size: int, key: FrameKey) -> str:
        return PLAIN


@dataclass(frozen=True)
class TrainingFrames:
    """A random frame of each of `n_frames` segments, and one random crop for all of them (none with crop=False)."""

    n_frames: int
    seed: int
    crop: bool = True

    def indices(self, video: VideoInfo, clip: Window | None, key: FrameKey) -> list[int]:
        rng = random.Random(derived_seed("frames", self.seed, *key))
        return random_indices(video.length, video.fps, self.n_frames, clip, video.times, rng=rng)

    def transform(self, pixels: Tensor, key: FrameKey) -> Tensor:
        """uint8 [T, 3, S, S] -> uint8 [T, 3, S, S], cropped alike."""
        size = pixels.shape[-1]
        box = self.box(size, key)
        return pixels if box is None else crop_and_resize(pixels, box, size)

    def view(self, size: int, key: FrameKey) -> str | None:
        return None

    def box(self, size: int, key: FrameKey) -> Box | None:
        """The crop of pictures of size x size; None without one."""
        if not self.crop:
            return None
        return random_box(size, size, torch.Generator().manual_seed(derived_seed("crop", self.seed, *key)))


@dataclass(frozen=True)
class RecurringFrames:
    """The frames and crops of a training rule, the same again after `views` epochs: epoch e takes view e mod views."""

    rule: TrainingFrames
    views: int

    def indices(self, video: VideoInfo, clip: Window | None, key: FrameKey) -> list[int]:
        return self.rule.indices(video, clip, self._first(key))

    def transform(self, pixels: Tensor, key: FrameKey) -> Tensor:
        """uint8 [T, 3, S, S] -> uint8, as the rule has it in that view."""
        return self.rule.transform(pixels, self._first(key))

    def view(self, size: int, key: FrameKey) -> str:
        box = self.rule.box(size, self._first(key))
        return PLAIN if box is None else "crop-" + "-".join(map(str, box))

    def _first(self, key: FrameKey) -> FrameKey:
        return key[0] % self.views, key[1]
