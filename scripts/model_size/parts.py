"""Parameters and bytes of a model by part, counted on the meta device: nothing is loaded, no memory is taken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import nn

from sevila import build, schema
from sevila.checkpoints.architecture import Random, outline
from sevila.checkpoints.timm import VISION, TimmVision
from sevila.model.backbone import Backbone, assemble_backbone


@dataclass(frozen=True)
class Part:
    """One part of the model; `group` is backbone, localizer, answerer or spare."""

    group: str
    name: str
    parameters: int
    bytes: dict[str, int]  # by dtype

    @classmethod
    def of(cls, group: str, name: str, parameters: Iterable[nn.Parameter]) -> Part:
        size: Counter[str] = Counter()
        count = 0
        for parameter in parameters:
            count += parameter.numel()
            size[str(parameter.dtype).removeprefix("torch.")] += parameter.numel() * parameter.element_size()
        return cls(group, name, count, dict(size))


class Shapes(Random):
    """Sizes alone: a part without weights stays without."""

    def fill(self, module: nn.Module, what: str, remedy: str) -> None:
        return None


def parts(config: schema.Base) -> list[Part]:
    """The backbone, the two heads, and the zero-shot head that the backbone keeps to begin others with."""
    backbone = _outlined(config)
    rows = [
        Part.of("backbone", "vision tower", backbone.tower.parameters()),
        Part.of("backbone", "language model", backbone.language.parameters()),
    ]
    head = backbone.zeroshot
    for group in ("localizer", "answerer"):
        rows += [
            Part.of(group, "layer norm", head.norm.parameters()),
            Part.of(group, "queries", [head.queries]),
            Part.of(group, "Q-Former", head.qformer.parameters()),
            Part.of(group, "projection", head.projection.parameters()),
        ]
    return [*rows, Part.of("spare", "zero-shot head", head.parameters())]


def _outlined(config: schema.Base) -> Backbone:
    weights, dtype, nowhere = Shapes(), build.DTYPES[build.resolved(config).precision], torch.device("meta")
    sizes = weights.architecture(config.model.source)
    vision = schema.named("vision", config.vision, VISION)
    if isinstance(vision, TimmVision):
        vision = replace(vision, file=None)
    tower = vision.tower(sizes.vision_config.hidden_size, weights, dtype, nowhere)
    return assemble_backbone(outline(sizes).to(dtype), None, config.model.source, tower=tower)


def summary(rows: list[Part]) -> dict[str, Any]:
    """The same as JSON: the parts, and what follows from them. The spare head is in the bytes, not in the model."""
    model = sum(row.parameters for row in rows if row.group != "spare")
    head = sum(row.parameters for row in rows if row.group == "localizer")
    size: Counter[str] = Counter()
    for row in rows:
        size.update(row.bytes)
    return {
        "parts": [asdict(row) for row in rows],
        "parameters": model,
        "trainable": head,
        "trainable_percent": round(100 * head / model, 2),
        "bytes": dict(size),
    }
