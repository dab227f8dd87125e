"""From a checked configuration to objects: the one place, beside the entry points, that sees configurations."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from accelerate import Accelerator

from sevila import schema
from sevila.data.benchmarks.base import Benchmark
from sevila.data.benchmarks.synthetic import Synthetic
from sevila.data.video import CachedVideos
from sevila.errors import UserError
from sevila.model import backbone as backbones
from sevila.model.scoring import SCORING
from sevila.model.sevila import SeViLA
from sevila.selection.registry import SELECTORS
from sevila.tasks.chain import ForwardChain
from sevila.tasks.source import VideoSource
from sevila.training.device import make_accelerator
from sevila.weights.heads import ZEROSHOT, find_head, load_head

BENCHMARKS: dict[str, Callable[..., Benchmark]] = {"synthetic": Synthetic.build}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
MIB = 2**20


def accelerator(config: schema.Base) -> Accelerator:
    """Device and precision of the run."""
    return make_accelerator(config.device, config.precision)


def check_heads(config: schema.Base) -> None:
    """UserError for a head that is not there, before anything slow begins."""
    for role in ("localizer", "answerer"):
        place = getattr(config, role)
        if place != ZEROSHOT:
            find_head(place, role)


def model(config: schema.Base, device: torch.device) -> SeViLA:
    """The frozen backbone and the two heads that `localizer` and `answerer` name."""
    check_heads(config)
    backbone = backbones.load(
        config.model.source, device, DTYPES[config.precision], text_tokens=config.model.max_text_tokens
    )
    return SeViLA(
        backbone,
        load_head(config.localizer, "localizer", backbone),
        load_head(config.answerer, "answerer", backbone),
        schema.named("scoring", config.scoring, SCORING),
    )


def benchmark(config: schema.Experiment) -> Benchmark:
    """The data set; the synthetic world is drawn now if it is not there yet."""
    return schema.named("data", config.data, BENCHMARKS)


def selector(node: dict[str, Any], frames: int) -> Any:
    """The selector, once it is known that its k fits the number of sampled frames."""
    made = schema.named("selector", node, SELECTORS)
    if made.k > frames:
        raise UserError(f"selector.k={made.k}: only frames.n={frames} frames are sampled; choose k at most that")
    return made


def videos(config: schema.Experiment, sevila: SeViLA) -> CachedVideos:
    """The decoder at the model's picture size."""
    return CachedVideos(config.model.image_size or sevila.backbone.image_size, config.frames.cache_mb * MIB)


def chain(config: schema.Experiment, sevila: SeViLA, data: Benchmark) -> ForwardChain:
    """The forward chain over the data set's videos."""
    source = VideoSource(videos(config, sevila), data.videos(), config.frames.n, config.frames.workers)
    return ForwardChain(sevila, selector(config.selector, config.frames.n), source)


def warn_of_truncation(sevila: SeViLA) -> None:
    """Say on stderr how many prompts were too long: what they lose is their end, where the instruction stands."""
    cut = len(sevila.backbone.truncated)
    if cut:
        limit = sevila.backbone.text_tokens
        print(
            f"sevila: warning: {cut} prompts were cut after {limit} tokens and lost their instruction; "
            f"model.max_text_tokens={2 * limit} would keep more",
            file=sys.stderr,
        )
