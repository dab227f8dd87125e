"""From a selector's name and parameters, as a config gives them, to the selector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sevila.schema import named
from sevila.selection.base import Selector
from sevila.selection.simple import LocalizerTopK, Oracle, Random, Uniform
from sevila.selection.stored import Stored

SELECTORS: dict[str, type[Selector]] = {
    "localizer": LocalizerTopK,
    "uniform": Uniform,
    "random": Random,
    "oracle": Oracle,
    "stored": Stored,
}


def build(name: str, params: Mapping[str, Any]) -> Selector:
    """The selector `name` with `params`. Raises UserError for an unknown name, parameter or wrong value."""
    return named("selector", {"name": name, **params}, SELECTORS)
