"""Pictures travel as uint8 and are normalised by the tower: no bit is another than where they travelled as floats."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from sevila.checkpoints import backbone as backbones
from sevila.errors import UserError
from sevila.model.backbone import Backbone
from sevila.model.pixels import CLIP_MEAN, CLIP_STD, normalize


def plainly(pixels: Tensor) -> Tensor:
    """CLIP's normalisation as every data set of CLIP's pictures writes it down: (x / 255 - mean) / deviation."""
    mean, std = torch.tensor(CLIP_MEAN).view(3, 1, 1), torch.tensor(CLIP_STD).view(3, 1, 1)
    return (pixels.to(torch.float32) / 255 - mean) / std


def pictures(count: int, side: int) -> Tensor:
    """[count, 3, side, side]"""
    return torch.randint(0, 256, (count, 3, side, side), generator=torch.Generator().manual_seed(4), dtype=torch.uint8)


def test_every_value_of_a_pixel_becomes_the_same_bits() -> None:
    every = torch.arange(256).to(torch.uint8).expand(2, 3, 256).unflatten(2, (16, 16))
    before = every.clone()
    assert torch.equal(normalize(every), plainly(every)) and torch.equal(every, before)
    assert normalize(every).dtype == torch.float32 and normalize(every).shape == every.shape


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_tower_sees_what_it_saw_of_floats(dtype: torch.dtype) -> None:
    seen: list[Tensor] = []
    backbone = counted(10, seen)
    backbone.patches_dtype = dtype
    shown = pictures(6, 4)
    Backbone.encode(backbone, shown)
    assert torch.equal(torch.cat(seen), plainly(shown).to(dtype)) and seen[0].dtype == dtype


def test_patches_of_pictures_and_of_normalised_ones() -> None:
    backbone = backbones.load()
    shown = pictures(6, backbone.image_size).unflatten(0, (2, 3))
    patches = backbone.encode(shown)
    assert patches.shape[:2] == (2, 3) and torch.equal(patches, backbone.encode(plainly(shown)))


@pytest.mark.parametrize("dtype", [torch.int64, torch.int8, torch.bool])
def test_other_whole_numbers_are_refused(dtype: torch.dtype) -> None:
    with pytest.raises(UserError, match=rf"^pixels of {dtype}: expected uint8 \(0 to 255\), or normalised"):
        backbones.load().encode(torch.zeros(1, 3, 64, 64, dtype=dtype))


def counted(most: int, seen: list[Tensor]) -> SimpleNamespace:
    """What `encode` needs of a backbone of which at most so many frames fit into a pass; its tower notes each pass."""

    def patches(pixels: Tensor) -> Tensor:
        seen.append(pixels)
        return pixels.flatten(1)[:, None]

    backbone = SimpleNamespace(
        tower=nn.Module(), tokens=5 * most + 3, device=torch.device("cpu"), patches_dtype=torch.float32
    )
    backbone.tower.positions, backbone._patches = torch.zeros(1, 5, 3), patches
    backbone._ready = lambda pixels: Backbone._ready(backbone, pixels)
    return backbone


@given(frames=st.integers(0, 300), most=st.integers(1, 80))
def test_passes_are_few_and_balanced(frames: int, most: int) -> None:
    seen: list[Tensor] = []
    numbered = torch.arange(float(frames)).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)
    out = Backbone.encode(counted(most, seen), numbered)
    sizes = [len(part) for part in seen]
    assert torch.equal(out[:, 0, 0], torch.arange(float(frames)))  # each frame once, in order
    assert max(sizes) <= most and max(sizes) - min(sizes) <= 1
    assert len(sizes) == max(1, -(-frames // most))  # no more passes than are needed


def test_sixty_four_frames_are_twice_thirty_two() -> None:
    seen: list[Tensor] = []
    Backbone.encode(counted(63, seen), torch.zeros(64, 3, 2, 2))
    assert [len(part) for part in seen] == [32, 32]
