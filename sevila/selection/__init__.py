"""Which k of the n sampled frames the Answerer reads: who scores frames (a scorer), by which rule (a selector)."""

from sevila.selection.aks import AdaptiveSplit
from sevila.selection.base import Candidates, Selector, spread
from sevila.selection.bolt import InverseTransform
from sevila.selection.choose import choose_keyframes
from sevila.selection.registry import SCORERS, SELECTORS, build, build_scorer
from sevila.selection.scorers import Scorer
from sevila.selection.simple import LocalizerTopK, Oracle, Random, Uniform
from sevila.selection.windows import Windows

__all__ = [
    "SCORERS",
    "SELECTORS",
    "AdaptiveSplit",
    "Candidates",
    "InverseTransform",
    "LocalizerTopK",
    "Oracle",
    "Random",
    "Scorer",
    "Selector",
    "Uniform",
    "Windows",
    "build",
    "build_scorer",
    "choose_keyframes",
    "spread",
]
