"""Frames of a batch by places, against plain masks."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from hypothesis import given
from hypothesis import strategies as st

from sevila.tasks.batches import chosen_frames, frames_of


@given(st.lists(st.integers(1, 5), min_size=1, max_size=5), st.data())
def test_frames_by_places_and_by_mask(lengths: list[int], data: st.DataObject) -> None:
    longest = max(lengths)
    patches = torch.arange(len(lengths) * longest * 2).view(len(lengths), longest, 2, 1)
    mask = torch.arange(longest) < torch.tensor(lengths)[:, None]
    assert torch.equal(frames_of(SimpleNamespace(indices=[[7] * length for length in lengths]), patches), patches[mask])
    rows = data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, unique=True))
    picked = [data.draw(st.lists(st.integers(0, longest - 1), min_size=1, max_size=4)) for _ in rows]
    plain = torch.cat([patches[row, places] for row, places in zip(rows, picked, strict=True)])
    assert torch.equal(chosen_frames(patches, picked, rows), plain)
