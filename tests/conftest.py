"""What every test may use; and no test reaches the network."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports huggingface_hub

# The same examples on every machine and every run; training code is too slow for a deadline an example.
settings.register_profile("sevila", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("sevila")

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with reference outputs of the published system: SEVILA_SHARED, or `../shared`.

    Without it the test is skipped and says so; with SEVILA_REQUIRE_SHARED=1 it fails, for where the reference
    ought to be nothing is skipped in silence.
    """
    folder = Path(os.environ.get("SEVILA_SHARED") or REPOSITORY.parent / "shared")
    if (folder / "golden").is_dir():
        return folder
    reason = f"no reference outputs at {folder}: set SEVILA_SHARED to the folder that holds golden/"
    if os.environ.get("SEVILA_REQUIRE_SHARED") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
