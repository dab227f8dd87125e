"""From the name and parameters that a config gives to a selector (a rule) or a scorer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sevila.model.sevila import SeViLA
from sevila.schema import named
from sevila.selection.aks import AdaptiveSplit
from sevila.selection.base import Selector
from sevila.selection.bolt import InverseTransform
from sevila.selection.clip import CLIPScorer
from sevila.selection.scorers import JointLocalizerScorer, LocalizerScorer, LongImageScorer, Scorer
from sevila.selection.simple import LocalizerTopK, Oracle, Random, Uniform
from sevila.selection.stored import Stored
from sevila.selection.trained import atp, perturbed
from sevila.selection.windows import Windows

SELECTORS: dict[str, type[Selector]] = {
    "localizer": LocalizerTopK,
    "topk": LocalizerTopK,
    "uniform": Uniform,
    "random": Random,
    "oracle": Oracle,
    "stored": Stored,
    "aks": AdaptiveSplit,
    "bolt": InverseTransform,
    "windows": Windows,
}

SCORERS: dict[str, Callable[..., Scorer]] = {
    "localizer": LocalizerScorer,
    "localizer_joint": JointLocalizerScorer,
    "localizer_long_image": LongImageScorer,
    "clip": CLIPScorer,
    "atp": atp,
    "perturbed": perturbed,
}


def build(name: str, params: Mapping[str, Any]) -> Selector:
    """The selector `name` with `params`. Raises UserError for an unknown name, parameter or wrong value."""
    return named("selector", {"name": name, **params}, SELECTORS)


def build_scorer(node: Mapping[str, Any], sevila: SeViLA) -> Scorer:
    """The scorer that a config node names, over the model. UserError as for selectors, and for a missing file."""
    return named("scorer", node, SCORERS, sevila=sevila)
