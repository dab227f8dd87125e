"""The vision tower: pictures to patches, whichever library has it.

A tower gives the tokens of the last block, CLS first, without a final norm: each head has a layer norm of its own.
Pictures of another size than the tower's get their position embeddings interpolated, bicubically.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from transformers.models.blip_2.modeling_blip_2 import Blip2VisionModel


class Tower(nn.Module):
    """A frozen vision tower around a `model` of some library, for pictures of `image_size`, `patch` pixels a patch."""

    model: Any  # a module whose parts only its library knows
    image_size: int
    patch: int

    @property
    def positions(self) -> Tensor:
        """The learned position embeddings [1, P, Dv], CLS first."""
        raise NotImplementedError

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """All tensors, of any shape, under the names that transformers' tower gives them."""
        raise NotImplementedError

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pixels [N, 3, S, S] in the tower's dtype -> patches [N, P, Dv]."""
        raise NotImplementedError


class Blip2Tower(Tower):
    """transformers' own, which comes with the BLIP-2 (timm's EVA: sevila.checkpoints.timm)."""

    def __init__(self, model: Blip2VisionModel) -> None:
        super().__init__()
        self.model = model
        sizes: Any = model.config
        self.image_size, self.patch = sizes.image_size, sizes.patch_size

    @property
    def positions(self) -> Tensor:
        """[1, P, Dv], CLS first."""
        return self.model.embeddings.position_embedding

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Tensors of any shape, under their own names."""
        yield from self.model.state_dict().items()

    def forward(self, pixels: Tensor) -> Tensor:
        """[N, 3, S, S] -> [N, P, Dv]."""
        hidden = self.model.embeddings(pixels, interpolate_pos_encoding=True)
        return self.model.encoder(inputs_embeds=hidden).last_hidden_state


def resized(positions: Tensor, grid: tuple[int, int]) -> Tensor:
    """Position embeddings [1, 1 + side², Dv] for a grid of another size: [1, 1 + rows·columns, Dv]."""
    side = int((positions.shape[1] - 1) ** 0.5)
    if tuple(grid) == (side, side):
        return positions
    square = rearrange(positions[:, 1:], "1 (rows columns) d -> 1 d rows columns", rows=side)
    square = F.interpolate(square, size=tuple(grid), mode="bicubic", align_corners=False)
    return torch.cat([positions[:, :1], rearrange(square, "1 d rows columns -> 1 (rows columns) d")], dim=1)
