"""Selectors: which k of the n sampled frames the Answerer reads."""

from sevila.selection.base import Candidates, Selector, spread
from sevila.selection.registry import SELECTORS, build
from sevila.selection.simple import LocalizerTopK, Oracle, Random, Uniform

__all__ = [
    "SELECTORS",
    "Candidates",
    "LocalizerTopK",
    "Oracle",
    "Random",
    "Selector",
    "Uniform",
    "build",
    "spread",
]
