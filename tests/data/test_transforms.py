"""Normalisation and the training crop, against the official pipeline's tensors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch.nn import functional

from sevila.data.transforms import (
    crop_and_resize,
    random_box,
    training_transform,
)
from sevila.model.pixels import CLIP_MEAN, CLIP_STD, normalize


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def golden(shared: Path) -> dict[str, torch.Tensor]:
    """raw, eval and train as [T, 3, H, W]."""
    tensors = load_file(shared / "golden/model64/aux_tensors.safetensors")
    return {key: tensors[f"transform.{key}"].transpose(0, 1) for key in ("raw", "eval", "train")}


def test_constants_are_the_official_ones(shared: Path) -> None:
    official = json.loads((shared / "golden/model64/aux.json").read_text())["transform"]
    assert list(CLIP_MEAN) == official["mean"]
    assert list(CLIP_STD) == official["std"]


def test_evaluation_equals_the_official_transform(golden: dict[str, torch.Tensor]) -> None:
    torch.testing.assert_close(normalize(golden["raw"]), golden["eval"], rtol=0, atol=1e-6)


def test_the_box_of_a_seed_is_torchvisions(shared: Path) -> None:
    official = json.loads((shared / "golden/model64/aux.json").read_text())["transform"]
    assert random_box(40, 40, seeded(official["train_torch_seed"])) == tuple(official["train_crop_ijhw"])


def test_training_equals_the_official_transform_where_nothing_overshoots(
    golden: dict[str, torch.Tensor],
) -> None:
    ours = normalize(training_transform(golden["raw"], 32, seeded(9)))
    top, left, height, width = 0, 4, 39, 34
    part = golden["raw"][..., top : top + height, left : left + width].float()
    unclamped = functional.interpolate(part, size=(32, 32), mode="bicubic", align_corners=False)
    inside = (unclamped >= 0) & (unclamped < 256)
    assert (~inside).sum() == 101 + (unclamped >= 256).sum() > 150  # the golden case does overshoot
    torch.testing.assert_close(ours[inside], golden["train"][inside], rtol=0, atol=1e-6)
    over = unclamped >= 256
    white = ((1 - torch.tensor(CLIP_MEAN)) / torch.tensor(CLIP_STD)).view(3, 1, 1).expand_as(ours)
    torch.testing.assert_close(ours[over], white[over], rtol=0, atol=1e-6)  # clamped, not wrapped round


def test_normalised_black_and_white() -> None:
    pixels = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 1, 1)
    black, white = normalize(pixels).flatten(1)
    torch.testing.assert_close(black, torch.tensor([-1.792263, -1.752097, -1.480220]), rtol=0, atol=1e-5)
    torch.testing.assert_close(white, torch.tensor([1.930336, 2.074884, 2.145897]), rtol=0, atol=1e-5)


def test_overshoot_is_clamped() -> None:
    step = torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
    step[..., 2:] = 255
    row = crop_and_resize(step, (0, 0, 4, 4), 8)[0, 0, 0].tolist()
    assert row[0] == 0 and row[-1] == 255
    assert row == sorted(row)  # a value that wrapped would jump


def test_one_crop_serves_all_frames() -> None:
    frame = torch.randint(0, 256, (1, 3, 24, 24), dtype=torch.uint8, generator=seeded(1))
    out = training_transform(frame.expand(5, 3, 24, 24), 24, seeded(2))
    assert torch.equal(out, out[:1].expand_as(out))
    assert not torch.equal(out[0], frame[0])


@given(seed=st.integers(0, 2**32), height=st.integers(8, 300), width=st.integers(8, 300))
def test_a_box_lies_in_the_picture(seed: int, height: int, width: int) -> None:
    top, left, box_height, box_width = random_box(height, width, seeded(seed))
    assert min(top, left) >= 0 and top + box_height <= height and left + box_width <= width
    assert box_height > 0 and box_width > 0


@given(seed=st.integers(0, 2**32))
def test_a_box_keeps_half_the_picture_and_nearly_its_shape(seed: int) -> None:
    _, _, height, width = random_box(224, 224, seeded(seed))
    assert 0.49 <= height * width / 224**2 <= 1
    assert 0.74 <= width / height <= 1.35


@pytest.mark.parametrize(
    ("height", "width", "box"),
    [(1000, 100, (433, 0, 133, 100)), (100, 1000, (0, 433, 100, 133))],
)
def test_a_strip_gives_its_middle(height: int, width: int, box: tuple[int, int, int, int]) -> None:
    assert random_box(height, width, seeded(0)) == box  # no box of half the area fits: the central one


def test_drawing_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    random_box(224, 224, seeded(3))
    assert torch.equal(before, torch.get_rng_state())
