"""Every path of the library on a CUDA device that computes nothing, at the size of ViT-g and Flan-T5-XL.

    python tests/fake_cuda                       what all paths count, a line each (minutes)
    python tests/fake_cuda forward --places      ... and where in the package the host waits
    python tests/fake_cuda --root OTHER/CHECKOUT

A wait is the host's for the device: `.item()`, `.tolist()`, `.cpu()`, `float(tensor)`, a mask of the device as index,
`nonzero`. A blocking copy goes to the device without `non_blocking=True`, or from memory that is not page-locked: the
host waits there too, until the device has done all that it was given. `torch.tensor(list, device=...)`, a list as index
of a tensor on the device, and `.to(device)` are such copies.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fake_cuda import guard
from fake_cuda.faults import FAULTS
from fake_cuda.paths import PATHS

pytestmark = pytest.mark.slow
TOOL = Path(__file__).parent
Counts = dict[str, dict[str, Any]]

# Of each path the waits, and the copies to the device that hold up the host: at most so many. A training's are those
# of one optimiser step, logged.
BOUNDS = {
    # nine questions about a video of 32 frames, three where keyframes vote; one for each of two selectors: the scores
    # are read once a video, and the logits once
    "answer_direct": (2, 0),
    "answer_official": (2, 0),
    "answer_compared": (2, 0),
    "answer_voting": (2, 0),
    "joint_scorer": (2, 0),
    "selectors": (4, 0),
    # nine questions about 32 frames, three in three orders, which are read one after another; one query
    "labels": (1, 0),
    "labels_three_orders": (2, 0),
    "moments": (1, 0),
    "pretrain_evaluation": (1, 0),
    # micro-batches of 8: what the Localizer or the Answerer says of the frames, and the step's numbers
    "pretrain": (1, 0),
    "refine": (2, 0),
    "forward": (2, 0),
    "forward_voting": (2, 0),
    "forward_all_frames": (1, 0),
    "checkpointing": (1, 0),
    "atp": (1, 0),
    "perturbed": (1, 0),
    # the heads, tensor by tensor
    "loading": (260, 520),
    # two videos written, read, and read in part
    "store": (0, 0),
    # the tiny model's checkpoint and head, tensor by tensor
    "saving": (300, 0),
}


@pytest.fixture(scope="session")
def common(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of this test run, the same for all of its processes."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def counts(common: Path) -> Counts:
    """All paths in one process of their own, as the guard must be there before torch; once for all test processes."""
    results = common / "fake_cuda.json"
    with (common / "fake_cuda.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not results.exists():
            try:
                compiled = guard.library(common)
            except guard.Unavailable as why:
                pytest.skip(str(why))
            command = [sys.executable, str(TOOL), "--json", str(results), "--guard", str(compiled.parent), "--faults"]
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            done = subprocess.run(command, capture_output=True, text=True, timeout=900, env=environment)
            assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(results.read_text(encoding="utf-8"))


def told(places: dict[str, int]) -> str:
    return "\n" + "\n".join(f"{number:6}  {place}" for place, number in sorted(places.items(), key=lambda p: -p[1]))


def test_all_paths_are_bounded() -> None:
    assert set(BOUNDS) == set(PATHS) and len(PATHS) == 21


def test_a_loaded_model_leaves_no_spare_head_on_the_device(counts: Counts) -> None:
    """Tower and T5 in bfloat16, two heads in float32, and next to nothing else, at any time."""
    needed = 2 * 3_835_709_440 + 4 * 2 * 106_739_968
    assert needed <= counts["loading"]["peak"] <= 1.001 * needed


@pytest.mark.parametrize("name", BOUNDS)
def test_it_runs_on_one_device(counts: Counts, name: str) -> None:
    """No tensor of the host meets one of the device, and every result is of a dtype that the next step takes."""
    assert "error" not in counts[name], counts[name]
    assert counts[name]["kernels"] > 100


@pytest.mark.parametrize("name", BOUNDS)
def test_the_host_waits_no_more_often_than(counts: Counts, name: str) -> None:
    waits, copies = counts[name]["waits"], counts[name]["copies"]
    assert sum(waits.values()) <= BOUNDS[name][0], told(waits)
    assert sum(copies.values()) <= BOUNDS[name][1], told(copies)


@pytest.mark.parametrize("name", BOUNDS)
def test_nobody_waits_inside_the_layers(counts: Counts, name: str) -> None:
    """Nor in the backward pass."""
    assert not counts[name]["in_layers"], told(counts[name]["in_layers"])


@pytest.mark.parametrize("fault", FAULTS)
def test_a_deliberate_fault_is_shown(counts: Counts, fault: str) -> None:
    """Its path fails, waits inside a layer, or goes above its bound."""
    found, (waits, copies) = counts[fault], BOUNDS[FAULTS[fault].path]
    if "error" in found:
        assert re.search(FAULTS[fault].error, found["error"])
        return
    more = sum(found["waits"].values()) > waits or sum(found["copies"].values()) > copies
    assert not FAULTS[fault].error and (more or found["in_layers"]), found
