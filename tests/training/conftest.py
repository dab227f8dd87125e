from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """fsync guards against a power cut, which no test makes; it takes most of a toy run's time."""
    monkeypatch.setattr("os.fsync", lambda handle: None)


@pytest.fixture(scope="session")
def toy() -> ModuleType:
    """The module toy.py beside this file."""
    return load("toy")


@pytest.fixture(scope="session")
def toy_parallel() -> ModuleType:
    """The module toy_parallel.py beside this file."""
    return load("toy_parallel")


def load(name: str) -> ModuleType:
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"sevila_{name}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
