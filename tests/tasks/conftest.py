"""The tiny model over the small drawn world."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sevila import api, build, schema
from sevila.benchmarks.synthetic import Synthetic
from sevila.config import load
from sevila.data.dataset import VideoSource
from sevila.data.store import Store
from sevila.data.video import CachedVideos
from sevila.model.sevila import SeViLA
from sevila.selection.rules import LocalizerTopK, Selector
from sevila.tasks.chain import ForwardChain


@pytest.fixture(autouse=True)
def _quiet(one_thread: None) -> None: ...


@pytest.fixture(scope="session")
def world(small_world: list[str]) -> Synthetic:
    params = dict(load("eval", ["+exp=synthetic_eval", *small_world]).data)
    del params["name"]
    return Synthetic(**params)


@pytest.fixture(scope="session")
def tiny() -> SeViLA:
    """The tiny model with noise on its eyes and heads: frames and heads tell apart, whatever it has learned."""
    model = api.SeViLA.load(dtype=torch.float32).model
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for part in (model.backbone.vision, model.localizer.head, model.answerer.head):
            for parameter in part.parameters():
                parameter.add_(0.04 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.fixture
def make_chain(world: Synthetic, tiny: SeViLA) -> Callable[..., ForwardChain]:
    """chain(selector, n) over the small world: by default the Localizer's 3 best of 8 frames."""

    def chain(selector: Selector | None = None, n: int = 8) -> ForwardChain:
        source = VideoSource(CachedVideos(tiny.backbone.image_size), world.folder(), n)
        return ForwardChain(tiny, selector or LocalizerTopK(3), source)

    return chain


@pytest.fixture
def open_tiny_store(tmp_path: Path, tiny: SeViLA) -> Callable[..., Store]:
    """open_tiny_store(dtype) opens the test's store for the tiny model as it is now, as a run does."""

    def store(dtype: str | None = None) -> Store:
        videos = CachedVideos(tiny.backbone.image_size)
        return build.store(schema.Store(str(tmp_path / "store"), dtype=dtype), tiny.backbone, videos)

    return store
