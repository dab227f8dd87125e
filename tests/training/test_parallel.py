from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sevila.training import checkpoint
from sevila.training.device import make_accelerator


@pytest.mark.slow
def test_two_processes_do_what_one_does_with_the_whole_batch(toy_parallel, torchrun, tmp_path):
    """Gradients, and the logged averages, are means over the processes; the first one's weights start."""
    torchrun(str(Path(__file__).with_name("toy_parallel.py")), str(tmp_path / "two"))
    two = torch.load(tmp_path / "two/result.pt", weights_only=True)
    task, records = toy_parallel.run(tmp_path / "one", make_accelerator("cpu"))
    for name, tensor in task.head.state_dict().items():
        assert torch.allclose(two["head"][name], tensor, rtol=0, atol=1e-6), name
    assert [r["step"] for r in two["records"]] == [r["step"] for r in records] == [2, 3, 4, 6, 6]
    assert [r["train/loss"] for r in two["records"] if "lr" in r] == pytest.approx(
        [r["train/loss"] for r in records if "lr" in r], rel=1e-5
    )
    assert two["records"][0]["train/rank"] == 0.5
    last = checkpoint.find(tmp_path / "two", "last")
    assert len(torch.load(last / "training.pt", weights_only=True)["rngs"]) == 2
