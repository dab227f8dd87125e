"""What trained selectors have in common: sizes that are stored with the weights, and the two things they do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from sevila.errors import UserError


@dataclass(frozen=True)
class NetworkConfig:
    """The name of a network and the arguments it was built with: enough to build it again."""

    name: str
    sizes: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, **self.sizes}


class Network(Protocol):
    """A module that scores frames and, in training, picks k of them so that gradients reach the scores."""

    config: NetworkConfig

    def __call__(self, frames: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        """Embeddings of frames [B, n, D] and question [B, D], mask [B, n] -> scores [B, n], -inf at padding.

        In float32, in float64 where the embeddings are.
        """
        ...

    def anneal(self, done: float) -> None:
        """Change what changes in the course of a training, of which the share `done` (0 to below 1) is behind."""
        ...

    def pick(self, scores: Tensor, k: int) -> Tensor:
        """Scores [B, n] -> k rows of weights over the frames, in time order: [B, k, n]; k frames there must be."""
        ...


def check_sizes(network: str, **sizes: float) -> None:
    """UserError for a size that is not above 0."""
    for name, value in sizes.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise UserError(f"{network}: {name}={value!r}: must be above 0")
