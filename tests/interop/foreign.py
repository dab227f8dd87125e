"""LAVIS and timm beside a torch that their torchvision was not built for."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import torch


def declare_torchvision_ops() -> None:
    """Where torchvision's compiled part cannot be loaded (a CUDA build beside a CPU torch), declare the two ops
    that its Python part looks for at import. Nothing here calls them."""
    for library in _folder("torchvision").glob("_C*.so"):
        try:
            torch.ops.load_library(str(library))
        except OSError:
            for op in ("nms", "qnms"):
                torch.library.define(f"torchvision::{op}", "(Tensor dets, Tensor scores, float threshold) -> Tensor")


def enter_lavis() -> None:
    """Make `lavis` and `lavis.models` importable without running their __init__, which import every model there."""
    folder = _folder("lavis")
    for name, place in (("lavis", folder), ("lavis.models", folder / "models")):
        module = ModuleType(name)
        module.__path__ = [str(place)]
        sys.modules[name] = module
    # LAVIS's registry of models looks for this name in the package
    sys.modules["lavis.models"].BaseModel = importlib.import_module("lavis.models.base_model").BaseModel


def _folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise SystemExit(f"{package} is not installed: make test-interop sets up the environment that has it")
    return Path(next(iter(spec.submodule_search_locations or ())))
