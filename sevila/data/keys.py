"""Which item in which epoch: the keys of items and their orders.

An item is addressed by a `FrameKey` (epoch, index), and whatever is random about it follows from that key and
a seed alone. So a run is the same with any number of workers, and a resumed run goes on where it stopped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import torch
from torch.utils.data import Sampler

FrameKey = tuple[int, int]  # (epoch, index of the item)


class EpochSampler(Sampler[FrameKey]):
    """The keys of one epoch over `length` items, in an order that is a function of (seed, epoch) alone.

    skip   items at the start that a resumed run has already seen
    """

    def __init__(self, length: int, seed: int, epoch: int, skip: int = 0) -> None:
        self.length = length
        self.seed = seed
        self.epoch = epoch
        self.skip = skip

    def __iter__(self) -> Iterator[FrameKey]:
        generator = torch.Generator().manual_seed(derived_seed("order", self.seed, self.epoch))
        order = torch.randperm(self.length, generator=generator).tolist()
        return iter([(self.epoch, index) for index in order[self.skip :]])

    def __len__(self) -> int:
        return max(self.length - self.skip, 0)


class OrderedSampler(Sampler[FrameKey]):
    """Every item once, in order, as epoch 0: for evaluation."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __iter__(self) -> Iterator[FrameKey]:
        return iter([(0, index) for index in range(self.length)])

    def __len__(self) -> int:
        return self.length


def derived_seed(purpose: str, *numbers: int) -> int:
    """A 63-bit seed of its own for each purpose and numbers, the same on every machine."""
    text = ":".join([purpose, *map(str, numbers)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
