"""The tiny model, made to tell frames apart, and some frames to look at."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sevila import api
from sevila.data.records import Question
from sevila.data.video import Frames
from sevila.model.sevila import EncodedVideo, SeViLA


@pytest.fixture(scope="session")
def sevila() -> SeViLA:
    model = api.SeViLA.load(dtype=torch.float32).model
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for part in (model.backbone.vision, model.localizer.head, model.answerer.head):
            for parameter in part.parameters():
                parameter.add_(0.04 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.fixture(scope="session")
def frames(sevila: SeViLA) -> Frames:
    """Ten frames of noise."""
    size, generator = sevila.backbone.image_size, torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (10, 3, size, size), generator=generator, dtype=torch.uint8)
    return Frames(pixels, tuple(range(0, 100, 10)), tuple(float(i) for i in range(10)))


@pytest.fixture(scope="session")
def patches(sevila: SeViLA, frames: Frames) -> Tensor:
    return sevila.backbone.encode(frames.pixels)


@pytest.fixture(scope="session")
def encoded(frames: Frames, patches: Tensor) -> EncodedVideo:
    return EncodedVideo(frames.indices, frames.times, patches)


@pytest.fixture(scope="session")
def questions() -> list[Question]:
    return [
        Question("1", "v", "what does the red star hold?", ("a cup", "a key")),
        Question("2", "v", "who enters?", ("the circle", "the square", "the star")),
        Question("3", "v", "what does the blue circle hold?", ("a cup", "a key")),
    ]


@pytest.fixture
def learns() -> Callable[[nn.Module, int], tuple[float, float]]:
    """learns(network, rounds) trains a selector network on a small made problem."""
    return _learns


def _learns(network: nn.Module, rounds: int) -> tuple[float, float]:
    """Of 6 frames one holds what the question names, told by a reader of the picked frames' values alone.

    Returns the share of the questions whose best score is the informative frame's, before and after.
    """
    generator = torch.Generator().manual_seed(3)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)

    def draw(rows: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        kind = torch.randint(0, 3, (rows,), generator=generator)
        kinds = torch.stack([torch.randint(0, 2, (rows,), generator=generator) for _ in range(6)], dim=1)
        others = (kind[:, None] + 1 + kinds) % 3  # never the question's kind
        place = torch.randint(0, 6, (rows,), generator=generator)
        others[torch.arange(rows), place] = kind
        frames = functional.one_hot(others, 8).float() + 0.1 * torch.randn(rows, 6, 8, generator=generator)
        return frames, functional.one_hot(kind + 4, 8).float(), place, (others == kind[:, None]).float()

    def hits() -> float:
        network.eval()
        frames, text, place, _ = draw(200)
        with torch.no_grad():
            scores = network(frames, text, torch.ones(200, 6, dtype=torch.bool))
        network.train()
        return float((scores.argmax(-1) == place).float().mean())

    before = hits()
    for _ in range(rounds):
        frames, text, _, values = draw(32)
        weights = network.pick(network(frames, text, torch.ones(32, 6, dtype=torch.bool)), 1)
        loss = -torch.einsum("bkn,bn->b", weights, values).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return before, hits()
