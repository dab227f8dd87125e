"""The golden outputs of the official code, through the module that `scripts/compare_official.py` uses."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from official.golden import Golden


@pytest.fixture(scope="session")
def golden(shared: Path) -> Golden:
    """Weights, inputs and outputs, in float64, which does not depend on the processor."""
    return Golden(shared / "golden" / "model64", shared / "t5_tokenizer")
