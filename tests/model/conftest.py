"""The golden outputs of the official code, through the module that `tests/compare_official.py` uses."""

from __future__ import annotations

from pathlib import Path

import pytest

from official.golden import Golden


@pytest.fixture(scope="session")
def golden(shared: Path) -> Golden:
    """Weights, inputs and outputs, in float64, which does not depend on the processor."""
    return Golden(shared / "golden" / "model64", shared / "t5_tokenizer")
