"""The vision tower: positions, compilation, and a torchvision that does not fit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from sevila import build
from sevila.checkpoints import backbone as backbones
from sevila.config import load
from sevila.errors import UserError
from sevila.model.torchvision_check import check_torchvision
from sevila.model.tower import resized

REPOSITORY = Path(__file__).resolve().parents[2]


def test_positions_of_the_own_size_are_not_touched() -> None:
    table = torch.randn(1, 10, 4)
    assert resized(table, (3, 3)) is table
    wide = resized(table, (2, 5))
    assert wide.shape == (1, 11, 4) and torch.equal(wide[:, 0], table[:, 0])


class Recording(nn.Module):
    """A tower that doubles every pixel and notes how many frames it was given."""

    image_size = 4

    def __init__(self) -> None:
        super().__init__()
        self.model, self.seen, self.compiled = nn.Identity(), [], []

    def compile(self, **options: object) -> None:
        self.compiled.append(options)

    @property
    def positions(self) -> torch.Tensor:
        return torch.zeros(1, 5, 3)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        self.seen.append(len(pixels))
        return 2 * pixels.flatten(1)[:, None]


def test_a_compiled_tower_meets_few_numbers_of_frames() -> None:
    backbone, tower = backbones.load(), Recording()
    backbone.tower = tower
    backbone.encode(torch.rand(3, 3, 4, 4))
    assert tower.seen == [3] and not backbone.compiled
    backbone.compile_tower()
    assert tower.compiled == [{"dynamic": False}] and backbone.compiled
    for frames in (1, 3, 4, 20, 32, 33, 75):
        pixels = torch.rand(frames, 3, 4, 4)
        assert torch.equal(backbone.encode(pixels), 2 * pixels.flatten(1)[:, None])
    assert tower.seen[1:] == [1, 4, 4, 32, 32, 64, 96]


def test_a_picture_smaller_than_a_patch() -> None:
    with pytest.raises(UserError, match=r"^model\.image_size=15: smaller than a patch, which has 16 pixels a side$"):
        build.model(load("eval", ["model.image_size=15"]), torch.device("cpu"))


def broken_torchvision(folder: Path) -> Path:
    """A package in the place of torchvision, which fails as one that was built for another torch."""
    (folder / "torchvision").mkdir()
    file = folder / "torchvision" / "__init__.py"
    file.write_text('raise RuntimeError("operator torchvision::nms does not exist")')
    return file


def test_a_torchvision_that_does_not_fit_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = broken_torchvision(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    with pytest.raises(UserError, match=r"^torchvision cannot be imported \(operator torchvision::nms does not exist"):
        check_torchvision()
    file.write_text("works = True")
    check_torchvision()


def test_it_is_told_before_transformers_is_imported(tmp_path: Path) -> None:
    """Whichever module of the checkpoints comes first."""
    broken_torchvision(tmp_path)
    lines = [
        "import sys",
        "from importlib import import_module",
        "from sevila.errors import UserError",
        "for name in ('architecture', 'backbone', 'blip2_folder', 'conversion', 'heads', 'lavis', 'timm'):",
        "    try: import_module(f'sevila.checkpoints.{name}')",
        "    except UserError as error: print(str(error).partition(' (')[0])",
        "print('transformers' in sys.modules)",
    ]
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{REPOSITORY}"}
    command = [sys.executable, "-c", "\n".join(lines)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.splitlines() == ["torchvision cannot be imported"] * 7 + ["False"]
