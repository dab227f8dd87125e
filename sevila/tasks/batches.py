"""Frames of a batch, looked up on the device by what the host knows."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sevila.data.dataset import Batch
from sevila.model.device import taken


def frames_of(batch: Batch, patches: Tensor) -> Tensor:
    """The F frames of a batch without its padding, row by row: patches [B, T, P, Dv] -> [F, P, Dv]."""
    return chosen_frames(patches, [range(len(row)) for row in batch.indices])


def chosen_frames(patches: Tensor, positions: Sequence[Sequence[int]], rows: Sequence[int] | None = None) -> Tensor:
    """Of each row the frames at some positions, one row after another: patches [B, T, P, Dv] -> [their number, P, Dv].

    rows   the rows that the positions are of; all, if None
    """
    length = patches.shape[1]
    places = zip(range(len(patches)) if rows is None else rows, positions, strict=True)
    return next(taken(patches.flatten(0, 1), [[row * length + position for row, own in places for position in own]]))
