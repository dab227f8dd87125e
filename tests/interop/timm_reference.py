"""Run timm's EVA tower on the weights and pictures that `lavis_reference.py` stored.

    PYTHONPATH=.venv-interop/timm .venv-interop/bin/python tests/interop/timm_reference.py OUT

Each OUT/CASE/ gets timm.safetensors: `vision`, the tower's states before its final norm, float64. LAVIS's names must
load into it as they are, with `ln_vision` as its final norm; position embeddings come as LAVIS interpolated them
(timm's own resampling smooths, LAVIS's and this library's do not).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from foreign import declare_torchvision_ops
from safetensors.torch import load_file, save_file
from torch import Tensor

declare_torchvision_ops()

import timm  # noqa: E402

MODEL = "eva_giant_patch14_clip_224"


@torch.no_grad()
def make(folder: Path) -> None:
    """One case's states."""
    sizes = json.loads((folder / "case.json").read_text())["vision"]
    model = timm.create_model(MODEL, num_classes=0, **sizes).double().eval()
    given = load_file(folder / "lavis.safetensors")
    weights: dict[str, Tensor] = {}
    for name, tensor in load_file(folder / "weights.safetensors").items():
        for theirs, ours in (("visual_encoder.", ""), ("ln_vision.", "norm.")):
            if name.startswith(theirs):
                weights[ours + name.removeprefix(theirs)] = tensor
    model.load_state_dict(weights | {"pos_embed": given["positions"]})
    states: list[Tensor] = []
    model.norm.register_forward_pre_hook(lambda _, inputs: states.append(inputs[0]))
    model.forward_features(given["pixels"].flatten(0, 1))
    save_file({"vision": states[0].contiguous()}, folder / "timm.safetensors")


def main() -> None:
    folders = sorted(path.parent for path in Path(sys.argv[1]).glob("*/case.json"))
    if not folders:
        raise SystemExit(f"{sys.argv[1]}: holds no case; run lavis_reference.py first")
    for folder in folders:
        make(folder)
    print(f"timm {timm.__version__}: {len(folders)} towers")


if __name__ == "__main__":
    main()
