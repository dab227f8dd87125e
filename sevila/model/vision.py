"""The frozen vision tower: transformers' own, which comes with the BLIP-2 (timm's EVA: sevila.checkpoints.timm).

A tower gives the tokens of the last block, CLS first, without a final norm (each head has a layer norm of its own).
Pictures of another size than the tower's get their position embeddings interpolated, bicubically.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.blip_2.modeling_blip_2 import Blip2VisionModel


class Tower(Protocol):
    """What a backbone asks of its vision tower, a torch module."""

    model: nn.Module
    image_size: int
    patch: int

    @property
    def positions(self) -> Tensor:
        """The learned position embeddings [1, P, Dv], CLS first."""

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """All tensors under the names that transformers' tower gives them."""

    def __call__(self, pixels: Tensor) -> Tensor:
        """Normalised pixels [N, 3, S, S] in the tower's dtype -> patches [N, P, Dv]."""


class Blip2Tower(nn.Module):
    """transformers' tower."""

    def __init__(self, model: Blip2VisionModel) -> None:
        super().__init__()
        self.model = model
        self.image_size, self.patch = model.config.image_size, model.config.patch_size

    @property
    def positions(self) -> Tensor:
        return self.model.embeddings.position_embedding

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        yield from self.model.state_dict().items()

    def forward(self, pixels: Tensor) -> Tensor:
        hidden = self.model.embeddings(pixels, interpolate_pos_encoding=True)
        return self.model.encoder(inputs_embeds=hidden).last_hidden_state


class CompiledTower(nn.Module):
    """A tower behind torch.compile, which runs on a few numbers of frames only: each one costs a compilation.

    Numbers are filled up with blank frames: to a power of two, above `STEP` to a multiple of it. Results differ from
    the plain tower's by rounding.
    """

    STEP = 32

    def __init__(self, tower: Tower) -> None:
        super().__init__()
        self.tower = tower
        self.tower.compile(dynamic=False)

    @property
    def model(self) -> nn.Module:
        return self.tower.model

    @property
    def image_size(self) -> int:
        return self.tower.image_size

    @property
    def patch(self) -> int:
        return self.tower.patch

    @property
    def positions(self) -> Tensor:
        return self.tower.positions

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        return self.tower.weights()

    def forward(self, pixels: Tensor) -> Tensor:
        frames = len(pixels)
        full = 1 << (frames - 1).bit_length() if frames <= self.STEP else -(-frames // self.STEP) * self.STEP
        blank = pixels.new_zeros((full - frames, *pixels.shape[1:]))
        return self.tower(torch.cat([pixels, blank]))[:frames]


def resized(positions: Tensor, grid: tuple[int, int]) -> Tensor:
    """Position embeddings [1, 1 + side², Dv] for a grid of another size: [1, 1 + rows·columns, Dv]."""
    side = int((positions.shape[1] - 1) ** 0.5)
    if tuple(grid) == (side, side):
        return positions
    square = positions[:, 1:].unflatten(1, (side, side)).permute(0, 3, 1, 2)
    square = F.interpolate(square, size=tuple(grid), mode="bicubic", align_corners=False)
    return torch.cat([positions[:, :1], square.flatten(2).transpose(1, 2)], dim=1)
