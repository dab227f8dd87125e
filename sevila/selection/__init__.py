"""Which k of the T sampled frames the Answerer reads: who scores frames (a scorer), by which rule (a selector).

rules     scores -> positions of k keyframes: SeViLA's top-k, uniform, random, oracle, AKS, BOLT;
          keyframes or spans that stand in a file
scorers   the Localizer and CLIP as scorers, and `choose_keyframes`, which joins scorer and rule
trained   scorers that are trained by the answers
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sevila.model.sevila import SeViLA
from sevila.schema import named
from sevila.selection.rules import (
    AdaptiveSplit,
    InverseTransform,
    LocalizerTopK,
    Oracle,
    Random,
    Selector,
    Stored,
    Uniform,
    Windows,
)
from sevila.selection.scorers import (
    CLIPScorer,
    JointLocalizerScorer,
    LocalizerScorer,
    LongImageScorer,
    Scorer,
)
from sevila.selection.trained import atp, perturbed

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
