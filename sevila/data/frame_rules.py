"""Which frames of a video are taken, and what is done to them: for evaluation, and for training."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from sevila.data.features import PLAIN
from sevila.data.keys import FrameKey, derived_seed
from sevila.data.records import Window
from sevila.data.sampling import random_indices, uniform_indices
from sevila.data.transforms import Box, crop_and_resize, evaluation_transform, normalize, random_box
from sevila.data.video import VideoInfo


class FrameRule(Protocol):
    """Which frames of a video are taken, and what is done to them."""

    def indices(self, video: VideoInfo, clip: Window | None, key: FrameKey) -> list[int]: ...

    def transform(self, pixels: Tensor, key: FrameKey) -> Tensor:
        """uint8 [T, 3, S, S] -> float32 [T, 3, S, S]; frame by frame."""
        ...

    def view(self, size: int, key: FrameKey) -> str | None:
        """What `transform` does to pictures of S = `size`, as a name for a feature store.

        None where the same frames in the same view will hardly come again: they are not worth storing.
        """
        ...


@dataclass(frozen=True)
class EvaluationFrames:
    """n midpoints, no crop."""

    n: int

    def indices(self, video: VideoInfo, clip: Window | None, key: FrameKey) -> list[int]:
        return uniform_indices(video.length, video.fps, self.n, clip, video.times)

    def transform(self, pixels: Tensor, key: FrameKey) -> Tensor:
        return evaluation_transform(pixels)

    def view(self, size: int, key: FrameKey) -> str:
        return PLAIN


@dataclass(frozen=True)
class TrainingFrames:
    """A random frame of each of n segments, and one random crop for all of them (none with crop=False)."""

    n: int
    seed: int
    crop: bool = True

    def indices(self, video: VideoInfo, clip: Window | None, key: FrameKey) -> list[int]:
        rng = random.Random(derived_seed("frames", self.seed, *key))
        return random_indices(video.length, video.fps, self.n, clip, video.times, rng=rng)

    def transform(self, pixels: Tensor, key: FrameKey) -> Tensor:
        size = pixels.shape[-1]
        box = self.box(size, key)
        return evaluation_transform(pixels) if box is None else normalize(crop_and_resize(pixels, box, size))

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
        return self.rule.transform(pixels, self._first(key))

    def view(self, size: int, key: FrameKey) -> str:
        box = self.rule.box(size, self._first(key))
        return PLAIN if box is None else "crop-" + "-".join(map(str, box))

    def _first(self, key: FrameKey) -> FrameKey:
        return key[0] % self.views, key[1]
